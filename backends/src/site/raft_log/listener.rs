//! The raft log on a port of its own, where readers of bucketd look for it: unsigned, therefore on loopback only.

use super::{Answer, WAIT, answer};
use crate::site::journal::Journal;
use crate::site::uri::query;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Readers at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// A connection on which no whole request head comes in this time is closed.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// After a failed accept (no file descriptors left) the next one waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `journal` as the raft log of session 1 until `shutdown` ends. Who waits for records then is cut off: reading
/// changes nothing.
///
/// # Errors
/// The listener is not on a loopback address: nobody is asked who they are.
pub async fn serve_raft_log(
    journal: Journal,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    if !listener.local_addr()?.ip().is_loopback() {
        let problem = "the journal is served on loopback addresses only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => return Ok(()),
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    let journal = journal.clone();
                    connections.spawn(async move {
                        let service = service_fn(move |request| respond(journal.clone(), request));
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_TIME_MAX)
                            .serve_connection(TokioIo::new(stream), service);
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection of a reader of the journal broke");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn respond(journal: Journal, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, _) = request.into_parts();
    let wait = head.headers.get(WAIT).and_then(|wait| wait.to_str().ok());
    let Answer { status, name, body } =
        answer(&journal, &head.method, head.uri.path(), query(&head.uri), wait).await;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(name) = name {
        response.extensions_mut().insert(ReasonPhrase::from_static(name.as_bytes()));
    }
    Ok(response)
}
