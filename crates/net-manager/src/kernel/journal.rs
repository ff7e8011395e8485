//! What a network has made in the kernel, written down before it is made.
//!
//! One line of JSON an act. A line is there as soon as the call that writes it returns: it need not
//! reach a disk, because what it tells of ends with the machine too. The last line may be cut short
//! where the process was killed; what it was about had not begun.
//!
//! ```text
//! {"version":1,"network":"blue","boot":"2f1c...","namespace":"4:4026531840","pid":4711}
//! {"link":{"name":"ab-blue","mac":[2,171,10,0,2,1]}}
//! {"rules":{}}
//! {"forwarding":{"settings":[["net/ipv4/ip_forward","0"]]}}
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use net_backend_linux::netlink::{Address, Route};
use serde::{Deserialize, Serialize};

use super::state::{JOURNAL_NEW, state_error};
use crate::error::ManagerError;

/// The version of the format.
const VERSION: u32 = 1;
/// The longest journal that is read, in bytes: tens of thousands of acts.
const MAX_LEN: u64 = 8 << 20;

/// Whose journal it is, and of what it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    version: u32,
    /// The network.
    pub(super) network: String,
    /// The boot of the machine: what was made in another is gone.
    pub(super) boot: String,
    /// The network namespace that it was made in.
    pub(super) namespace: String,
    /// The process.
    pub(super) pid: u32,
}

impl Header {
    pub(super) fn new(network: &str, boot: String, namespace: String) -> Self {
        Self {
            version: VERSION,
            network: network.to_owned(),
            boot,
            namespace,
            pid: std::process::id(),
        }
    }
}

/// Something that is about to be made or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Act {
    /// An interface.
    Link {
        /// Its name.
        name: String,
        /// Its hardware address, where that was prescribed: what it can be known by until it has
        /// its mark.
        mac: Option<[u8; 6]>,
    },
    /// The tables of rules that have the network's name.
    Rules {},
    /// Settings of the kernel that let it forward packets of one family, as they were before, in
    /// the order in which they are given back: the switch of the family first.
    Forwarding {
        /// Path below `/proc/sys` and value.
        settings: Vec<(String, String)>,
    },
    /// A physical interface that becomes a port of the bridge.
    TakeOver(TakenOver),
}

/// A physical interface as it was before it became a port of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TakenOver {
    /// The interface.
    pub(super) interface: String,
    /// The bridge.
    pub(super) bridge: String,
    /// Whether it was up.
    pub(super) up: bool,
    /// Its addresses, in the kernel's order.
    pub(super) addresses: Vec<Address>,
    /// Its routes, but for those that come and go with an address.
    pub(super) routes: Vec<Route>,
    /// Whether it had no IPv6, as the kernel writes that; none on a host without IPv6.
    #[serde(default)]
    pub(super) disable_ipv6: Option<String>,
    /// Whether the bridge heeded router advertisements, if it was there before.
    #[serde(default)]
    pub(super) accept_ra: Option<String>,
}

/// The journal of a network that is alive.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    acts: Vec<Act>,
    /// The file may end in half a line, because a write failed.
    torn: bool,
}

impl Journal {
    /// Begins an empty one.
    pub(super) fn begin(path: PathBuf, header: Header) -> Result<Self, ManagerError> {
        Self::resume(path, header, Vec::new())
    }

    /// Goes on with what somebody else has left.
    pub(super) fn resume(
        path: PathBuf,
        header: Header,
        acts: Vec<Act>,
    ) -> Result<Self, ManagerError> {
        let file = write_all(&path, &header, &acts).map_err(state_error(&path))?;
        Ok(Self {
            path,
            file,
            header,
            acts,
            torn: false,
        })
    }

    /// Writes down what is done next.
    pub(super) fn note(&mut self, act: Act) -> Result<(), ManagerError> {
        if self.torn {
            self.rewrite()?;
        }
        let line = line(&act).map_err(state_error(&self.path))?;
        self.torn = true;
        self.file
            .write_all(&line)
            .map_err(state_error(&self.path))?;
        self.torn = false;
        self.acts.push(act);
        Ok(())
    }

    /// What has been done and not undone, in order.
    pub(super) fn acts(&self) -> &[Act] {
        &self.acts
    }

    /// Strikes out what has been undone. The old journal stands until the new one is complete: to
    /// undo something twice does no harm.
    pub(super) fn strike(&mut self, undone: impl Fn(&Act) -> bool) -> Result<(), ManagerError> {
        let before = self.acts.len();
        self.acts.retain(|act| !undone(act));
        if self.acts.len() < before {
            self.rewrite()?;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), ManagerError> {
        self.file =
            write_all(&self.path, &self.header, &self.acts).map_err(state_error(&self.path))?;
        self.torn = false;
        Ok(())
    }
}

/// Reads the journal at `path`; `None` if there is none, or none that says anything yet.
pub(super) fn read(path: &Path) -> Result<Option<(Header, Vec<Act>)>, ManagerError> {
    let mut text = String::new();
    let result = File::open(path).and_then(|file| file.take(MAX_LEN).read_to_string(&mut text));
    match result {
        Ok(_) => {}
        Err(err) if err.kind() == ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(state_error(path)(err)),
    }
    let bad = |line: usize, why: &str| ManagerError::BadJournal {
        path: path.to_owned(),
        line,
        why: why.to_owned(),
    };
    // What follows the last newline was not written to its end.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines().zip(1..);
    let Some((first, _)) = lines.next() else {
        return Ok(None);
    };
    let header: Header = serde_json::from_str(first).map_err(|err| bad(1, &err.to_string()))?;
    if header.version != VERSION {
        return Err(bad(1, "it was written by another version of this program"));
    }
    let acts = lines.map(|(line, number)| {
        serde_json::from_str(line).map_err(|err| bad(number, &err.to_string()))
    });
    Ok(Some((header, acts.collect::<Result<_, _>>()?)))
}

/// Replaces the journal at `path` in one step; gives back the file, to be written on.
fn write_all(path: &Path, header: &Header, acts: &[Act]) -> std::io::Result<File> {
    let mut bytes = line(header)?;
    for act in acts {
        bytes.extend(line(act)?);
    }
    let new = path.with_file_name(JOURNAL_NEW);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&bytes)?;
    fs::rename(&new, path)?;
    Ok(file)
}

fn line(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header::new("blue", "boot".into(), "1:2".into())
    }

    fn link(name: &str) -> Act {
        Act::Link {
            name: name.into(),
            mac: Some([2, 0, 0, 0, 0, 1]),
        }
    }

    #[test]
    fn what_was_noted_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        assert_eq!(read(&path).unwrap(), None);
        let mut journal = Journal::begin(path.clone(), header()).unwrap();
        let taken = Act::TakeOver(TakenOver {
            interface: "eth0".into(),
            bridge: "br0".into(),
            up: true,
            addresses: Vec::new(),
            routes: vec![Route::default_via("192.0.2.1".parse().unwrap(), 7)],
            disable_ipv6: Some("0".into()),
            accept_ra: None,
        });
        let acts = [link("a"), Act::Rules {}, taken, link("b")];
        for act in &acts {
            journal.note(act.clone()).unwrap();
        }
        let (read_header, read_acts) = read(&path).unwrap().unwrap();
        assert_eq!((read_header, &read_acts[..]), (header(), &acts[..]));

        journal.strike(|act| *act == link("a")).unwrap();
        journal.note(link("c")).unwrap();
        let (_, read_acts) = read(&path).unwrap().unwrap();
        assert_eq!(read_acts, journal.acts());
        assert_eq!(read_acts.len(), 4);
        assert_eq!(read_acts.last(), Some(&link("c")));
    }

    /// Killed at any byte of the last line, what stands before it is read.
    #[test]
    fn a_line_cut_short_was_never_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::begin(path.clone(), header()).unwrap();
        journal.note(link("a")).unwrap();
        let before = fs::read(&path).unwrap();
        journal.note(link("b")).unwrap();
        let after = fs::read(&path).unwrap();
        for end in 0..=after.len() {
            fs::write(&path, &after[..end]).unwrap();
            let acts = read(&path).unwrap().map(|(_, acts)| acts);
            let header_end = before.iter().position(|byte| *byte == b'\n').unwrap();
            let want = match end {
                end if end <= header_end => None,
                end if end < before.len() => Some(vec![]),
                end if end < after.len() => Some(vec![link("a")]),
                _ => Some(vec![link("a"), link("b")]),
            };
            assert_eq!(acts, want, "cut at {end}");
        }
    }

    #[test]
    fn a_journal_that_makes_no_sense_names_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::begin(path.clone(), header()).unwrap();
        journal.note(link("a")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for (text, says) in [
            (format!("{text}{{\"fly\":1}}\n"), "line 3"),
            (text.replace("\"version\":1", "\"version\":2"), "line 1"),
            (text.replace("\"name\"", "\"nom\""), "line 2"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
