//! The ways into a site: a port, and the process itself.

use crate::http::{Stream, Visitors};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Where the connections of a site come from.
#[derive(Debug)]
pub struct Entrances {
    network: TcpListener,
    /// Nothing once no client of this process can come any more.
    visitors: Option<Visitors>,
}

impl From<TcpListener> for Entrances {
    fn from(network: TcpListener) -> Self {
        Self { network, visitors: None }
    }
}

impl From<(TcpListener, Visitors)> for Entrances {
    fn from((network, visitors): (TcpListener, Visitors)) -> Self {
        Self { network, visitors: Some(visitors) }
    }
}

impl Entrances {
    /// Where clients on the network come in.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.network.local_addr()
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&mut self) -> io::Result<Stream> {
        let Self { network, visitors } = self;
        tokio::select! {
            accepted = network.accept() => {
                let (stream, _) = accepted?;
                // Of a connection that is gone already, its first read tells the same.
                stream.set_nodelay(true).unwrap_or_else(|error| tracing::debug!(%error, "a connection is gone"));
                Ok(Stream::Tcp(stream))
            }
            Some(stream) = visit(visitors) => Ok(stream),
        }
    }
}

/// The next visitor, if there may be one.
async fn visit(visitors: &mut Option<Visitors>) -> Option<Stream> {
    let next = visitors.as_mut()?.accept().await;
    if next.is_none() {
        *visitors = None;
    }
    next
}
