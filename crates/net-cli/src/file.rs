//! The configuration file of `up`: the same settings as the command line, in TOML.
//!
//! ```toml
//! mode = "nat"
//! subnet = "10.0.2.0/24"
//! mtu = 1500
//! publish = ["8080:80", "127.0.0.1:5353:53/udp"]
//! dns = ["192.0.2.53"]
//! domain = "internal"
//! host-loopback = false
//! pcap = "frames.pcap"
//!
//! [attach]
//! qemu-stream = ["/run/vm1.sock"]
//! netns = ["blue"]
//! ```

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::args::{AttachOption, NetworkOptions, resolver, subnet};
use crate::usage::UsageError;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    mode: Option<String>,
    subnet: Option<String>,
    mtu: Option<u16>,
    publish: Vec<String>,
    dns: Vec<String>,
    domain: Option<String>,
    host_loopback: bool,
    pcap: Option<PathBuf>,
    attach: Attach,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Attach {
    qemu_stream: Vec<PathBuf>,
    qemu_dgram: Vec<PathBuf>,
    vfkit: Vec<PathBuf>,
    bess: Vec<PathBuf>,
    netns: Vec<String>,
    vz_fd: Vec<i32>,
    vmnet: Option<String>,
}

/// Reads `path`.
pub(crate) fn read(path: &Path) -> Result<(NetworkOptions, Vec<AttachOption>), UsageError> {
    let text = std::fs::read_to_string(path)
        .map_err(|err| UsageError::new(format!("cannot read {}: {err}", path.display())))?;
    parse(&text).map_err(|err| UsageError::new(format!("{}: {err}", path.display())))
}

fn parse(text: &str) -> Result<(NetworkOptions, Vec<AttachOption>), UsageError> {
    let file: File = toml::from_str(text).map_err(|err| {
        let line = err
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        UsageError::new(format!("line {line}: {}", err.message()))
    })?;
    let network = NetworkOptions {
        mode: file.mode.map(|mode| mode.parse()).transpose()?,
        subnet: file.subnet.as_deref().map(subnet).transpose()?,
        mtu: file.mtu,
        publish: file
            .publish
            .iter()
            .map(|port| port.parse())
            .collect::<Result<_, _>>()?,
        dns: file
            .dns
            .iter()
            .map(|server| resolver(server))
            .collect::<Result<_, _>>()?,
        domain: file.domain,
        host_loopback: file.host_loopback,
        pcap: file.pcap,
    };
    let Attach {
        qemu_stream,
        qemu_dgram,
        vfkit,
        bess,
        netns,
        vz_fd,
        vmnet,
    } = file.attach;
    let vmnet = vmnet.map(|uplink| uplink.parse()).transpose()?;
    let vz_fd = vz_fd.iter().map(|fd| crate::args::vz_fd(&fd.to_string()));
    let vz_fd: Vec<i32> = vz_fd.collect::<Result<_, _>>()?;
    let attach = qemu_stream
        .into_iter()
        .map(AttachOption::QemuStream)
        .chain(qemu_dgram.into_iter().map(AttachOption::QemuDgram))
        .chain(vfkit.into_iter().map(AttachOption::Vfkit))
        .chain(bess.into_iter().map(AttachOption::Bess))
        .chain(netns.into_iter().map(AttachOption::Netns))
        .chain(vz_fd.into_iter().map(AttachOption::VzFd))
        .chain(vmnet.map(AttachOption::Vmnet))
        .collect();
    Ok((network, attach))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_documentation_is_read() {
        let example: String = include_str!("file.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!").trim_start().to_owned() + "\n")
            .collect();
        let (network, attach) = parse(&example).unwrap();
        assert_eq!(network.publish.len(), 2);
        assert_eq!(attach.len(), 2);
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, says) in [
            ("mtu = 1500\nfrob = 1\n", "line 2"),
            ("mtu = \"x\"", "line 1"),
            ("publish = [\"80\"]", "`80`"),
            ("[attach]\ntap = [\"x\"]", "tap"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
