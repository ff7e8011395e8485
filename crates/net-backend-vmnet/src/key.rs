//! The names of vmnet.framework's dictionaries, and from which release of macOS they are there.
//!
//! The framework exports each name as a variable that holds a string; the string itself is its own
//! affair. What is named here is the variable, which the binding looks up when the program runs:
//! a name that is newer than the system is then missing, and nothing fails to load.

use std::ffi::CStr;
use std::fmt;

/// A release of macOS: major and minor number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct MacosRelease(pub u8, pub u8);

impl fmt::Display for MacosRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(f, "macOS {}", self.0),
            minor => write!(f, "macOS {}.{minor}", self.0),
        }
    }
}

/// Defines the keys with their variables, kinds of value, and releases in one table.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal, $kind:ident, $major:literal . $minor:literal;)*) => {
        /// A name in one of the framework's dictionaries.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub(crate) enum Key {
            $($(#[$doc])* $name,)*
        }

        impl Key {
            /// Every key.
            pub(crate) const ALL: &[Self] = &[$(Self::$name,)*];

            /// The variable of the framework that holds the name.
            pub(crate) const fn symbol(self) -> &'static CStr {
                match self {
                    $(Self::$name => $symbol,)*
                }
            }

            /// What the dictionary holds under the name.
            pub(crate) const fn kind(self) -> Kind {
                match self {
                    $(Self::$name => Kind::$kind,)*
                }
            }

            /// The first release that has the name (availability in `vmnet.h`).
            pub(crate) const fn since(self) -> MacosRelease {
                match self {
                    $(Self::$name => MacosRelease($major, $minor),)*
                }
            }
        }
    };
}

keys! {
    /// Shared, host-only or bridged. Request.
    OperationMode = c"vmnet_operation_mode_key", Number, 10 . 10;
    /// The physical interface of a bridged one. Request.
    SharedInterfaceName = c"vmnet_shared_interface_name_key", Text, 10 . 15;
    /// The guest's hardware address. Reply.
    MacAddress = c"vmnet_mac_address_key", Text, 10 . 10;
    /// Whether to make one up; yes by default. Request.
    AllocateMacAddress = c"vmnet_allocate_mac_address_key", Flag, 10 . 15;
    /// Largest IP packet in bytes. Request (not bridged) and reply.
    Mtu = c"vmnet_mtu_key", Number, 10 . 10;
    /// Longest frame in bytes. Reply.
    MaxPacketSize = c"vmnet_max_packet_size_key", Number, 10 . 10;
    /// The identity of the interface; the same gets the same hardware address. Request and reply.
    InterfaceId = c"vmnet_interface_id_key", Uuid, 10 . 10;
    /// The gateway, and the beginning of the DHCP range. Request and reply.
    StartAddress = c"vmnet_start_address_key", Text, 10 . 15;
    /// The end of the DHCP range. Request and reply.
    EndAddress = c"vmnet_end_address_key", Text, 10 . 15;
    /// The mask of the subnet. Request and reply.
    SubnetMask = c"vmnet_subnet_mask_key", Text, 10 . 15;
    /// The prefix of IPv6 behind the NAT. Request and reply.
    Nat66Prefix = c"vmnet_nat66_prefix_key", Text, 10 . 15;
    /// How many packets wait, about. Event.
    EstimatedPackets = c"vmnet_estimated_packets_available_key", Number, 10 . 10;
    /// An isolated host-only network, by identity, without DHCP. Request.
    NetworkIdentifier = c"vmnet_network_identifier_key", Uuid, 11 . 0;
    /// The host's address on such a network. Request.
    HostIpAddress = c"vmnet_host_ip_address_key", Text, 11 . 0;
    /// The mask that belongs to it. Request.
    HostSubnetMask = c"vmnet_host_subnet_mask_key", Text, 11 . 0;
    /// The host's IPv6 address on such a network. Request.
    HostIpv6Address = c"vmnet_host_ipv6_address_key", Text, 11 . 0;
    /// Super-frames of TCP in both directions. Request.
    EnableTso = c"vmnet_enable_tso_key", Flag, 11 . 0;
    /// No frames between this interface and others. Request.
    EnableIsolation = c"vmnet_enable_isolation_key", Flag, 11 . 0;
    /// The framework computes and verifies checksums. Request.
    EnableChecksumOffload = c"vmnet_enable_checksum_offload_key", Flag, 12 . 0;
    /// A `virtio_net_hdr` of 12 bytes in front of each frame. Request.
    EnableVirtioHeader = c"vmnet_enable_virtio_header_key", Flag, 15 . 4;
    /// Most packets of one read. Reply.
    ReadMaxPackets = c"vmnet_read_max_packets_key", Number, 15 . 0;
    /// Most packets of one write. Reply.
    WriteMaxPackets = c"vmnet_write_max_packets_key", Number, 15 . 0;
}

/// The kind of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Number,
    Text,
    Flag,
    Uuid,
}

/// A value of a dictionary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Number(u64),
    Text(String),
    Flag(bool),
    Uuid([u8; 16]),
}

/// What is asked of the framework, or what it answered.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Dictionary(Vec<(Key, Value)>);

impl Dictionary {
    pub(crate) fn set(&mut self, key: Key, value: Value) {
        self.0.push((key, value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Key, Value)> {
        self.0.iter()
    }

    fn get(&self, wanted: Key) -> Option<&Value> {
        self.0
            .iter()
            .find_map(|(key, value)| (*key == wanted).then_some(value))
    }

    /// A number; `None` if it is missing or something else.
    pub(crate) fn number(&self, key: Key) -> Option<u64> {
        match self.get(key) {
            Some(Value::Number(value)) => Some(*value),
            _ => None,
        }
    }

    /// A text that reads as `T`; `None` if it is missing, something else or unreadable.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, key: Key) -> Option<T> {
        match self.get(key) {
            Some(Value::Text(text)) => text.trim().parse().ok(),
            _ => None,
        }
    }

    /// An identity; `None` if it is missing or something else.
    pub(crate) fn uuid(&self, key: Key) -> Option<[u8; 16]> {
        match self.get(key) {
            Some(Value::Uuid(bytes)) => Some(*bytes),
            _ => None,
        }
    }
}
