//! Turns, medians, and two pinned threads.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// What the command line asks for.
pub struct Options {
    sections: Vec<String>,
    /// What begins with two dashes and is not for every benchmark.
    own: Vec<String>,
    /// How often each contender has its turn.
    pub rounds: usize,
}

impl Options {
    /// Sections by name, `--rounds N`, and options of the benchmark's own: `--name` or `--name=value`.
    pub fn from_args() -> Self {
        Self::with_rounds(15)
    }

    /// The same, with another number of rounds where none is given.
    pub fn with_rounds(rounds: usize) -> Self {
        let mut options = Self {
            sections: Vec::new(),
            own: Vec::new(),
            rounds,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--rounds" => {
                    let rounds = args.next().and_then(|n| n.parse().ok());
                    options.rounds = rounds.unwrap_or(options.rounds).max(1);
                }
                // Cargo passes this to every benchmark.
                "--bench" => {}
                _ if arg.starts_with("--") => options.own.push(arg),
                _ => options.sections.push(arg),
            }
        }
        options
    }

    /// Whether the option `--name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.own.iter().any(|own| own == name)
    }

    /// What stands behind `--name=`.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.own.iter().filter_map(|own| own.strip_prefix(name));
        values.find_map(|rest| rest.strip_prefix('='))
    }

    /// Whether the section was named, or none was.
    pub fn wants(&self, section: &str) -> bool {
        self.sections.is_empty()
            || self
                .sections
                .iter()
                .any(|s| section.starts_with(s.as_str()))
    }
}

/// One line of a table: a name, and a run that says how long it took for how many operations.
pub struct Contender<'a> {
    name: &'static str,
    run: Box<dyn FnMut() -> Duration + 'a>,
    samples: Vec<f64>,
}

/// A line of a table; `run` performs the table's number of operations and says how long it took.
pub fn contender<'a>(name: &'static str, run: impl FnMut() -> Duration + 'a) -> Contender<'a> {
    Contender {
        name,
        run: Box::new(run),
        samples: Vec::new(),
    }
}

/// How a table shows its numbers.
#[derive(Clone, Copy)]
pub enum Unit {
    /// Millions of operations per second: more is better.
    Millions,
    /// Nanoseconds per operation: less is better.
    Nanoseconds,
    /// Gigabytes (10^9) per second, where an operation is one byte: more is better.
    Gigabytes,
    /// Gigabits (10^9) per second, where an operation is one bit: more is better.
    Gigabits,
}

/// Lets the contenders take turns and prints the table. `operations` is what each run performs.
pub fn table(
    title: &str,
    unit: Unit,
    operations: u64,
    rounds: usize,
    mut contenders: Vec<Contender<'_>>,
) {
    // Warm up: page in the memory, settle the clock of the processor.
    for contender in &mut contenders {
        (contender.run)();
    }
    for round in 0..rounds {
        // A different one begins each round.
        let n = contenders.len();
        for turn in 0..n {
            let contender = &mut contenders[(turn + round) % n];
            let nanoseconds = (contender.run)().as_nanos() as f64 / operations as f64;
            contender.samples.push(nanoseconds);
        }
    }
    let label = match unit {
        Unit::Millions => "M/s",
        Unit::Nanoseconds => "ns",
        Unit::Gigabytes => "GB/s",
        Unit::Gigabits => "Gbit/s",
    };
    println!("\n{title}");
    println!(
        "  {:<34} {:>10} {:>10} {:>10} {:>7}",
        label, "median", "best", "worst", "ratio"
    );
    let show = |nanoseconds: f64| match unit {
        Unit::Millions => 1000.0 / nanoseconds,
        Unit::Nanoseconds => nanoseconds,
        Unit::Gigabytes | Unit::Gigabits => 1.0 / nanoseconds,
    };
    let mut first = None;
    for contender in &mut contenders {
        contender.samples.sort_by(f64::total_cmp);
        let samples = &contender.samples;
        let median = show(samples[samples.len() / 2]);
        let base = *first.get_or_insert(median);
        println!(
            "  {:<34} {:>10.2} {:>10.2} {:>10.2} {:>7.2}",
            contender.name,
            median,
            show(samples[0]),
            show(samples[samples.len() - 1]),
            median / base,
        );
    }
}

/// Runs `one` on core 0 and `two` on core 1; the time from the common start to the end of both.
pub fn together(one: impl FnOnce() + Send, two: impl FnOnce() + Send) -> Duration {
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let second = scope.spawn(|| {
            pin(1);
            barrier.wait();
            let start = Instant::now();
            two();
            (start, Instant::now())
        });
        let first = scope.spawn(|| {
            pin(0);
            barrier.wait();
            let start = Instant::now();
            one();
            (start, Instant::now())
        });
        let (start_one, end_one) = first.join().expect("runs");
        let (start_two, end_two) = second.join().expect("runs");
        end_one.max(end_two) - start_one.max(start_two)
    })
}

/// The time `work` takes on core 0: processor time where the system tells it, so that other programs
/// do not count.
pub fn alone(work: impl FnOnce() + Send) -> Duration {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(0);
            let start = thread_time();
            work();
            thread_time() - start
        });
        thread.join().expect("runs")
    })
}

#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes the structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(not(target_os = "linux"))]
fn thread_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// Pins the calling thread to a core, where the system can do that.
pub fn pin(core: usize) {
    #[cfg(target_os = "linux")]
    pin_id(0, core);
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

/// Pins the threads of this process that have this name; whether there were any.
#[cfg(target_os = "linux")]
pub fn pin_thread(name: &str, core: usize) -> bool {
    let mut found = false;
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    for thread in threads.flatten() {
        let comm = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok());
        if let Some(id) = id.filter(|_| comm.trim_end() == name) {
            pin_id(id, core);
            found = true;
        }
    }
    found
}

/// Pins a thread by its number, or the calling one.
#[cfg(target_os = "linux")]
fn pin_id(thread: libc::pid_t, core: usize) {
    // SAFETY: a set of processors is plain bits, all zero being the empty set; the call reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// A few nanoseconds of work that the next call depends on.
#[inline(always)]
pub fn work(mut x: u64) -> u64 {
    for _ in 0..4 {
        x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 1;
    }
    x
}
