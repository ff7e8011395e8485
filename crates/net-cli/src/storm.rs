//! Limits on floods, as they are written: `broadcast=1000,multicast=off`.

use std::fmt;
use std::str::FromStr;

use net_manager::{Limit, StormLimits};

use crate::usage::UsageError;

/// The limits; those that are not written are the usual ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Storm(pub(crate) StormLimits);

impl FromStr for Storm {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let mut limits = StormLimits::default();
        for part in text.split(',') {
            let (kind, value) = part.split_once('=').unwrap_or((part, ""));
            let limit = match kind {
                "broadcast" => &mut limits.broadcast,
                "multicast" => &mut limits.multicast,
                "unknown" => &mut limits.unknown_unicast,
                _ => {
                    return Err(UsageError::new(format!(
                        "storm: `{kind}` is not broadcast, multicast or unknown"
                    )));
                }
            };
            *limit = match (value, value.parse()) {
                ("off", _) => Limit::OFF,
                (_, Ok(rate)) => Limit::per_second(rate),
                _ => {
                    return Err(UsageError::new(format!(
                        "storm: {kind}: `{value}` is neither a number of frames a second nor off"
                    )));
                }
            };
        }
        Ok(Self(limits))
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [
            ("broadcast", self.0.broadcast),
            (",multicast", self.0.multicast),
            (",unknown", self.0.unknown_unicast),
        ];
        for (kind, limit) in kinds {
            match limit {
                Limit::OFF => write!(f, "{kind}=off")?,
                limit => write!(f, "{kind}={}", limit.rate)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_rates() {
        let usual = Storm::default();
        let some: Storm = "unknown=off,broadcast=7".parse().unwrap();
        assert_eq!(some.0.broadcast, Limit::per_second(7));
        assert_eq!(some.0.unknown_unicast, Limit::OFF);
        assert_eq!(some.0.multicast, usual.0.multicast);
        for storm in [usual, some, Storm(StormLimits::OFF)] {
            assert_eq!(storm.to_string().parse::<Storm>().unwrap(), storm);
        }
        for bad in [
            "",
            "broadcast",
            "broadcast=",
            "broadcast=-1",
            "unicast=1",
            "unknown=4294967296",
        ] {
            let error = bad.parse::<Storm>().unwrap_err().to_string();
            assert!(error.starts_with("storm: "), "{bad}: {error}");
        }
    }
}
