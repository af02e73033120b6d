//! How a client reaches a server: over TCP, or, if both are in one process, through memory.
//!
//! What travels is the same either way: requests and answers of HTTP, signed. A connection through memory costs no system
//! calls and no file descriptors; everything above it, the limits of the server included, cannot tell the difference.

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tower_service::Service;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Time to open a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections in this process that wait to be accepted. Who comes later waits to be let in.
const WAITING_MAX: usize = 64;
/// Bytes on their way in one direction of a connection in this process, at most: a server reads 64 KiB at once, so that its
/// client can write on meanwhile. The memory is taken when it is used.
const BUFFER_BYTES: usize = 128 << 10;

/// Opens the connections of a client.
#[derive(Clone, Debug)]
pub struct Dialer(Way);

#[derive(Clone, Debug)]
enum Way {
    Tcp(HttpConnector),
    InProcess(mpsc::Sender<DuplexStream>),
}

/// The connections that dialers of this process open to one server. When this goes, they are told that there is no server.
#[derive(Debug)]
pub struct Visitors(mpsc::Receiver<DuplexStream>);

impl Dialer {
    /// Dials host and port of each request over TCP.
    pub fn tcp() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIME_MAX));
        connector.set_nodelay(true);
        Self(Way::Tcp(connector))
    }

    /// Reaches whoever serves the [`Visitors`], whatever host and port a request names.
    pub fn in_process() -> (Self, Visitors) {
        let (dialer, visitors) = mpsc::channel(WAITING_MAX);
        (Self(Way::InProcess(dialer)), Visitors(visitors))
    }
}

impl Visitors {
    /// The next connection, or nothing once there is no dialer left. Cancel safe.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.0.recv().await.map(Stream::InProcess)
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.0 {
            Way::Tcp(connector) => connector.poll_ready(context).map_err(Into::into),
            Way::InProcess(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        match &mut self.0 {
            Way::Tcp(connector) => {
                let dialling = connector.call(server);
                Box::pin(async move { Ok(TokioIo::new(Stream::Tcp(dialling.await?.into_inner()))) })
            }
            Way::InProcess(dialer) => {
                let dialer = dialer.clone();
                Box::pin(async move {
                    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
                    match dialer.send_timeout(far, CONNECT_TIME_MAX).await {
                        Ok(()) => Ok(TokioIo::new(Stream::InProcess(near))),
                        Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                            Err("the server does not accept connections just now".into())
                        }
                        Err(mpsc::error::SendTimeoutError::Closed(_)) => Err("the server has stopped".into()),
                    }
                })
            }
        }
    }
}

/// An open connection, seen from either end.
#[derive(Debug)]
pub enum Stream {
    /// Over the network.
    Tcp(TcpStream),
    /// Through memory.
    InProcess(DuplexStream),
}

/// Does the same with either kind.
macro_rules! either {
    ($stream:expr, $inner:ident => $does:expr) => {
        match $stream.get_mut() {
            Stream::Tcp($inner) => $does,
            Stream::InProcess($inner) => $does,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write_vectored(context, parts))
    }

    fn is_write_vectored(&self) -> bool {
        // A write of many parts saves a system call, or a wake-up.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Tcp(stream) => stream.connected(),
            Self::InProcess(_) => Connected::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn dial(dialer: &Dialer) -> Result<Stream, String> {
        let dialled = dialer.clone().call(Uri::from_static("http://127.0.0.1:1/")).await;
        dialled.map(TokioIo::into_inner).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn both_ends_hear_each_other_and_the_end() {
        let (dialer, mut visitors) = Dialer::in_process();
        let mut near = dial(&dialer).await.unwrap();
        let mut far = visitors.accept().await.unwrap();
        near.write_all(b"question").await.unwrap();
        near.shutdown().await.unwrap();
        let mut heard = String::new();
        far.read_to_string(&mut heard).await.unwrap();
        far.write_all(heard.replace("question", "answer").as_bytes()).await.unwrap();
        drop(far);
        heard.clear();
        near.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
        drop(dialer);
        assert!(visitors.accept().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_busy_or_gone_is_not_reached() {
        let (dialer, visitors) = Dialer::in_process();
        let mut waiting = Vec::new();
        for _ in 0..WAITING_MAX {
            waiting.push(dial(&dialer).await.unwrap());
        }
        assert_eq!(dial(&dialer).await.unwrap_err(), "the server does not accept connections just now");
        drop(visitors);
        assert_eq!(dial(&dialer).await.unwrap_err(), "the server has stopped");
        // Those that were never accepted end.
        assert_eq!(waiting.pop().unwrap().read(&mut [0; 1]).await.unwrap(), 0);
    }
}
