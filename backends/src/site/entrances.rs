//! The ways into a site: a port, and the process itself.

use crate::http::Door;
use tokio::net::TcpListener;

/// Where the requests of a site come from.
#[derive(Debug)]
pub struct Entrances {
    /// Where clients on the network come in.
    pub(super) network: TcpListener,
    /// Where clients of this process come in.
    pub(super) door: Option<Door>,
}

impl From<TcpListener> for Entrances {
    fn from(network: TcpListener) -> Self {
        Self { network, door: None }
    }
}

impl From<(TcpListener, Door)> for Entrances {
    fn from((network, door): (TcpListener, Door)) -> Self {
        Self { network, door: Some(door) }
    }
}
