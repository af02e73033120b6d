//! The server: a listener of its own, without signatures, for those who watch the process.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::watch;

use super::health::{Health, Trouble, TroubleStatus};
use crate::logging::LogFilter;
use crate::metrics::Registry;

/// Where a server listens that was not told where.
const BIND_ADDRESS_DEFAULT: &str = "localhost";

/// How long a part may take to say how it is.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(5);

/// A log filter is never longer.
const FILTER_BYTES_MAX: usize = 4 << 10;

/// Our own route: which log lines are written.
const LOG: &str = "/_/log";

const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where a server listens: `probeServer` of a daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeAddress {
    /// A name or an address of this machine.
    pub bind_address: String,
    /// The port; 0 takes any that is free.
    pub port: u16,
}

impl ProbeAddress {
    /// This port, where upstream listens by default.
    pub fn at_port(port: u16) -> Self {
        Self { bind_address: BIND_ADDRESS_DEFAULT.to_owned(), port }
    }
}

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("the probe server cannot listen on {address}:{port}: {source}; see probeServer in the configuration")]
pub struct ProbeError {
    address: String,
    port: u16,
    source: io::Error,
}

/// Opens the listener. A name that stands for several addresses means the first of them, those of IPv4 first.
///
/// # Errors
/// The address is not ours, or the port is taken.
pub async fn listen(at: &ProbeAddress) -> Result<TcpListener, ProbeError> {
    let error = |source| ProbeError { address: at.bind_address.clone(), port: at.port, source };
    let mut addresses: Vec<SocketAddr> =
        lookup_host((at.bind_address.as_str(), at.port)).await.map_err(error)?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    TcpListener::bind(&*addresses).await.map_err(error)
}

/// What is answered from.
#[derive(Debug)]
pub struct Probes<H> {
    /// Whether all is well.
    pub health: H,
    /// The metrics of the process.
    pub metrics: Registry,
    /// Which log lines are written, if that can be changed.
    pub log: Option<LogFilter>,
}

/// Serves on `listener` until `stopped` says so.
///
/// # Errors
/// The listener fails.
pub async fn serve<H: Health>(
    listener: TcpListener,
    probes: Probes<H>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    let app = Router::new().fallback(handle::<H>).with_state(Arc::new(probes));
    let stop = async move {
        // A sender that is gone means stop, too.
        stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
    };
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(stop).await
}

async fn handle<H: Health>(
    State(probes): State<Arc<Probes<H>>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Response {
    // The whole of it, as upstream compares it.
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    if let (LOG, Some(log)) = (target, &probes.log)
        && matches!(*request.method(), Method::GET | Method::PUT)
    {
        return log_lines(log, peer, request).await;
    }
    if request.method() != Method::GET {
        return refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "The specified method is not allowed against this resource.",
        );
    }
    match target {
        "/_/live" | "/_/ready" | "/_/health/liveness" | "/_/health/readiness" => {
            let troubles = tokio::time::timeout(HEALTH_TIME_MAX, probes.health.troubles()).await;
            // Nothing that is well takes so long to say so.
            told(&troubles.unwrap_or_else(|_| vec![Trouble::new("health", TroubleStatus::TimedOut)]))
        }
        "/metrics" | "/_/monitoring/metrics" => {
            ([(header::CONTENT_TYPE, METRICS_TYPE)], probes.metrics.encode()).into_response()
        }
        _ => refused(StatusCode::BAD_REQUEST, "InvalidURI", "Couldn't parse the specified URI."),
    }
}

fn told(troubles: &[Trouble]) -> Response {
    if troubles.is_empty() {
        return (StatusCode::OK, "OK").into_response();
    }
    tracing::debug!(?troubles, "asked how it is");
    json(StatusCode::INTERNAL_SERVER_ERROR, &troubles)
}

/// Tells or sets which log lines are written. Nobody but this machine is told; what a page of somebody else's makes a
/// browser send is refused.
async fn log_lines(log: &LogFilter, peer: SocketAddr, request: Request<Body>) -> Response {
    let is_ours = peer.ip().to_canonical().is_loopback();
    if !is_ours || request.headers().contains_key(header::ORIGIN) {
        return refused(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
    }
    if request.method() == Method::PUT {
        let Ok(body) = to_bytes(request.into_body(), FILTER_BYTES_MAX).await else {
            return refused(StatusCode::BAD_REQUEST, "InvalidRequest", "the log filter is too long");
        };
        let text = String::from_utf8_lossy(&body);
        if let Err(error) = log.set(&text) {
            return refused(StatusCode::BAD_REQUEST, "InvalidRequest", &error.to_string());
        }
        tracing::warn!(filter = log.current(), "log filter changed");
    }
    (StatusCode::OK, log.current()).into_response()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused<'a> {
    error_type: &'a str,
    error_message: &'a str,
}

fn refused(status: StatusCode, error_type: &str, error_message: &str) -> Response {
    json(status, &Refused { error_type, error_message })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("what is answered always has a JSON form");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging;
    use crate::metrics::names;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    /// Status and body of the answer to a request.
    async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("it is taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("there is a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        ask(address, "GET", path, "", "").await
    }

    #[tokio::test]
    async fn probes_are_answered_as_upstream_answers_them() {
        let is_well = Arc::new(AtomicBool::new(true));
        let health = {
            let is_well = Arc::clone(&is_well);
            move || {
                let trouble = Trouble::consumer(TroubleStatus::NotReady).of_site("paris");
                std::future::ready(if is_well.load(Ordering::Relaxed) { vec![] } else { vec![trouble] })
            }
        };
        let metrics = Registry::default();
        metrics.add(&names::DATA_READ, &[names::ORIGIN], 3);
        let listener = listen(&ProbeAddress::at_port(0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        assert!(address.ip().is_loopback());
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(listener, Probes { health, metrics, log: None }, stopped));
        let probes = ["/_/live", "/_/ready", "/_/health/readiness"];
        for path in probes {
            assert_eq!(get(address, path).await, (200, "OK".to_owned()), "{path}");
        }
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        assert!(text.contains("s3_replication_data_read_total{origin=\"replication\"} 3"), "{text}");
        is_well.store(false, Ordering::Relaxed);
        let trouble = r#"[{"component":"Consumer","status":"NOT_READY","site":"paris"}]"#;
        for path in probes {
            assert_eq!(get(address, path).await, (500, trouble.to_owned()), "{path}");
        }
        let invalid = r#"{"errorType":"InvalidURI","errorMessage":"Couldn't parse the specified URI."}"#;
        for path in ["/", "/live", "/_/live?full", "/metrics/", LOG] {
            assert_eq!(get(address, path).await, (400, invalid.to_owned()), "{path}");
        }
        let not_allowed = r#"{"errorType":"MethodNotAllowed","errorMessage":"The specified method is not allowed against this resource."}"#;
        for (method, path) in [("POST", "/_/live"), ("PUT", LOG), ("DELETE", "/nowhere")] {
            assert_eq!(ask(address, method, path, "", "").await, (405, not_allowed.to_owned()), "{path}");
        }
        stop.send_replace(true);
        serving.await.expect("no panic").expect("a clean end");
    }

    #[tokio::test]
    async fn log_lines_are_chosen_from_this_machine_and_not_by_browsers() {
        let (log, _subscriber) = logging::tests::filter("info");
        let health = || std::future::ready(Vec::new());
        let listener = listen(&ProbeAddress::at_port(0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it has an address");
        let (_stop, stopped) = watch::channel(false);
        let probes = Probes { health, metrics: Registry::default(), log: Some(log.clone()) };
        let _serving = tokio::spawn(serve(listener, probes, stopped));
        assert_eq!(get(address, LOG).await, (200, "info".to_owned()));
        assert_eq!(ask(address, "PUT", LOG, "", "debug").await, (200, "debug".to_owned()));
        assert_eq!(log.current(), "debug");
        let browser = "origin: http://evil.example\r\n";
        assert_eq!(ask(address, "PUT", LOG, browser, "trace").await.0, 403);
        assert_eq!(ask(address, "PUT", LOG, "", "backbeat=loud").await.0, 400);
        assert_eq!(ask(address, "POST", LOG, "", "trace").await.0, 405);
        assert_eq!(log.current(), "debug");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_how_it_is_is_not_well() {
        let probes = Arc::new(Probes {
            health: std::future::pending::<Vec<Trouble>>,
            metrics: Registry::default(),
            log: None,
        });
        let request = Request::get("/_/live").body(Body::empty()).expect("a request");
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let answer = handle(State(probes), ConnectInfo(peer), request).await;
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let taken = listen(&ProbeAddress::at_port(0)).await.expect("a port is free");
        let port = taken.local_addr().expect("it has an address").port();
        let error = listen(&ProbeAddress::at_port(port)).await.expect_err("it is taken").to_string();
        assert!(error.contains(&format!("localhost:{port}")) && error.contains("probeServer"), "{error}");
    }
}
