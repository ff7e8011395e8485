//! The answering side of a control socket: one thread for all clients.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use super::connection::Connection;
use super::message::{Reply, Request};

/// Clients that may be connected at a time; one more is told so.
pub const MAX_CLIENTS: usize = 16;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
/// How long to leave the listener alone after it refused: no descriptor is left, for example.
const PAUSE: Duration = Duration::from_millis(200);

/// What carries requests out. They come one after the other, from whichever client.
pub trait Handler: Send + 'static {
    /// Carries out one request. While it works nobody else is answered.
    fn handle(&mut self, request: Request) -> Reply;
}

/// Makes a control socket at `path`, for this user alone. What stands there is removed first if it
/// is a socket: the caller knows that nobody answers at it, because it holds the network's lock.
///
/// The directory must be its owner's alone: between the socket's making and its mode another user
/// could open it otherwise.
///
/// # Errors
/// What the host said: a path longer than a socket's address holds, a directory that is not there.
pub fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    use std::os::unix::fs::FileTypeExt;

    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The thread that answers. Dropping it ends the thread and every conversation; the socket's path
/// is the caller's to remove.
#[derive(Debug)]
pub struct ControlServer {
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Starts to answer at `listener`.
    ///
    /// # Errors
    /// What the host said to an event queue, a thread, or the listener.
    pub fn start(
        listener: std::os::unix::net::UnixListener,
        handler: impl Handler,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut listener = UnixListener::from_std(listener);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let mut answering = Answering {
            poll,
            listener,
            retry: None,
            clients: Slab::new(),
            handler,
            epoch: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                if let Err(err) = answering.run() {
                    log::error!("the control socket is out of order: {err}");
                }
            })?;
        Ok(Self {
            waker,
            thread: Some(thread),
        })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // A thread that has ended already cannot be woken.
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread of the control socket panicked");
        }
    }
}

/// A client and its socket.
struct Peer {
    stream: UnixStream,
    connection: Connection,
}

struct Answering<H> {
    poll: Poll,
    listener: UnixListener,
    /// Clients may wait at the listener that no event will speak of: look again then.
    retry: Option<Duration>,
    clients: Slab<Peer>,
    handler: H,
    epoch: Instant,
}

impl<H: Handler> Answering<H> {
    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            let now = self.epoch.elapsed();
            let deadlines = self.clients.iter().map(|(_, it)| it.connection.deadline());
            let next = deadlines.chain(self.retry).min();
            let timeout = next.map(|at| at.saturating_sub(now));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(err) => return Err(err),
            }
            let now = self.epoch.elapsed();
            for event in &events {
                match event.token() {
                    WAKER => return Ok(()),
                    LISTENER => self.accept(now),
                    Token(key) => self.serve(key, now),
                }
            }
            if self.retry.is_some_and(|at| at <= now) {
                self.accept(now);
            }
            self.clients
                .retain(|_, client| client.connection.deadline() > now);
        }
    }

    fn accept(&mut self, now: Duration) {
        self.retry = None;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.welcome(stream, now),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return,
                Err(err)
                    if matches!(
                        err.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(err) => {
                    log::warn!("the control socket: accept: {err}");
                    self.retry = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    fn welcome(&mut self, mut stream: UnixStream, now: Duration) {
        if self.clients.len() >= MAX_CLIENTS {
            let full = format!("{MAX_CLIENTS} clients are connected already");
            // It goes into an empty socket, or nowhere.
            let _ = stream.write(&Reply::Error(full).to_line());
            return;
        }
        let entry = self.clients.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self
            .poll
            .registry()
            .register(&mut stream, Token(key), interest);
        if let Err(err) = registered {
            log::warn!("the control socket: {err}");
            return;
        }
        entry.insert(Peer {
            stream,
            connection: Connection::new(now),
        });
        // What it sent before it was registered is told by an event of its own.
    }

    /// Reads, answers and writes until the client has to be waited for.
    fn serve(&mut self, key: usize, now: Duration) {
        let Some(client) = self.clients.get_mut(key) else {
            return;
        };
        if !converse(client, &mut self.handler, now) {
            self.clients.remove(key);
        }
    }
}

/// False where the client is done with, or gone.
fn converse(client: &mut Peer, handler: &mut impl Handler, now: Duration) -> bool {
    let Peer { stream, connection } = client;
    let mut buffer = [0; 4096];
    loop {
        while !connection.output().is_empty() {
            match stream.write(connection.output()) {
                Ok(0) => return false,
                Ok(count) => connection.sent(count, now),
                Err(err) if err.kind() == ErrorKind::WouldBlock => return true,
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if connection.is_over() {
            return false;
        }
        if let Some(request) = connection.next_request() {
            log::debug!("control: {request:?}");
            connection.reply(&handler.handle(request));
            continue;
        }
        if !connection.wants_input() {
            // What came was no request and has been answered.
            continue;
        }
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => connection.input(&buffer[..count], now),
            Err(err) if err.kind() == ErrorKind::WouldBlock => return true,
            Err(err) if err.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Client, ControlError};
    use std::sync::mpsc;

    /// Repeats what it was asked to attach.
    struct Echo {
        stopped: mpsc::Sender<()>,
    }

    impl Handler for Echo {
        fn handle(&mut self, request: Request) -> Reply {
            match request {
                Request::Attach { place } => Reply::Error(place),
                Request::Stop => {
                    let _ = self.stopped.send(());
                    Reply::Done
                }
                _ => Reply::Done,
            }
        }
    }

    struct Setup {
        server: Option<ControlServer>,
        path: std::path::PathBuf,
        stopped: mpsc::Receiver<()>,
        _dir: tempfile::TempDir,
    }

    fn setup() -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        let (sender, stopped) = mpsc::channel();
        let server = ControlServer::start(bind(&path).unwrap(), Echo { stopped: sender });
        Setup {
            server: Some(server.unwrap()),
            path,
            stopped,
            _dir: dir,
        }
    }

    fn refused(result: Result<Reply, ControlError>) -> String {
        match result {
            Err(ControlError::Refused(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_its_owner_may_open_it() {
        let setup = setup();
        let mode = fs::metadata(&setup.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control");
        drop(bind(&path).unwrap());
        assert!(path.exists());
        drop(bind(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(bind(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn many_requests_of_one_client_and_of_many() {
        let setup = setup();
        let mut clients: Vec<Client> = (0..MAX_CLIENTS)
            .map(|_| Client::connect(&setup.path).unwrap())
            .collect();
        for round in 0..3 {
            for (n, client) in clients.iter_mut().enumerate() {
                let place = format!("{round} {n}");
                let answer = client.ask(&Request::Attach {
                    place: place.clone(),
                });
                assert_eq!(refused(answer), place);
            }
        }
        assert_eq!(clients[3].ask(&Request::Stop).unwrap(), Reply::Done);
        setup.stopped.recv().unwrap();
    }

    #[test]
    fn one_client_too_many_is_told_and_silent_ones_block_nobody() {
        let setup = setup();
        let mut silent: Vec<_> = (0..MAX_CLIENTS - 1)
            .map(|_| std::os::unix::net::UnixStream::connect(&setup.path).unwrap())
            .collect();
        // Half a request is as good as silence.
        silent[0].write_all(b"{\"version\":").unwrap();
        let mut last = Client::connect(&setup.path).unwrap();
        assert_eq!(last.ask(&Request::Status).unwrap(), Reply::Done);
        let mut more = Client::connect(&setup.path).unwrap();
        assert!(refused(more.ask(&Request::Status)).contains("16 clients"));
        drop(silent);
        drop(more);
        // Their going is told by events, which may be seen after that of the next one's arrival.
        let answered = (0..1000).any(|_| {
            let mut next = Client::connect(&setup.path).unwrap();
            next.ask(&Request::Status).is_ok()
        });
        assert!(answered);
    }

    #[test]
    fn nonsense_ends_that_conversation_alone() {
        let setup = setup();
        let mut polite = Client::connect(&setup.path).unwrap();
        let mut rude = std::os::unix::net::UnixStream::connect(&setup.path).unwrap();
        rude.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        rude.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("no message of the control protocol"));
        assert_eq!(polite.ask(&Request::Status).unwrap(), Reply::Done);
    }

    #[test]
    fn its_end_is_told_and_an_absent_one_named() {
        let mut setup = setup();
        let mut client = Client::connect(&setup.path).unwrap();
        assert_eq!(client.ask(&Request::Status).unwrap(), Reply::Done);
        setup.server = None;
        let error = client.ask(&Request::Status).unwrap_err();
        assert!(matches!(
            error,
            ControlError::HungUp | ControlError::Broken(_)
        ));
        let error = Client::connect(&setup.path).unwrap_err();
        assert!(
            error
                .to_string()
                .contains(&setup.path.display().to_string())
        );
    }
}
