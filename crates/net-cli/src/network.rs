//! From options to a running network.

use net_manager::{NetworkConfig, NetworkManager};

use crate::args::{AttachOption, NetworkOptions};
use crate::usage::UsageError;

impl NetworkOptions {
    /// The settings these options ask for.
    pub(crate) fn config(self, name: &str) -> NetworkConfig {
        let mut config = NetworkConfig::default();
        config.name = name.to_owned();
        config.mode = self.mode.unwrap_or(config.mode);
        config.subnet = self.subnet.unwrap_or(config.subnet);
        config.mtu = self.mtu.unwrap_or(config.mtu);
        config.publish = self.publish;
        config.dns = self.dns;
        config.domain = self.domain.unwrap_or(config.domain);
        config.host_loopback = self.host_loopback;
        config.pcap = self.pcap;
        config
    }

    /// These options over those of a file: what is given here wins, lists add up.
    pub(crate) fn over(mut self, file: Self) -> Self {
        self.mode = self.mode.or(file.mode);
        self.subnet = self.subnet.or(file.subnet);
        self.mtu = self.mtu.or(file.mtu);
        self.publish.splice(0..0, file.publish);
        if self.dns.is_empty() {
            self.dns = file.dns;
        }
        self.domain = self.domain.or(file.domain);
        self.host_loopback |= file.host_loopback;
        self.pcap = self.pcap.or(file.pcap);
        self
    }

    /// Starts the network they ask for.
    pub(crate) fn start(self, name: &str) -> Result<NetworkManager, UsageError> {
        self.start_with(name, true)
    }

    /// Starts the network they ask for, with a gateway of its own or without.
    pub(crate) fn start_with(
        self,
        name: &str,
        gateway: bool,
    ) -> Result<NetworkManager, UsageError> {
        let mut config = self.config(name);
        config.gateway = gateway;
        let manager = NetworkManager::new(config);
        manager.start()?;
        Ok(manager)
    }
}

/// Attaches one place for guests; returns the address of its first guest.
pub(crate) fn attach(
    manager: &NetworkManager,
    option: &AttachOption,
) -> Result<net_manager::AttachmentInfo, UsageError> {
    let attached = match option {
        AttachOption::QemuStream(path) => manager.attach_qemu_stream(path),
        AttachOption::QemuDgram(path) => manager.attach_qemu_dgram(path),
        AttachOption::Vfkit(path) => manager.attach_vfkit(path),
        AttachOption::VzFd(fd) => manager.attach_inherited(*fd),
        AttachOption::Vmnet(uplink) => return uplink.attach(manager),
        #[cfg(target_os = "linux")]
        AttachOption::Bess(path) => manager.attach_bess(path),
        #[cfg(target_os = "linux")]
        AttachOption::Netns(name) => return crate::run::attach_namespace(manager, name),
        #[cfg(not(target_os = "linux"))]
        AttachOption::Bess(_) | AttachOption::Netns(_) => {
            return Err(UsageError::new(format!("{option}: needs Linux")));
        }
    };
    attached.map_err(|err| UsageError::new(format!("{option}: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = NetworkOptions {
            mtu: Some(9000),
            domain: Some("file".to_owned()),
            publish: vec!["1:1".parse().unwrap()],
            ..NetworkOptions::default()
        };
        let line = NetworkOptions {
            mtu: Some(1400),
            publish: vec!["2:2".parse().unwrap()],
            ..NetworkOptions::default()
        };
        let both = line.over(file);
        assert_eq!(
            (both.mtu, both.domain.as_deref()),
            (Some(1400), Some("file"))
        );
        let ports: Vec<u16> = both.publish.iter().map(|port| port.guest_port).collect();
        assert_eq!(ports, [1, 2]);
    }
}
