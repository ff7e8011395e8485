//! Messages on standard error: one line each, as much as `ARCBOX_NET_LOG` asks for.

use log::{Level, LevelFilter, Metadata, Record};

struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        eprintln!("arcbox-net: {level}: {}", record.args());
    }

    fn flush(&self) {}
}

/// Starts logging; warnings and errors unless the environment says otherwise.
pub(crate) fn init() {
    let level = std::env::var("ARCBOX_NET_LOG")
        .ok()
        .and_then(|text| text.parse().ok());
    log::set_max_level(level.unwrap_or(LevelFilter::Warn));
    // It is set once, here; a second time would be a mistake without consequence.
    let _ = log::set_logger(&Stderr);
}
