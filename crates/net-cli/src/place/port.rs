//! What the switch is to do with a place's port, as it is written: `,vlan=ID`, `,isolated=on`,
//! `,mirrored=on`, `,mirror=on` and `,moves=on` behind the place.
//!
//! A path may have commas of its own. Only what stands at the end and is one of these is an option.

use std::fmt;

use net_manager::PortOptions;

use super::{Place, number, option};
use crate::usage::UsageError;

/// Takes the options off the end of a place of this kind.
pub(super) fn take<'a>(
    kind: &str,
    mut text: &'a str,
) -> Result<(std::borrow::Cow<'a, str>, PortOptions), UsageError> {
    let mut options = PortOptions::default();
    // Options of the place itself may stand among these.
    let mut own = Vec::new();
    while let Some((rest, last)) = text.rsplit_once(',') {
        match last.split_once('=') {
            Some(("vlan", value)) => options.vlan = Some(number("vlan", value, 1, 4094)?),
            Some(("isolated", value)) => options.isolated = on("isolated", value)?,
            Some(("mirror", value)) => options.mirror = on("mirror", value)?,
            Some(("mirrored", value)) => options.mirrored = on("mirrored", value)?,
            Some(("moves", value)) => options.moves = on("moves", value)?,
            Some(("queues" | "server", _)) if kind == "vhost-user" => own.push(last),
            _ => break,
        }
        text = rest;
    }
    if own.is_empty() {
        return Ok((text.into(), options));
    }
    own.push(text);
    own.reverse();
    Ok((own.join(",").into(), options))
}

pub(super) fn on(key: &str, value: &str) -> Result<bool, UsageError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(UsageError::new(format!(
            "{key}: `{value}` is neither on nor off"
        ))),
    }
}

/// Writes them as [`take`] reads them.
pub(super) fn write(f: &mut fmt::Formatter<'_>, port: &PortOptions) -> fmt::Result {
    option(f, "vlan", port.vlan)?;
    for (name, is_on) in [
        ("isolated", port.isolated),
        ("mirror", port.mirror),
        ("mirrored", port.mirrored),
        ("moves", port.moves),
    ] {
        option(f, name, is_on.then_some("on"))?;
    }
    Ok(())
}

impl Place {
    /// With these options, if there are any.
    pub(super) fn on_port(self, port: PortOptions) -> Self {
        match port == PortOptions::default() {
            true => self,
            false => Self::OnPort(Box::new(self), port),
        }
    }

    /// The place without the options, and the options. The VLAN of a TAP device is one, where this
    /// program serves the device.
    pub(crate) fn parts(&self) -> (&Self, PortOptions) {
        match self {
            Self::OnPort(place, port) => (place, *port),
            Self::Tap(tap) => {
                let vlan = tap.vlan;
                let port = PortOptions {
                    vlan,
                    ..PortOptions::default()
                };
                (self, port)
            }
            _ => (self, PortOptions::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_at_the_end() {
        for (text, place, vlan) in [
            ("qemu-stream:/a,vlan=7", "qemu-stream:/a", Some(7)),
            ("vfkit:/a,b,vlan=4094", "vfkit:/a,b", Some(4094)),
            ("vfkit:/a,vlan=7,b", "vfkit:/a,vlan=7,b", None),
            (
                "vhost-user:/a,vlan=7,queues=2",
                "vhost-user:/a,queues=2",
                Some(7),
            ),
            ("netns:blue,vlan=1", "netns:blue", Some(1)),
            ("served-tap:tap0,vlan=2", "served-tap:tap0", Some(2)),
            ("tap:vm0,vlan=3", "tap:vm0,vlan=3", Some(3)),
        ] {
            let parsed: Place = text.parse().unwrap();
            let (inner, port) = parsed.parts();
            assert_eq!((inner.to_string().as_str(), port.vlan), (place, vlan));
        }
        let all = "bess:/b,vlan=9,isolated=on,mirror=on,mirrored=on,moves=on";
        let place: Place = all.parse().unwrap();
        assert_eq!(place.to_string(), all);
        let port = place.parts().1;
        assert!(port.isolated && port.mirror && port.mirrored && port.moves);
        let off: Place = "bess:/b,isolated=off".parse().unwrap();
        assert_eq!(off, Place::Bess("/b".into()));
        for (text, says) in [
            ("bess:/b,vlan=0", "`0`"),
            ("bess:/b,vlan=4095", "`4095`"),
            ("bess:/b,isolated=yes", "`yes`"),
            ("bess:/b,mirror=", "``"),
            ("tap:x,mirror=on", "`mirror`"),
            ("vmnet:shared,vlan=7", "vlan"),
        ] {
            let error = text.parse::<Place>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
