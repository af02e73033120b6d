//! A relay on loopback between a client and a server, whose link tests cut, silence, slow, break and heal.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// How much of a server's first words is kept.
const FIRST_WORDS_MAX: usize = 256;

/// How much is carried in one piece.
const PIECE_MAX: usize = 16 * 1024;

/// How much of a request is read before it is refused.
const HEAD_MAX: usize = 64 * 1024;

/// How long a refused client may go on to send its request.
const REFUSED_TIME_MAX: Duration = Duration::from_secs(5);

/// What a server says that has too much to do.
const BUSY: &str = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 126\r\n\r\n\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// How a link carries what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// As it comes.
    Open,
    /// Connections stay, new ones are accepted, and what is said either way waits.
    Silent,
    /// What clients say arrives, and what servers answer waits.
    Unanswered,
    /// Half-open: new connections are accepted, and what is said is lost. Connections that were there are silent for ever,
    /// also after the link is healed: neither side learns that the other has gone.
    Lost,
    /// Connections are ended as they come, and those that were there.
    Cut,
    /// Each piece waits, and takes its time.
    Slow {
        /// How long a piece of at most 16 KiB waits.
        delay: Duration,
        /// How fast it goes afterwards.
        bytes_per_s: u32,
    },
    /// Each request over HTTP is answered with 503, by the relay. Connections that were there are ended.
    Busy,
    /// A connection is reset once so much was said either way.
    Breaking {
        /// How many bytes pass.
        after: usize,
    },
}

/// A relay to one server.
#[derive(Debug)]
pub struct Relay {
    address: String,
    link: watch::Sender<Link>,
    first_words: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
    runtime: Handle,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    flow: Flow,
    /// How often the flow was changed.
    changes: u64,
    /// A connection that was there at a cut is gone, however soon it was healed.
    cuts: u64,
    /// The same for connections that are lost.
    losses: u64,
}

impl Link {
    fn change(&mut self, flow: Flow) {
        self.flow = flow;
        self.changes += 1;
        self.cuts += u64::from(matches!(flow, Flow::Cut | Flow::Busy));
        self.losses += u64::from(flow == Flow::Lost);
    }
}

impl Relay {
    /// Listens for connections to the server at `target`, which need not be there yet.
    ///
    /// # Errors
    /// If no port of loopback is to be had.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a relay listens on loopback")?;
        let address = listener.local_addr()?.to_string();
        let (link, seen) = watch::channel(Link { flow: Flow::Open, changes: 0, cuts: 0, losses: 0 });
        let first_words = Arc::default();
        let listening = tokio::spawn(listen(listener, target.to_owned(), seen, Arc::clone(&first_words)));
        Ok(Self { address, link, first_words, listening, runtime: Handle::current() })
    }

    /// Where to connect to instead of to the server, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Changes how the link carries what is said.
    pub fn set(&self, flow: Flow) {
        self.link.send_modify(|link| link.change(flow));
    }

    /// The same for a while: the link is healed afterwards, unless it was changed meanwhile.
    pub fn set_for(&self, flow: Flow, time: Duration) {
        self.set(flow);
        let (link, changes) = (self.link.clone(), self.link.borrow().changes);
        self.runtime.spawn(async move {
            sleep(time).await;
            link.send_if_modified(|link| {
                let is_ours = link.changes == changes;
                if is_ours {
                    link.change(Flow::Open);
                }
                is_ours
            });
        });
    }

    /// Ends all connections, and new ones as they come.
    pub fn cut(&self) {
        self.set(Flow::Cut);
    }

    /// Lets nothing through either way; connections stay, new ones are accepted.
    pub fn silence(&self) {
        self.set(Flow::Silent);
    }

    /// Lets everything through again, also what was said while it was silent.
    pub fn heal(&self) {
        self.set(Flow::Open);
    }

    /// What the server said first on the youngest connection on which it said anything, as far as it came at once.
    pub fn first_words(&self) -> Vec<u8> {
        self.first_words.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Its connections end with it.
        self.listening.abort();
    }
}

async fn listen(
    listener: TcpListener,
    target: String,
    link: watch::Receiver<Link>,
    first_words: Arc<Mutex<Vec<u8>>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((client, _)) = accepted else { continue };
        let now = *link.borrow();
        if now.flow == Flow::Cut {
            continue;
        }
        let (target, link, first_words) = (target.clone(), link.clone(), Arc::clone(&first_words));
        connections.spawn(async move {
            let mut until = link.clone();
            tokio::select! {
                () = connect(client, &target, &link, now, &first_words) => {}
                _ = until.wait_for(|link| link.cuts != now.cuts) => {}
            }
        });
    }
}

/// One connection, until both sides have said everything or one of them broke.
async fn connect(
    mut client: TcpStream,
    target: &str,
    link: &watch::Receiver<Link>,
    now: Link,
    first_words: &Mutex<Vec<u8>>,
) {
    if now.flow == Flow::Busy {
        return refuse(client).await;
    }
    if now.flow == Flow::Lost {
        return swallow(&mut client).await;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    // Small answers are not to wait for more of them.
    let is_prompt = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    if is_prompt.is_err() {
        return;
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let mut until = link.clone();
    let answers = |words: &[u8]| {
        let length = words.len().min(FIRST_WORDS_MAX);
        *first_words.lock().unwrap_or_else(PoisonError::into_inner) = words[..length].to_vec();
    };
    let carrying = async {
        tokio::try_join!(
            carry(from_client, to_server, link.clone(), Way::There, |_| ()),
            carry(from_server, to_client, link.clone(), Way::Back, answers)
        )
    };
    let lost = async { until.wait_for(|link| link.losses != now.losses).await.map(|_| ()) };
    let carried = tokio::select! {
        carried = carrying => Some(carried),
        _ = lost => None,
    };
    match carried {
        Some(Ok(_)) => {}
        // Without this both sides would learn that the other one had said everything.
        Some(Err(Reset)) => drop(client.set_zero_linger().and_then(|()| server.set_zero_linger())),
        // The server keeps its side open, too.
        None => swallow(&mut client).await,
    }
}

/// Reads a request over HTTP and says no.
async fn refuse(mut client: TcpStream) {
    let mut head = Vec::new();
    while head.len() < HEAD_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if !matches!(client.read_buf(&mut head).await, Ok(1..)) {
            return;
        }
    }
    if client.write_all(BUSY.as_bytes()).await.is_ok() && client.shutdown().await.is_ok() {
        // What is closed unread takes the answer with it.
        drop(timeout(REFUSED_TIME_MAX, swallow(&mut client)).await);
    }
}

/// Hears all that a client says, until it has said everything.
async fn swallow(client: &mut TcpStream) {
    let mut buffer = vec![0; PIECE_MAX];
    while let Ok(1..) = client.read(&mut buffer).await {}
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// The connection is to be reset.
struct Reset;

async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
    way: Way,
    mut first: impl FnMut(&[u8]),
) -> Result<(), Reset> {
    let mut buffer = vec![0; PIECE_MAX];
    let mut is_first = true;
    let (mut counted_since, mut counted) = (0, 0);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let passes =
            |link: &Link| link.flow != Flow::Silent && (link.flow != Flow::Unanswered || way == Way::There);
        let Ok(now) = link.wait_for(passes).await.map(|link| *link) else { return Ok(()) };
        if std::mem::take(&mut is_first) {
            first(&buffer[..length]);
        }
        match now.flow {
            Flow::Slow { delay, bytes_per_s } => {
                let length = u32::try_from(length).expect("a piece is small");
                sleep(delay + Duration::from_secs(1) * length / bytes_per_s.max(1)).await;
            }
            Flow::Breaking { after } => {
                if counted_since != now.changes {
                    (counted_since, counted) = (now.changes, 0);
                }
                if counted + length > after {
                    drop(to.write_all(&buffer[..after - counted]).await);
                    return Err(Reset);
                }
                counted += length;
            }
            Flow::Open | Flow::Silent | Flow::Unanswered | Flow::Lost | Flow::Cut | Flow::Busy => {}
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return Ok(());
        }
    }
    // The other side has gone, or takes nothing any more: there is nobody to tell.
    drop(to.shutdown().await);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A server that says again what it hears, once for each connection's line.
    async fn echo() -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.unwrap_or_default();
                });
            }
        });
        Ok(address)
    }

    async fn say(stream: &mut TcpStream, words: &[u8]) -> Result<Vec<u8>> {
        stream.write_all(words).await?;
        let mut heard = vec![0; words.len()];
        stream.read_exact(&mut heard).await?;
        Ok(heard)
    }

    #[tokio::test]
    async fn a_link_is_cut_silenced_and_healed() -> Result<()> {
        let relay = Relay::to(&echo().await?).await?;
        let mut stream = TcpStream::connect(relay.address()).await?;
        assert_eq!(say(&mut stream, b"one").await?, b"one");
        assert_eq!(relay.first_words(), b"one");

        relay.silence();
        let silent = timeout(Duration::from_millis(50), say(&mut stream, b"two")).await;
        assert!(silent.is_err(), "it let something through");
        relay.heal();
        let mut heard = [0; 3];
        stream.read_exact(&mut heard).await?;
        assert_eq!(&heard, b"two");

        relay.cut();
        relay.heal();
        assert!(say(&mut stream, b"three").await.is_err(), "the connection outlived the cut");
        relay.cut();
        let mut refused = TcpStream::connect(relay.address()).await?;
        assert!(say(&mut refused, b"four").await.is_err(), "a new connection got through");
        relay.heal();
        let mut stream = TcpStream::connect(relay.address()).await?;
        assert_eq!(say(&mut stream, b"five").await?, b"five");
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_that_was_lost_is_silent_for_ever() -> Result<()> {
        let relay = Relay::to(&echo().await?).await?;
        let mut old = TcpStream::connect(relay.address()).await?;
        assert_eq!(say(&mut old, b"one").await?, b"one");
        relay.set(Flow::Lost);
        let mut new = TcpStream::connect(relay.address()).await?;
        new.write_all(b"two").await?;
        old.write_all(b"three").await?;
        // Accepted, so that it has seen how the link is, before it is healed.
        let mut heard = [0; 3];
        assert!(timeout(Duration::from_millis(50), new.read_exact(&mut heard)).await.is_err());
        relay.heal();
        for stream in [&mut old, &mut new] {
            let silent = timeout(Duration::from_millis(50), stream.read_exact(&mut heard)).await;
            assert!(silent.is_err(), "it said something, or ended");
        }
        let mut stream = TcpStream::connect(relay.address()).await?;
        assert_eq!(say(&mut stream, b"four").await?, b"four");
        Ok(())
    }

    #[tokio::test]
    async fn answers_wait_while_requests_arrive() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let relay = Relay::to(&listener.local_addr()?.to_string()).await?;
        relay.set(Flow::Unanswered);
        let mut client = TcpStream::connect(relay.address()).await?;
        let (mut server, _) = listener.accept().await?;
        client.write_all(b"ask").await?;
        let mut heard = [0; 3];
        server.read_exact(&mut heard).await?;
        assert_eq!(&heard, b"ask");
        server.write_all(b"yes").await?;
        let early = timeout(Duration::from_millis(50), client.read_exact(&mut heard)).await;
        assert!(early.is_err(), "it was answered");
        relay.heal();
        client.read_exact(&mut heard).await?;
        assert_eq!(&heard, b"yes");
        Ok(())
    }

    #[tokio::test]
    async fn a_slow_link_takes_its_time_and_loses_nothing() -> Result<()> {
        let relay = Relay::to(&echo().await?).await?;
        let mut stream = TcpStream::connect(relay.address()).await?;
        relay.set(Flow::Slow { delay: Duration::from_millis(20), bytes_per_s: 1_000 });
        let began = Instant::now();
        assert_eq!(say(&mut stream, &[7; 100]).await?, [7; 100]);
        // Both ways.
        assert!(began.elapsed() >= Duration::from_millis(2 * (20 + 100)), "{:?}", began.elapsed());
        Ok(())
    }

    #[tokio::test]
    async fn requests_are_refused_whole() -> Result<()> {
        let relay = Relay::to(&echo().await?).await?;
        relay.set(Flow::Busy);
        let mut stream = TcpStream::connect(relay.address()).await?;
        stream.write_all(b"PUT /a/b HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").await?;
        stream.write_all(&vec![7; 100_000]).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no body")?;
        assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
        assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        assert!(body.ends_with("</Error>"), "{body}");
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_is_reset_in_the_middle() -> Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let relay = Relay::to(&listener.local_addr()?.to_string()).await?;
        relay.set(Flow::Breaking { after: 10 });
        let mut client = TcpStream::connect(relay.address()).await?;
        let (mut server, _) = listener.accept().await?;
        client.write_all(&[7; 15]).await?;
        let mut heard = Vec::new();
        let ended = server.read_to_end(&mut heard).await;
        assert_eq!(ended.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
        assert!(heard.len() <= 10, "{heard:?}");
        Ok(())
    }

    #[tokio::test]
    async fn a_link_heals_after_its_time() -> Result<()> {
        let relay = Relay::to(&echo().await?).await?;
        relay.set_for(Flow::Silent, Duration::from_millis(20));
        let mut stream = TcpStream::connect(relay.address()).await?;
        assert_eq!(say(&mut stream, b"one").await?, b"one");
        // What came later stays.
        relay.set_for(Flow::Silent, Duration::from_millis(20));
        relay.cut();
        sleep(Duration::from_millis(60)).await;
        let mut refused = TcpStream::connect(relay.address()).await?;
        assert!(say(&mut refused, b"two").await.is_err(), "a new connection got through");
        Ok(())
    }
}
