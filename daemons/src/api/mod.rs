//! The HTTP API: upstream's routes, our own, probes, metrics and a web page, for operators on this machine.
//!
//! It listens on loopback and asks for no password, so it refuses what a browser sends on behalf of another site.

mod call;
mod crr;
mod explain;
mod operator;
mod pause;
pub mod report;
mod retry;
mod routes;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backbeat_backends::coordination::Coordination;
use backbeat_backends::queue::Queue;
use backbeat_backends::stats::Stats;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use operator::{Daemons, Operator, OperatorError, SiteDaemon};
pub use pause::is_paused;

use crate::driver::Sites;
use call::ApiError;

/// A request body is never larger: a retry of some ten thousand versions.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Serves the API on `listener` until `stopped` says so.
pub async fn serve<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    listener: TcpListener,
    operator: Arc<Operator<Q, S, C, O>>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let app = Router::new().fallback(handle::<Q, S, C, O>).with_state(operator);
    let stop = async move {
        // A sender that is gone means stop, too.
        stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
    };
    axum::serve(listener, app).with_graceful_shutdown(stop).await
}

async fn handle<Q: Queue, S: Stats, C: Coordination, O: Sites>(
    State(operator): State<Arc<Operator<Q, S, C, O>>>,
    request: Request<Body>,
) -> Response {
    if let Err(error) = check_origin(request.headers()) {
        return error.into_response();
    }
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        let description = "The body of your POST request is too large or broke off";
        return ApiError::new(StatusCode::BAD_REQUEST, "MalformedPOSTRequest", description).into_response();
    };
    routes::answer(&operator, head.method, &head.uri, body).await
}

/// Refuses requests that a web page of somebody else's makes a browser send: those name another origin, or reach us under
/// a name that is not ours.
fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let host = text(header::HOST).unwrap_or("");
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let is_ours = name.is_empty() || name == "localhost" || name.parse::<IpAddr>().is_ok();
    if !is_ours {
        return Err(ApiError::denied("this API answers under its address or as localhost only"));
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.split_once("://").is_none_or(|(_, origin)| origin != host) => {
            Err(ApiError::denied("requests on behalf of other web sites are refused"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_for_others_is_refused() {
        let check = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().expect("a header value"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().expect("a header value"));
            }
            check_origin(&headers).is_ok()
        };
        assert!(check("127.0.0.1:8900", None));
        assert!(check("localhost:8900", Some("http://localhost:8900")));
        assert!(check("[::1]:8900", None));
        assert!(!check("127.0.0.1:8900", Some("http://evil.example")));
        assert!(!check("127.0.0.1:8900", Some("null")));
        assert!(!check("evil.example:8900", None));
    }
}
