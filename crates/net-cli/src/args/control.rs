//! The commands that ask a running network: `status`, `publish`, `unpublish`, `attach`, `detach`,
//! `stop`; and `clean`.

use std::path::PathBuf;

use lexopt::prelude::*;
use net_manager::control::Request;

use super::{Command, text};
use crate::place::{Place, VhostUserPlace};
use crate::usage::UsageError;

/// Which network is meant.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Which {
    /// Its name; the only one that runs where absent.
    pub(crate) name: Option<String>,
    /// Where the networks are.
    pub(crate) state_dir: Option<PathBuf>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Of every network that runs, or of the one that is named.
    Status {
        /// As the socket has it, for programs.
        json: bool,
    },
    /// Of one network.
    One(Request),
}

/// The words of a command, and the options that they all take.
struct Words {
    which: Which,
    words: Vec<String>,
    guest: Option<String>,
    json: bool,
    help: bool,
}

fn words(command: &str, mut parser: lexopt::Parser) -> Result<Words, UsageError> {
    let mut read = Words {
        which: Which::default(),
        words: Vec::new(),
        guest: None,
        json: false,
        help: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => read.help = true,
            Long("name") => read.which.name = Some(text(&mut parser, "--name")?),
            Long("state-dir") => read.which.state_dir = Some(parser.value()?.into()),
            Long("guest") if command == "publish" => {
                read.guest = Some(text(&mut parser, "--guest")?);
            }
            Long("json") if command == "status" => read.json = true,
            Value(word) => read.words.push(word.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(read)
}

/// Reads what follows one of the commands.
pub(super) fn parse(command: &str, parser: lexopt::Parser) -> Result<Command, UsageError> {
    let Words {
        mut which,
        words,
        guest,
        json,
        help,
    } = words(command, parser)?;
    if help {
        return Ok(Command::Help);
    }
    let mut words = words.into_iter();
    let mut one = |what: &str| {
        words
            .next()
            .ok_or_else(|| UsageError::new(format!("{command}: {what} is missing")))
    };
    let asked = match command {
        "status" => {
            which.name = one("").ok().or(which.name);
            Asked::Status { json }
        }
        "publish" => Asked::One(Request::Publish {
            port: one("[ADDR:]PORT:GUESTPORT[/tcp|/udp]")?,
            guest,
        }),
        "unpublish" => Asked::One(Request::Unpublish {
            port: one("[ADDR:]PORT[/tcp|/udp]")?,
        }),
        "attach" => {
            let place: Place = one("KIND:WHERE")?.parse()?;
            Asked::One(Request::Attach {
                place: absolute(place)?.to_string(),
            })
        }
        "detach" => Asked::One(Request::Detach {
            name: one("the attachment's name")?,
        }),
        _ => {
            which.name = one("").ok().or(which.name);
            Asked::One(Request::Stop)
        }
    };
    match words.next() {
        None => Ok(Command::Control { which, asked }),
        Some(more) => Err(UsageError::new(format!("{command}: what is `{more}`?"))),
    }
}

/// A path means the same in this directory and in that of the network's process.
fn absolute(place: Place) -> Result<Place, UsageError> {
    let whole = |path: PathBuf| {
        std::path::absolute(&path)
            .map_err(|err| UsageError::new(format!("{}: {err}", path.display())))
    };
    Ok(match place {
        Place::QemuStream(path) => Place::QemuStream(whole(path)?),
        Place::QemuDgram(path) => Place::QemuDgram(whole(path)?),
        Place::Vfkit(path) => Place::Vfkit(whole(path)?),
        Place::Bess(path) => Place::Bess(whole(path)?),
        Place::VhostUser(vhost) => Place::VhostUser(VhostUserPlace {
            path: whole(vhost.path)?,
            ..vhost
        }),
        Place::OnPort(place, port) => Place::OnPort(Box::new(absolute(*place)?), port),
        other => other,
    })
}

/// `clean [NAME]`
pub(super) fn clean(parser: lexopt::Parser) -> Result<Command, UsageError> {
    let Words {
        mut which,
        words,
        help,
        ..
    } = words("clean", parser)?;
    if help {
        return Ok(Command::Help);
    }
    let mut words = words.into_iter();
    which.name = words.next().or(which.name);
    match words.next() {
        None => Ok(Command::Clean { which }),
        Some(more) => Err(UsageError::new(format!("clean: what is `{more}`?"))),
    }
}
