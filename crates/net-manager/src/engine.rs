//! Who translates addresses, and how that is chosen.

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
}
