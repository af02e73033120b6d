//! The listening sockets of the stack: taken before anything else happens, so that a port that is in use is reported
//! before any data is touched.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

/// Listens on `port` of the loopback address; 0 takes any that is free. `what` names it in the error.
pub(super) async fn listen(port: u16, what: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let named = |error: io::Error| {
        let message = format!("cannot listen on {address} for {what}: {error}; choose another port");
        io::Error::new(error.kind(), message)
    };
    let listener = TcpListener::bind(address).await.map_err(named)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}
