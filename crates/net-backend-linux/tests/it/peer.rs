//! A host in a network namespace of its own, which does what the test tells it by its standard input:
//! one line a question, one line an answer.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use net_backend_linux::netlink::{Netlink, Route, VethEnd};

use crate::settings;

/// The port that every peer serves.
const PORT: u16 = 80;
/// How long a question may go unanswered before it counts as lost: namespaces of one machine answer in
/// microseconds.
const PATIENCE: Duration = Duration::from_millis(700);

/// Datagrams that this peer has heard.
static HEARD: AtomicUsize = AtomicUsize::new(0);

/// The process in its namespace; it ends with this.
pub(crate) struct Peer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    namespace: File,
}

impl Peer {
    /// Starts one, if there is the program `unshare`.
    pub(crate) fn start(name: &str) -> Option<Self> {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("unshare")
            .arg("--net")
            .arg(program)
            .args(["inside", "peer", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let questions = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        let namespace = File::open(format!("/proc/{}/ns/net", child.id())).expect("its namespace");
        Some(Self {
            child,
            questions,
            answers,
            namespace,
        })
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, question: &str) -> String {
        let questions = self.questions.as_mut().expect("it lives");
        writeln!(questions, "{question}").expect("a question");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        assert!(line.ends_with('\n'), "the peer ended on {question}");
        line.trim().to_owned()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends with its input.
        self.questions = None;
        let _ = self.child.wait();
    }
}

/// Makes a pair from `name` here to `eth0` there.
pub(crate) fn wire(netlink: &Netlink, name: &str, peer: &Peer) {
    let far = VethEnd {
        netns: Some(peer.namespace.as_fd()),
        ..VethEnd::named("eth0")
    };
    netlink
        .create_veth(&VethEnd::named(name), &far)
        .expect("a pair");
}

/// The peer's own part.
pub(crate) fn main(name: &str) {
    let netlink = Netlink::new().expect("netlink");
    netlink
        .set_up(netlink.link("lo").expect("lo").index)
        .expect("up");
    serve(name.to_owned());
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line.expect("a line");
        println!("{}", answer(&netlink, &line));
    }
}

fn answer(netlink: &Netlink, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    match words[..] {
        ["up", ref addresses @ .., four, six] => {
            let index = netlink.link("eth0").expect("eth0").index;
            netlink.set_up(index).expect("up");
            for address in addresses {
                netlink
                    .add_address(index, address.parse().expect("an address"))
                    .expect("an address");
            }
            for router in [ip(four), ip(six)] {
                let mut route = Route::default_via(router, index);
                // A second set of addresses has its default routes behind those of the first.
                route.metric =
                    Some(u32::try_from(netlink.routes(index).expect("routes").len()).expect("few"));
                netlink.add_route(&route).expect("a route");
            }
            "up".into()
        }
        // 127.0.0.0/8 by way of a router, as only a hostile guest has it.
        ["loopback-by", router] => {
            let index = netlink.link("eth0").expect("eth0").index;
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("a sysctl");
            netlink
                .delete_address(
                    netlink.link("lo").expect("lo").index,
                    "127.0.0.1/8".parse().expect("an address"),
                )
                .expect("no loopback");
            let network = "127.0.0.0/8".parse().expect("a network");
            netlink
                .add_route(&Route::new(network, Some(ip(router)), index))
                .expect("a route");
            "gone".into()
        }
        ["hear-routers"] => {
            settings::hear_routers(netlink);
            "up".into()
        }
        ["solicit", hops, kind, ref more @ ..] => {
            let number = |text: &str| text.parse::<u32>().expect("a number");
            let more = more.first().map_or(0, |text| number(text));
            let kind = u8::try_from(number(kind)).expect("a type");
            settings::solicit(number(hops), kind, more as usize);
            "sent".into()
        }
        ["address-in", network] => {
            settings::address_in(netlink, network);
            "yes".into()
        }
        ["link-local"] => settings::link_local(netlink).to_string(),
        // How many datagrams have arrived since this was asked last.
        ["heard"] => HEARD.swap(0, Ordering::SeqCst).to_string(),
        ["mac"] => {
            let link = netlink.link("eth0").expect("eth0");
            link.mac.expect("a MAC").to_string()
        }
        _ => question(line),
    }
}

/// Who answered, and which address it saw; `none` if nobody did.
pub(crate) fn question(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let answer = match words[..] {
        ["tcp", server] => tcp(address(server)),
        ["udp", server] => udp(None, address(server)),
        ["udp-from", source, server] => udp(source.parse().ok(), address(server)),
        _ => panic!("no such question: {line}"),
    };
    answer.unwrap_or_else(|_| "none".into())
}

fn tcp(server: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn udp(source: Option<IpAddr>, server: SocketAddr) -> std::io::Result<String> {
    let any = if server.is_ipv4() { "0.0.0.0" } else { "::" };
    let source = source.unwrap_or_else(|| any.parse().expect("an address"));
    let socket = UdpSocket::bind((source, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"who?")?;
    let mut buffer = [0; 200];
    let n = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

/// Tells everybody who asks which address was seen.
fn serve(name: String) {
    let listener = TcpListener::bind(("::", PORT)).expect("a listener");
    let socket = UdpSocket::bind(("::", PORT)).expect("a socket");
    let text = move |client: SocketAddr| format!("{name} saw {}", client.ip().to_canonical());
    let same = text.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            if let Ok(client) = stream.peer_addr() {
                let _ = stream.write_all(text(client).as_bytes());
            }
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 200];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            HEARD.fetch_add(1, Ordering::SeqCst);
            let _ = socket.send_to(same(client).as_bytes(), client);
        }
    });
}
