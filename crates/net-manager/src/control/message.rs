//! What is said over a control socket: one JSON value a line, in each direction.
//!
//! ```text
//! {"version":1,"request":"status"}
//! {"version":1,"request":{"publish":{"port":"8080:80","guest":"web"}}}
//! {"version":1,"reply":{"published":{"protocol":"tcp","address":"0.0.0.0:8080","guest":"10.0.2.2:80"}}}
//! {"version":1,"reply":{"error":"no guest is called `web`"}}
//! ```
//!
//! Every request is answered by one reply, in order. A field that is not known is refused: a client
//! that asks for more than this version understands is told so, and does not get less.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::ControlError;
use crate::worker::UplinkStatus;

/// The version of everything below. A change that an older peer would misread raises it.
pub const VERSION: u32 = 1;
/// Longest request in bytes, without its newline.
pub const MAX_REQUEST: usize = 8 * 1024;
/// Longest reply in bytes, without its newline: the status of a network whose every port is taken.
pub const MAX_REPLY: usize = 1 << 20;

/// What a network can be asked while it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What it is, what is attached, what is published.
    Status,
    /// Leads a port of the host to a guest.
    Publish {
        /// `[ADDR:]PORT:GUESTPORT[/tcp|/udp]`, as [`crate::PublishedPort`] reads it.
        port: String,
        /// The guest's name or address; the first guest where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        guest: Option<String>,
    },
    /// Takes a published port back.
    Unpublish {
        /// `[ADDR:]PORT[/tcp|/udp]`, as it was published.
        port: String,
    },
    /// Adds a place for a guest.
    Attach {
        /// `KIND:WHERE[,OPTION=VALUE...]`, as the program's `--attach` reads it.
        place: String,
    },
    /// Takes a place away, with the guest in it.
    Detach {
        /// The attachment's name, as [`Request::Status`] lists it.
        name: String,
    },
    /// Ends the network.
    Stop,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// It has been done, and there is nothing to say about it.
    Done,
    /// To [`Request::Status`].
    Status(Box<NetworkReport>),
    /// To [`Request::Publish`].
    Published(PublishedReport),
    /// To [`Request::Attach`].
    Attached(AttachmentReport),
    /// It was not done; one line says why.
    Error(String),
}

/// A network at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetworkReport {
    /// Its name.
    pub name: String,
    /// The process to signal to end it.
    pub pid: u32,
    /// `nat`, `bridge` or `host-only`.
    pub mode: String,
    /// What carries its packets: `user`, `kernel` or `fast`.
    pub engine: String,
    /// Why it is that engine.
    pub why: String,
    /// Its addresses, as `10.0.2.0/24`.
    pub subnet: String,
    /// Its IPv6 prefix, as `fd12:3456:789a::/64`; absent where neither this program nor its host is
    /// the router of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<String>,
    /// Why there is none, or why it leads nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_ipv6: Option<String>,
    /// The interface that packets leave by, with the fast engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkReport>,
    /// The address that guests have their route to; absent where the outside network has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// What the process that carries packets cannot do any more, in words.
    pub confinement: String,
    /// Places for guests.
    pub attachments: Vec<AttachmentReport>,
    /// Ports of the host that lead to guests.
    pub published: Vec<PublishedReport>,
    /// Connected guests with their counters.
    pub guests: Vec<GuestReport>,
    /// What the switch of the serving process did; frames that the kernel carries are not in it.
    #[serde(default)]
    pub switch: SwitchReport,
}

/// The interface that packets leave by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UplinkReport {
    /// Its name, as `tap:out0` or `if:eth0`.
    pub device: String,
    /// Whether it is there.
    pub connected: bool,
    /// The address that guests share outside.
    pub outside: Ipv4Addr,
    /// The same of IPv6, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside6: Option<Ipv6Addr>,
    /// The router that IPv6 packets for afar go to, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router6: Option<Ipv6Addr>,
}

impl From<&UplinkStatus> for UplinkReport {
    fn from(status: &UplinkStatus) -> Self {
        Self {
            device: status.device.clone(),
            connected: status.connected,
            outside: status.outside,
            outside6: status.outside6,
            router6: status.router6,
        }
    }
}

/// A place for a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct AttachmentReport {
    /// Its name, under which the guest is found by DNS.
    pub name: String,
    /// What it is, as it was asked for.
    pub place: String,
    /// The address kept for its guest; absent where the outside network gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The hardware address that its guest is to have; absent where any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The device file that its guest opens, where it is not opened by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Whether a guest is connected.
    pub connected: bool,
}

impl std::fmt::Display for AttachmentReport {
    /// Its place and what a guest has to know of it, on one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place)?;
        match self.address {
            Some(address) => write!(f, " address {address}")?,
            None => f.write_str(" address by DHCP from outside")?,
        }
        if let Some(mac) = &self.mac {
            write!(f, " mac {mac}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " device {device}")?;
        }
        write!(f, " name {}", self.name)
    }
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PublishedReport {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where the host listens.
    pub address: SocketAddr,
    /// Where it leads.
    pub guest: SocketAddr,
}

/// What a connected guest has sent and been given, in frames and bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GuestReport {
    /// The name of its attachment.
    pub name: String,
    /// Frames it sent.
    pub sent_frames: u64,
    /// Bytes it sent.
    pub sent_bytes: u64,
    /// Frames it was given.
    pub received_frames: u64,
    /// Bytes it was given.
    pub received_bytes: u64,
    /// Frames meant for it that it never got.
    pub dropped_frames: u64,
}

/// What a switch did with the frames that guests and the network itself sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SwitchReport {
    /// Frames for one port.
    pub unicast: u64,
    /// Frames for several ports, each counted once.
    pub flooded: u64,
    /// Frames dropped, by the name of the reason ([`net_switch::DropReason`]); those that never were a
    /// reason are not in it.
    pub drops: BTreeMap<String, u64>,
}

impl From<net_switch::Statistics> for SwitchReport {
    fn from(counted: net_switch::Statistics) -> Self {
        let drops = counted.drops.iter().filter(|(_, count)| *count > 0);
        Self {
            unicast: counted.unicast,
            flooded: counted.flooded,
            drops: drops.map(|(why, n)| (why.to_string(), n)).collect(),
        }
    }
}

/// A message of either direction with its version.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<T> {
    version: u32,
    request: T,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answered<T> {
    version: u32,
    reply: T,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Request {
    /// The request as a line, with its newline.
    pub fn to_line(&self) -> Vec<u8> {
        line(&Asked {
            version: VERSION,
            request: self,
        })
    }

    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// [`ControlError::Version`] from a peer of another version; [`ControlError::Malformed`] for
    /// what is no request.
    pub fn from_line(line: &[u8]) -> Result<Self, ControlError> {
        read::<Asked<Self>>(line).map(|asked| asked.request)
    }
}

impl Reply {
    /// The reply as a line, with its newline. One that would be longer than [`MAX_REPLY`] becomes
    /// an error that says so.
    pub fn to_line(&self) -> Vec<u8> {
        let answer = |reply: &Self| {
            line(&Answered {
                version: VERSION,
                reply,
            })
        };
        let whole = answer(self);
        if whole.len() <= MAX_REPLY {
            return whole;
        }
        answer(&Self::Error(format!(
            "the answer is longer than {MAX_REPLY} bytes"
        )))
    }

    /// Reads a line, with or without its newline.
    ///
    /// # Errors
    /// As [`Request::from_line`].
    pub fn from_line(line: &[u8]) -> Result<Self, ControlError> {
        read::<Answered<Self>>(line).map(|answered| answered.reply)
    }
}

/// A value as one line. The types above have no map with keys that are not text and no number that
/// JSON lacks, so that nothing can fail; an empty line would be answered as malformed.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, ControlError> {
    let malformed = |err: serde_json::Error| ControlError::Malformed(err.to_string());
    // Before anything else: what another version says may be anything.
    let Versioned { version } = serde_json::from_slice(line).map_err(malformed)?;
    if version != VERSION {
        return Err(ControlError::Version(version));
    }
    serde_json::from_slice(line).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> NetworkReport {
        NetworkReport {
            name: "default".into(),
            pid: 17,
            mode: "nat".into(),
            engine: "user".into(),
            why: "asked for".into(),
            subnet: "10.0.2.0/24".into(),
            subnet6: Some("fd77::/64".into()),
            no_ipv6: None,
            uplink: Some(UplinkReport {
                device: "tap:out0".into(),
                connected: true,
                outside: [198, 51, 100, 2].into(),
                outside6: Some("2001:db8::9".parse().unwrap()),
                router6: None,
            }),
            gateway: Some([10, 0, 2, 1].into()),
            mtu: 1500,
            confinement: "no capability".into(),
            attachments: vec![AttachmentReport {
                name: "guest1".into(),
                place: "qemu-stream:/a b\n".into(),
                address: None,
                mac: None,
                device: Some("/dev/tap9".into()),
                connected: true,
            }],
            published: vec![PublishedReport {
                protocol: "udp".into(),
                address: "[::]:53".parse().unwrap(),
                guest: "10.0.2.2:53".parse().unwrap(),
            }],
            guests: vec![GuestReport {
                name: "guest1".into(),
                sent_frames: u64::MAX,
                sent_bytes: 0,
                received_frames: 1,
                received_bytes: 2,
                dropped_frames: 3,
            }],
            switch: SwitchReport {
                unicast: 4,
                flooded: 5,
                drops: [("spoofed".to_owned(), 6)].into(),
            },
        }
    }

    #[test]
    fn what_is_written_is_one_line_and_read_back() {
        for request in [
            Request::Status,
            Request::Publish {
                port: "8080:80".into(),
                guest: Some("we\"b\n".into()),
            },
            Request::Unpublish {
                port: "8080/udp".into(),
            },
            Request::Attach {
                place: "tap:vm0,queues=4".into(),
            },
            Request::Detach {
                name: "guest1".into(),
            },
            Request::Stop,
        ] {
            let line = request.to_line();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(Request::from_line(&line).unwrap(), request);
        }
        for reply in [
            Reply::Done,
            Reply::Status(Box::new(report())),
            Reply::Error("no".into()),
        ] {
            let line = reply.to_line();
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(Reply::from_line(&line).unwrap(), reply);
        }
    }

    #[test]
    fn drops_are_told_by_reason() {
        let mut switch = net_switch::Switch::new(net_switch::Config::new([0; 16]));
        let mac = net_wire::MacAddr([2; 6]);
        for _ in 0..2 {
            switch.forward(1, mac, mac, std::time::Duration::ZERO);
        }
        let report = SwitchReport::from(switch.statistics());
        assert_eq!((report.unicast, report.flooded), (0, 0));
        assert_eq!(report.drops, [("no-port".to_owned(), 2)].into());
    }

    /// The documented form, which programs in other languages write by hand.
    #[test]
    fn the_form_is_the_documented_one() {
        let text = br#"{"version":1,"request":{"publish":{"port":"8080:80"}}}"#;
        let expected = Request::Publish {
            port: "8080:80".into(),
            guest: None,
        };
        assert_eq!(Request::from_line(text).unwrap(), expected);
        assert_eq!(expected.to_line().strip_suffix(b"\n").unwrap(), text);
    }

    #[test]
    fn another_version_is_named_whatever_it_says() {
        let text = br#"{"version":2,"request":{"fly":[]},"more":1}"#;
        let error = Request::from_line(text).unwrap_err();
        assert!(matches!(error, ControlError::Version(2)), "{error}");
    }

    #[test]
    fn nothing_is_guessed() {
        for text in [
            "",
            "{}",
            "[]",
            "status",
            r#"{"version":1}"#,
            r#"{"version":"1","request":"status"}"#,
            r#"{"version":1,"request":"fly"}"#,
            r#"{"version":1,"request":{"publish":{}}}"#,
            r#"{"version":1,"request":{"publish":{"port":"1:1","frob":1}}}"#,
            r#"{"version":1,"request":"status","more":1}"#,
            r#"{"version":1,"request":"status"} {"#,
            "{\"version\":1,\"request\":\"\u{0}\"}",
        ] {
            assert!(Request::from_line(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Request::from_line(b"{\"version\":1,\"request\":\"\xff\"}").is_err());
        // Depth is bounded by the parser: no stack is used up.
        let deep = [b"{\"version\":1,\"request\":".as_slice(), &[b'['; 8000]].concat();
        assert!(Request::from_line(&deep).is_err());
    }

    #[test]
    fn an_answer_without_bounds_becomes_an_error() {
        let mut long = report();
        long.why = "x".repeat(MAX_REPLY);
        let line = Reply::Status(Box::new(long)).to_line();
        assert!(line.len() < 200);
        assert!(matches!(
            Reply::from_line(&line).unwrap(),
            Reply::Error(why) if why.contains("longer")
        ));
    }
}
