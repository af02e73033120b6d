//! A relay on loopback between a client and a server, whose link tests cut, silence and heal.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How much of a server's first words is kept.
const FIRST_WORDS_MAX: usize = 256;

/// A relay to one server.
#[derive(Debug)]
pub struct Relay {
    address: String,
    link: watch::Sender<Link>,
    first_words: Arc<Mutex<Vec<u8>>>,
    listening: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Open,
    /// Connections stay, and what is said waits.
    Silent,
    /// Connections are ended as they come.
    Cut,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    flow: Flow,
    /// A connection that was there at a cut is gone, however soon it was healed.
    cuts: u64,
}

impl Relay {
    /// Listens for connections to the server at `target`.
    ///
    /// # Errors
    /// If no port of loopback is to be had.
    pub async fn to(target: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a relay listens on loopback")?;
        let address = listener.local_addr()?.to_string();
        let (link, seen) = watch::channel(Link { flow: Flow::Open, cuts: 0 });
        let first_words = Arc::default();
        let listening = tokio::spawn(listen(listener, target.to_owned(), seen, Arc::clone(&first_words)));
        Ok(Self { address, link, first_words, listening })
    }

    /// Where to connect to instead of to the server, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Ends all connections, and new ones as they come.
    pub fn cut(&self) {
        self.link.send_modify(|link| {
            link.flow = Flow::Cut;
            link.cuts += 1;
        });
    }

    /// Lets nothing through either way; connections stay, new ones are accepted.
    pub fn silence(&self) {
        self.link.send_modify(|link| link.flow = Flow::Silent);
    }

    /// Lets everything through again, also what was said while it was silent.
    pub fn heal(&self) {
        self.link.send_modify(|link| link.flow = Flow::Open);
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
        let (target, mut link, first_words) = (target.clone(), link.clone(), Arc::clone(&first_words));
        connections.spawn(async move {
            let mut until = link.clone();
            tokio::select! {
                () = connect(client, &target, &mut link, &first_words) => {}
                _ = until.wait_for(|link| link.cuts != now.cuts) => {}
            }
        });
    }
}

/// One connection, until both sides have said everything or one of them broke.
async fn connect(
    client: TcpStream,
    target: &str,
    link: &mut watch::Receiver<Link>,
    first_words: &Mutex<Vec<u8>>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut back = link.clone();
    tokio::join!(
        carry(from_client, to_server, link, |_| ()),
        carry(from_server, to_client, &mut back, |words| {
            let length = words.len().min(FIRST_WORDS_MAX);
            *first_words.lock().unwrap_or_else(PoisonError::into_inner) = words[..length].to_vec();
        })
    );
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    link: &mut watch::Receiver<Link>,
    mut first: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; 16 * 1024];
    let mut is_first = true;
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if link.wait_for(|link| link.flow != Flow::Silent).await.is_err() {
            return;
        }
        if std::mem::take(&mut is_first) {
            first(&buffer[..length]);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

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
}
