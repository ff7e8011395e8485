//! What a running network answers at its control socket.

use std::net::Ipv4Addr;

use net_manager::control::{
    AttachmentReport, GuestReport, Handler, NetworkReport, PublishedReport, Reply, Request,
};
use net_manager::{AttachmentInfo, PublishedAs, PublishedPort};

use super::{Attached, Published, Server, published_address};
use crate::place::Place;
use crate::usage::UsageError;

impl Handler for Server {
    fn handle(&mut self, request: Request) -> Reply {
        let done = match request {
            Request::Status => self.report().map(|report| Reply::Status(Box::new(report))),
            Request::Publish { port, guest } => self.publish_later(&port, guest.as_deref()),
            Request::Unpublish { port } => self.unpublish(&port).map(|()| Reply::Done),
            Request::Attach { place } => self.attach_later(&place),
            Request::Detach { name } => self.detach(&name).map(|()| Reply::Done),
            // Whoever reads the control socket ends the network, and this process with it.
            Request::Stop => Ok(Reply::Done),
        };
        done.unwrap_or_else(|err| Reply::Error(err.to_string()))
    }
}

impl Server {
    fn publish_later(&mut self, port: &str, guest: Option<&str>) -> Result<Reply, UsageError> {
        let mut port: PublishedPort = port.parse()?;
        if port.bind.port() != 0 && self.find(&port).is_some() {
            let (protocol, bind) = (port.protocol, port.bind);
            let already = format!("{protocol} port {bind} is published already");
            return Err(UsageError::new(already));
        }
        port.guest = guest.map(|guest| self.address_of(guest)).transpose()?;
        let is = self.publish(port.clone())?;
        Ok(Reply::Published(published(&port, &is)))
    }

    /// A guest by its name, or an address as it is.
    fn address_of(&self, guest: &str) -> Result<Ipv4Addr, UsageError> {
        let named = self.attached.iter().find(|it| it.info.name == guest);
        let address = named.map(|it| it.info.address);
        address
            .or_else(|| guest.parse().ok())
            .ok_or_else(|| UsageError::new(format!("no guest is called `{guest}`")))
    }

    fn find(&self, port: &PublishedPort) -> Option<usize> {
        let is = |it: &Published| {
            let asked = it.port.bind == port.bind || it.is.address == port.bind;
            it.port.protocol == port.protocol && asked
        };
        self.published.iter().position(is)
    }

    fn unpublish(&mut self, text: &str) -> Result<(), UsageError> {
        let (protocol, bind) = published_address(text)?;
        let wanted = PublishedPort {
            protocol,
            bind,
            guest: None,
            guest_port: 1,
        };
        let found = self.find(&wanted);
        let found =
            found.ok_or_else(|| UsageError::new(format!("port {text} is not published")))?;
        let port = self.published.remove(found);
        Ok(self.network.unpublish(port.is.id)?)
    }

    fn attach_later(&mut self, text: &str) -> Result<Reply, UsageError> {
        let place: Place = text.parse()?;
        if !place.can_join_later() {
            return Err(UsageError::new(format!(
                "{place}: has to be there when the network starts"
            )));
        }
        if self.attached.iter().any(|it| it.place == place) {
            return Err(UsageError::new(format!("{place}: is attached already")));
        }
        let with_addresses = self.gives_addresses();
        let attached = self.attach(&place)?;
        let report = attachment(attached, &attached.info, with_addresses);
        Ok(Reply::Attached(report))
    }

    fn report(&self) -> Result<NetworkReport, UsageError> {
        let config = self.network.config();
        let status = self.network.status()?;
        let connected = |name: &str| {
            let mut all = status.attachments.iter();
            all.find(|info| info.name == name)
        };
        let attachments = self.attached.iter().map(|it| {
            let now = connected(&it.info.name).unwrap_or(&it.info);
            attachment(it, now, self.gives_addresses())
        });
        let guests = status.ports.iter().map(|(name, counted)| GuestReport {
            name: name.clone(),
            sent_frames: counted.sent_frames,
            sent_bytes: counted.sent_bytes,
            received_frames: counted.received_frames,
            received_bytes: counted.received_bytes,
            dropped_frames: counted.queue_drops
                + counted.pool_drops
                + counted.offload_drops
                + counted.oversize_drops,
        });
        let published = self.published.iter().map(|it| published(&it.port, &it.is));
        Ok(NetworkReport {
            name: config.name.clone(),
            pid: self.about.pid,
            mode: config.mode.to_string(),
            engine: self.about.engine.clone(),
            why: self.about.why.clone(),
            subnet: config.subnet.to_string(),
            subnet6: status.prefix6.map(|prefix| prefix.to_string()),
            no_ipv6: status.no_ipv6.clone(),
            uplink: status.uplink.as_ref().map(Into::into),
            gateway: match self.gives_addresses() {
                true => Some(self.network.gateway()?),
                false => None,
            },
            mtu: config.mtu,
            confinement: self.about.confinement.clone(),
            attachments: attachments.collect(),
            published: published.collect(),
            guests: guests.collect(),
            switch: status.switch.into(),
        })
    }
}

/// An attachment as it is now.
pub(super) fn attachment(
    attached: &Attached,
    now: &AttachmentInfo,
    with_addresses: bool,
) -> AttachmentReport {
    AttachmentReport {
        name: now.name.clone(),
        place: attached.place.to_string(),
        address: with_addresses.then_some(now.address),
        mac: attached.mac.clone(),
        device: attached.device.clone(),
        connected: now.connected,
    }
}

fn published(port: &PublishedPort, is: &PublishedAs) -> PublishedReport {
    PublishedReport {
        protocol: port.protocol.to_string(),
        address: is.address,
        guest: is.guest,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::host::local::Local;
    use crate::options::NetworkOptions;
    use crate::server::About;

    fn server(places: &[Place], publish: &[&str]) -> Result<Server, UsageError> {
        let options = NetworkOptions {
            publish: publish.iter().map(|port| port.parse().unwrap()).collect(),
            dns: vec!["127.0.0.1:1".parse().unwrap()],
            ..NetworkOptions::default()
        };
        let mut config = options.config("test").unwrap();
        config.engine = net_manager::Engine::User;
        let about = About {
            engine: "user".into(),
            why: "a test".into(),
            confinement: "none".into(),
            pid: 1,
            announce: false,
        };
        let host = Box::new(Arc::new(Mutex::new(Local::default())));
        let mut server = Server::new(config, about, host);
        server.start()?;
        server.open_places(places)?;
        Ok(server)
    }

    fn status(server: &mut Server) -> NetworkReport {
        match server.handle(Request::Status) {
            Reply::Status(report) => *report,
            other => panic!("{other:?}"),
        }
    }

    fn error(server: &mut Server, request: Request) -> String {
        match server.handle(request) {
            Reply::Error(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn places_come_and_go_with_their_ports() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let first = Place::QemuStream(path("a"));
        let mut server = server(std::slice::from_ref(&first), &["127.0.0.1:0:80"]).unwrap();
        let report = status(&mut server);
        assert_eq!(report.attachments.len(), 1);
        assert_eq!(report.attachments[0].place, first.to_string());
        assert_eq!(report.published.len(), 1);

        let place = Place::Vfkit(path("b")).to_string();
        let attach = || Request::Attach {
            place: place.clone(),
        };
        let Reply::Attached(second) = server.handle(attach()) else {
            panic!("not attached")
        };
        assert!(path("b").exists());
        assert!(error(&mut server, attach()).contains("already"));
        let publish = |port: &str, guest: Option<&str>| Request::Publish {
            port: port.into(),
            guest: guest.map(Into::into),
        };
        let Reply::Published(port) =
            server.handle(publish("127.0.0.1:0:81/udp", Some(&second.name)))
        else {
            panic!("not published")
        };
        assert_eq!(
            port.guest,
            (std::net::IpAddr::from(second.address.unwrap()), 81).into()
        );
        assert!(error(&mut server, publish("1:1", Some("nobody"))).contains("`nobody`"));
        assert!(error(&mut server, publish("1", None)).contains("`1`"));

        let detach = |name: &str| Request::Detach { name: name.into() };
        assert_eq!(server.handle(detach(&second.name)), Reply::Done);
        assert!(!path("b").exists());
        let report = status(&mut server);
        assert_eq!((report.attachments.len(), report.published.len()), (1, 1));
        assert!(error(&mut server, detach(&second.name)).contains("no guest"));
        assert!(std::net::UdpSocket::bind(port.address).is_ok());

        let (address, protocol) = (report.published[0].address, "tcp");
        let unpublish = || Request::Unpublish {
            port: format!("{address}/{protocol}"),
        };
        assert_eq!(server.handle(unpublish()), Reply::Done);
        assert!(error(&mut server, unpublish()).contains("is not published"));
        assert!(status(&mut server).published.is_empty());
    }

    #[test]
    fn status_says_why_frames_were_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let (place, own) = (dir.path().join("a"), dir.path().join("guest"));
        let mut server = server(&[Place::Vfkit(place.clone())], &[]).unwrap();
        let guest = std::os::unix::net::UnixDatagram::bind(own).unwrap();
        // From a group's address.
        guest.send_to(&[0xff; 60], place).unwrap();
        let drops = loop {
            let drops = status(&mut server).switch.drops;
            if !drops.is_empty() {
                break drops;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        assert_eq!(drops, [("bad-source".to_owned(), 1)].into());
    }

    #[test]
    fn what_cannot_join_later_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = server(&[Place::QemuDgram(dir.path().join("a"))], &[]).unwrap();
        for (place, says) in [
            ("vz-fd:9", "when the network starts"),
            ("vmnet:shared", "when the network starts"),
            ("command:", "no place"),
            ("child:", "no place"),
            ("star:x", "no place"),
        ] {
            let why = error(
                &mut server,
                Request::Attach {
                    place: place.into(),
                },
            );
            assert!(why.contains(says), "{place}: {why}");
        }
        let unpublish = Request::Unpublish { port: "x".into() };
        assert!(error(&mut server, unpublish).contains("`x`"));
        assert_eq!(status(&mut server).attachments.len(), 1);
    }

    #[test]
    fn a_start_that_fails_leaves_no_path() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("no").join("b"));
        let places = [Place::QemuStream(a.clone()), Place::QemuStream(b)];
        let error = server(&places, &[]).err().unwrap().to_string();
        assert!(error.contains("no/b"), "{error}");
        assert!(!a.exists());
    }
}
