//! `vhost-user:PATH[,server=on|off][,queues=N]`: a machine whose VMM speaks vhost-user.

use std::fmt;
use std::path::PathBuf;

use super::{number, option, port, split, unknown};
use crate::usage::UsageError;

/// The most pairs of queues of one device.
const MAX_QUEUES: u16 = 128;

/// Where the VMM is met to speak vhost-user, and the pairs of queues it gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct VhostUserPlace {
    pub(crate) path: PathBuf,
    /// The VMM listens (`server=off`), and is called as often as it goes away.
    pub(crate) calls: bool,
    pub(crate) queues: Option<u16>,
}

impl fmt::Display for VhostUserPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vhost-user:{}", self.path.display())?;
        option(f, "server", self.calls.then_some("off"))?;
        option(f, "queues", self.queues)
    }
}

/// Reads what is behind the kind.
pub(super) fn parse(text: &str) -> Result<VhostUserPlace, UsageError> {
    let (path, options) = split(text);
    if path.is_empty() {
        return Err(UsageError::new("vhost-user: the path is missing"));
    }
    let mut place = VhostUserPlace {
        path: path.into(),
        ..VhostUserPlace::default()
    };
    for (key, value) in options {
        match key {
            "server" => place.calls = !port::on(key, value)?,
            "queues" => place.queues = Some(number(key, value, 1, MAX_QUEUES)?),
            _ => return Err(unknown("vhost-user", key, "server, queues")),
        }
    }
    Ok(place)
}

/// Pairs of queues for the machine that `qemu` starts, from what is said for every device.
pub(crate) fn child_queues(queues: Option<u16>) -> Result<u16, UsageError> {
    let queues = queues.unwrap_or(1);
    if queues <= MAX_QUEUES {
        return Ok(queues);
    }
    Err(UsageError::new(format!(
        "--queues: with --vhost-user at most {MAX_QUEUES}, not {queues}"
    )))
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    #[test]
    fn who_listens_may_be_said() {
        for (text, written) in [
            ("vhost-user:/b", "vhost-user:/b"),
            ("vhost-user:/b,server=on", "vhost-user:/b"),
            ("vhost-user:/b,server=off", "vhost-user:/b,server=off"),
            (
                "vhost-user:b c,queues=128,server=off",
                "vhost-user:b c,server=off,queues=128",
            ),
            (
                "vhost-user:/b,vlan=7,server=off,mirror=on,queues=2",
                "vhost-user:/b,server=off,queues=2,vlan=7,mirror=on",
            ),
        ] {
            let place: Place = text.parse().unwrap();
            assert_eq!(place.to_string(), written);
            assert_eq!(written.parse::<Place>().unwrap(), place);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("vhost-user:", "no place"),
            ("vhost-user:,server=off", "path is missing"),
            ("vhost-user:/b,server", "``"),
            ("vhost-user:/b,server=yes", "`yes`"),
            ("vhost-user:/b,queues=0", "`0`"),
            ("vhost-user:/b,queues=129", "`129`"),
            ("vhost-user:/b,reconnect=1", "`reconnect`"),
            ("bess:/b,server=off", ""),
        ] {
            match text.parse::<Place>() {
                Err(error) => assert!(error.to_string().contains(says), "{text}: {error}"),
                // Of other kinds it is part of the path.
                Ok(place) => assert_eq!(place, Place::Bess("/b,server=off".into())),
            }
        }
        assert_eq!(child_queues(None).unwrap(), 1);
        assert_eq!(child_queues(Some(128)).unwrap(), 128);
        let error = child_queues(Some(129)).unwrap_err().to_string();
        assert!(error.contains("129"), "{error}");
    }
}
