//! Who translates addresses, and how that is chosen.

use crate::config::{NetworkConfig, NetworkMode};
use crate::error::ManagerError;

/// Who carries a NAT network's packets to the world.
///
/// The other modes translate nothing: there the kernel carries the frames, whatever this says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// The kernel where this process may make interfaces and rules, else the relay.
    Auto,
    /// A relay to sockets of the host: no privileges, and nothing of the host is changed. The
    /// default of the library, because a library makes no interfaces unasked.
    #[default]
    User,
    /// A bridge and nftables: the speed of the kernel. Needs CAP_NET_ADMIN.
    Kernel,
    /// Our own translator between the guests and an interface that owns the outside address.
    Fast,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::User => "user",
            Self::Kernel => "kernel",
            Self::Fast => "fast",
        })
    }
}

impl std::str::FromStr for Engine {
    type Err = ManagerError;

    fn from_str(text: &str) -> Result<Self, ManagerError> {
        match text {
            "auto" => Ok(Self::Auto),
            "user" => Ok(Self::User),
            "kernel" => Ok(Self::Kernel),
            "fast" => Ok(Self::Fast),
            _ => Err(ManagerError::UnknownEngine(text.to_owned())),
        }
    }
}

/// What a network is started with, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// Who carries the packets.
    pub engine: Engine,
    /// Why that one, in words for the user.
    pub why: String,
    /// The mode cannot be had: it is NAT instead.
    fell_back: bool,
}

impl Choice {
    fn new(engine: Engine, why: impl Into<String>) -> Self {
        Self {
            engine,
            why: why.into(),
            fell_back: false,
        }
    }

    /// In the kernel, because somebody else has made it there.
    #[cfg(target_os = "linux")]
    pub(crate) fn kernel(why: impl Into<String>) -> Self {
        Self::new(Engine::Kernel, why)
    }

    /// The settings with this choice made.
    pub fn apply(&self, config: &NetworkConfig) -> NetworkConfig {
        let mut config = config.clone();
        config.engine = self.engine;
        if self.fell_back {
            config.mode = NetworkMode::Nat;
            (config.bridge, config.take_over) = (None, None);
        }
        config
    }
}

/// Chooses who carries the packets of a network.
///
/// # Errors
/// [`ManagerError::CannotHave`] with the reason, where there is no fallback.
pub fn choose(config: &NetworkConfig) -> Result<Choice, ManagerError> {
    choose_by(config, kernel_can)
}

fn choose_by(
    config: &NetworkConfig,
    kernel_can: impl Fn(NetworkMode) -> Result<(), String>,
) -> Result<Choice, ManagerError> {
    let asked = "it was asked for";
    let (what, why) = match (config.mode, config.engine) {
        (NetworkMode::Nat, Engine::User) => {
            return Ok(Choice::new(Engine::User, "nothing else was asked for"));
        }
        (NetworkMode::Nat, Engine::Fast) => match &config.uplink {
            Some(_) => return Ok(Choice::new(Engine::Fast, asked)),
            None => ("engine fast".to_owned(), "it needs an uplink".to_owned()),
        },
        (NetworkMode::Nat, engine) => match (kernel_can(config.mode), engine) {
            (Ok(()), Engine::Kernel) => return Ok(Choice::new(Engine::Kernel, asked)),
            (Ok(()), _) => {
                let why = "this process may make interfaces and rules";
                return Ok(Choice::new(Engine::Kernel, why));
            }
            (Err(why), Engine::Kernel) => ("engine kernel".to_owned(), why),
            (Err(why), _) => {
                return Ok(Choice::new(Engine::User, format!("not the kernel: {why}")));
            }
        },
        (mode, _) => match kernel_can(mode) {
            Ok(()) => {
                return Ok(Choice::new(
                    Engine::Kernel,
                    format!("mode {mode} is the kernel's"),
                ));
            }
            Err(why) => (format!("mode {mode}"), why),
        },
    };
    match config.fallback {
        Some(Engine::User) => {
            let why = format!("instead of {what}: {why}");
            log::warn!("network {}: engine user {why}", config.name);
            Ok(Choice {
                fell_back: config.mode != NetworkMode::Nat,
                ..Choice::new(Engine::User, why)
            })
        }
        Some(other) => Err(ManagerError::Invalid(format!(
            "engine {other} is no fallback: only engine user can always be had"
        ))),
        None => Err(ManagerError::CannotHave { what, why }),
    }
}

/// Whether this process can have a network of this mode in the kernel; if not, why.
///
/// # Errors
/// The reason, in words for the user, with what to do about it.
pub fn kernel_can(mode: NetworkMode) -> Result<(), String> {
    #[cfg(target_os = "linux")]
    return crate::kernel::can(mode);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = mode;
        Err("it needs Linux".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_read_back() {
        for engine in [Engine::Auto, Engine::User, Engine::Kernel, Engine::Fast] {
            assert_eq!(engine.to_string().parse::<Engine>().unwrap(), engine);
        }
        assert!("warp".parse::<Engine>().is_err());
    }

    fn chosen(
        mode: NetworkMode,
        engine: Engine,
        fallback: Option<Engine>,
        kernel: bool,
    ) -> Result<(NetworkMode, Engine, String), String> {
        let config = NetworkConfig {
            mode,
            engine,
            fallback,
            bridge: (mode == NetworkMode::Bridge).then(|| "br0".to_owned()),
            ..NetworkConfig::default()
        };
        let kernel_can = |_| match kernel {
            true => Ok(()),
            false => Err("no CAP_NET_ADMIN".to_owned()),
        };
        let choice = choose_by(&config, kernel_can).map_err(|err| err.to_string())?;
        let applied = choice.apply(&config);
        assert!(applied.bridge.is_none() || applied.mode == NetworkMode::Bridge);
        Ok((applied.mode, applied.engine, choice.why))
    }

    #[test]
    fn what_can_be_had_is_taken() {
        use NetworkMode::{Bridge, HostOnly, Nat};
        for (mode, engine, kernel, want) in [
            (Nat, Engine::User, true, Engine::User),
            (Nat, Engine::Auto, true, Engine::Kernel),
            (Nat, Engine::Auto, false, Engine::User),
            (Nat, Engine::Kernel, true, Engine::Kernel),
            (HostOnly, Engine::User, true, Engine::Kernel),
            (Bridge, Engine::Auto, true, Engine::Kernel),
        ] {
            let (got_mode, got, why) = chosen(mode, engine, None, kernel).unwrap();
            assert_eq!((got_mode, got), (mode, want), "{mode} {engine} {kernel}");
            assert!(kernel || why.contains("CAP_NET_ADMIN"), "{why}");
        }
    }

    #[test]
    fn what_was_asked_for_by_name_fails_with_the_reason_or_falls_back() {
        use NetworkMode::{Bridge, HostOnly, Nat};
        for (mode, engine, says) in [
            (Nat, Engine::Kernel, "engine kernel"),
            (Nat, Engine::Fast, "uplink"),
            (HostOnly, Engine::User, "mode host-only"),
            (Bridge, Engine::Auto, "mode bridge"),
        ] {
            let error = chosen(mode, engine, None, false).unwrap_err();
            assert!(error.contains(says), "{error}");
            let (got_mode, got, why) = chosen(mode, engine, Some(Engine::User), false).unwrap();
            assert_eq!((got_mode, got), (Nat, Engine::User));
            assert!(why.contains(says), "{why}");
            assert!(chosen(mode, engine, Some(Engine::Fast), false).is_err());
        }
    }
}
