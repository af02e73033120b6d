//! Serving a site over HTTP: connections, limits, request ids, and the JSON form of errors on internal routes.

use super::access::{Accounts, Names, check_date};
use super::cors::{self, FromPage};
use super::entrances::Entrances;
use super::error::Refusal;
use super::internal::{InternalRoutes, JsonRefusal, error_json, json_error};
use super::long_path;
use super::metadata::Site;
use super::patience::{SteadyBody, SteadyStream};
use super::random::random_hex;
use super::read::Partial;
use super::s3::Surface;
use super::tolerant::Routes;
use super::uri::{BACKBEAT, METADATA};
use crate::http::{Handler, Interrupted};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::{Credentials, SecretKey};
use s3s::route::S3Route as _;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Request};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Requests that run when the server stops may end within this time.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left) the next one waits.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Errors on internal routes are small.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Serves `site` to whoever comes through `entrances` (a listener, or one with visitors of this process) until `shutdown`
/// ends, then lets running requests end.
///
/// # Errors
/// The listener is not on a loopback address: this site is no server for a network.
pub async fn serve(
    site: Arc<Site>,
    entrances: impl Into<Entrances>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let Entrances { network, door } = entrances.into();
    if !network.local_addr()?.ip().is_loopback() {
        let problem = "the embedded site answers on loopback addresses only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let service = service(&site);
    if let Some(door) = &door {
        door.open(handler(&site, &service));
    }
    let places = Arc::new(Semaphore::new(site.config().limits.connections_max));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (network.accept().await, place)
        };
        tokio::select! {
            () = &mut shutdown => break,
            (accepted, place) = accepted => match accepted {
                Ok((stream, _)) => {
                    // Of a connection that is gone already, its first read tells the same.
                    stream.set_nodelay(true).unwrap_or_else(|error| tracing::debug!(%error, "a connection is gone"));
                    let connection = connection(stream, Arc::clone(&site), service.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection.await;
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
    drop(network);
    // Nobody listens if there is no connection.
    stop.send_replace(true);
    let drained = async {
        let left = async {
            if let Some(door) = &door {
                door.close().await;
            }
        };
        let closed = async { while connections.join_next().await.is_some() {} };
        tokio::join!(left, closed)
    };
    if tokio::time::timeout(DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::warn!("requests were cut off");
        connections.shutdown().await;
    }
    Ok(())
}

/// What answers requests: signatures, then admission, then the S3 surface or the internal routes.
pub(super) fn service(site: &Arc<Site>) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Surface(Arc::clone(site)));
    builder.set_auth(Accounts(Arc::clone(site)));
    builder.set_access(Accounts(Arc::clone(site)));
    builder.set_validation(Names);
    builder.set_route(Routes::new(site));
    builder.build()
}

/// Answers what comes over one connection, until it closes or the site stops.
pub(super) async fn connection<IO>(
    stream: IO,
    site: Arc<Site>,
    service: S3Service,
    mut stopped: watch::Receiver<bool>,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let limits = site.config().limits.clone();
    let stream = SteadyStream::new(stream, limits.answer_silence_max);
    let answer =
        hyper::service::service_fn(move |request| answer(Arc::clone(&site), service.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that has said everything may close its side and wait for the answer.
        .half_close(true)
        .header_read_timeout(limits.head_time_max)
        // Smaller buffers than this are not allowed.
        .max_buf_size(limits.head_bytes_max.max(8 << 10))
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
            return;
        }
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection broke");
    }
}

/// What answers those who come through the process.
fn handler(site: &Arc<Site>, service: &S3Service) -> Handler {
    let (site, service) = (Arc::clone(site), service.clone());
    Arc::new(move |request| {
        let answering = answer(Arc::clone(&site), service.clone(), request);
        Box::pin(async move {
            let Ok(response) = answering.await;
            response.map(|body| body.map_err(Interrupted::from).boxed_unsync())
        })
    })
}

async fn answer<B>(
    site: Arc<Site>,
    service: S3Service,
    request: Request<B>,
) -> Result<Response<Body>, Infallible>
where
    B: hyper::body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = request.uri().path();
    let is_internal = path.starts_with(BACKBEAT) || path.starts_with(METADATA);
    // Only uniqueness matters; without entropy the zeros say that there was none.
    let request_id = random_hex::<10>().unwrap_or_else(|_| "0".repeat(20));
    let from_page = if is_internal { None } else { FromPage::of(&request) };
    let is_preflight = !is_internal && request.method() == Method::OPTIONS;
    let silence_max = site.config().limits.body_silence_max;
    let broken = BrokenBody::of(&request);
    // Who asks before sending has not sent anything yet.
    let awaits_consent = request.headers().contains_key("expect");
    let (head, body) = request.into_parts();
    let (body, rest) = SteadyBody::new(body, silence_max);
    let request = Request::from_parts(head, Body::http_body(body));
    let answered = async {
        if is_preflight {
            Ok(cors::preflight(&site, &request).unwrap_or_else(|refusal| in_xml(&refusal)))
        } else if let Err(refusal) = check_date(request.headers(), SystemTime::now()) {
            Ok(in_xml(&refusal))
        } else if is_internal && long_path::is_long(&request) {
            Ok(long_internal(Arc::clone(&site), request).await)
        } else {
            service.call(request).await
        }
    };
    let failed = || {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    };
    // One request that nobody thought of must not take those along that wait on the same connection.
    let mut response = match AssertUnwindSafe(answered).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::error!(?error, "the protocol library failed");
            failed()
        }
        Err(_) => {
            tracing::error!("answering a request panicked");
            failed()
        }
    };
    if !awaits_consent && (response.status().is_client_error() || response.status().is_server_error()) {
        rest.read().await;
    }
    if response.extensions().get::<Partial>().is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if let Some(broken) = broken
        && response.status() == StatusCode::INTERNAL_SERVER_ERROR
    {
        response = broken.named(response).await;
    }
    if let Some(from_page) = from_page.filter(|_| !is_preflight) {
        from_page.allow(&site, &mut response);
    }
    if is_internal {
        response = in_json(response, &request_id).await;
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-amz-id-2", value.clone());
        response.headers_mut().insert("x-amz-request-id", value);
    }
    Ok(response)
}

/// A request whose body the protocol library reads by itself. If the body is not what its head says, the library takes
/// that for an error of its own.
struct BrokenBody {
    refusal: Refusal,
}

impl BrokenBody {
    fn of<B: hyper::body::Body>(request: &Request<B>) -> Option<Self> {
        let digest = request.headers().get("x-amz-content-sha256")?.as_bytes();
        let refusal =
            if digest.len() == 64 { Refusal::sha256_mismatch() } else { Refusal::incomplete_body() };
        Some(Self { refusal })
    }

    /// The answer, or what the client did wrong: errors of this site say more than the library's own.
    async fn named(self, response: Response<Body>) -> Response<Body> {
        let (head, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, ERROR_BYTES_MAX).collect().await;
        let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let xml = String::from_utf8_lossy(&bytes);
        if element(&xml, "Code") == Some("InternalError") && element(&xml, "Message").is_none() {
            return in_xml(&self.refusal);
        }
        Response::from_parts(head, Body::from(bytes))
    }
}

/// A refusal as S3 writes it, outside of the protocol library.
fn in_xml(refusal: &Refusal) -> Response<Body> {
    let message = refusal.message.replace('&', "&amp;").replace('<', "&lt;");
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{message}</Message></Error>",
        refusal.code
    );
    let mut response = Response::new(Body::from(xml));
    *response.status_mut() = refusal.status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/xml"));
    response
}

/// Answers an internal request that the protocol library would not let through.
async fn long_internal(site: Arc<Site>, request: Request<Body>) -> Response<Body> {
    let answered = match long_path::signer(&site, &request, SystemTime::now()) {
        Ok(access_key) => {
            let (head, body) = request.into_parts();
            let request = S3Request {
                input: body,
                method: head.method,
                uri: head.uri,
                headers: head.headers,
                extensions: head.extensions,
                // Only the name is looked at from here on.
                credentials: Some(Credentials { access_key, secret_key: SecretKey::from(String::new()) }),
                region: None,
                service: None,
                trailing_headers: None,
            };
            // The only error there is: the signer is nobody.
            InternalRoutes(site).call(request).await.map_err(|_| Refusal::access_denied())
        }
        Err(refusal) => Err(refusal),
    };
    let answered = answered.unwrap_or_else(|refusal| json_error(&refusal));
    let mut response = Response::new(answered.output);
    *response.status_mut() = answered.status.unwrap_or_default();
    *response.headers_mut() = answered.headers;
    *response.extensions_mut() = answered.extensions;
    response
}

/// Gives an error on an internal route its JSON body; what the protocol library refused by itself has an XML one.
async fn in_json(mut response: Response<Body>, request_id: &str) -> Response<Body> {
    let (code, message) = if let Some(JsonRefusal(refusal)) =
        response.extensions_mut().remove::<JsonRefusal>()
    {
        (refusal.code.to_owned(), refusal.message.into_owned())
    } else if response.status().is_client_error() || response.status().is_server_error() {
        let body = http_body_util::Limited::new(response.body_mut(), ERROR_BYTES_MAX).collect().await;
        let xml = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default();
        let code = element(&xml, "Code").unwrap_or("InternalError").to_owned();
        let message = usual_message(&code).or(element(&xml, "Message").map(str::to_owned));
        (code, message.unwrap_or_default())
    } else {
        return response;
    };
    let body = error_json(&code, &message, request_id);
    let headers = response.headers_mut();
    headers.insert("server", HeaderValue::from_static("S3 Server"));
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    headers.insert("content-length", body.len().into());
    *response.body_mut() = Body::from(body);
    response
}

/// What upstream says with the codes that the protocol library uses by itself.
fn usual_message(code: &str) -> Option<String> {
    let usual = [Refusal::access_denied(), Refusal::signature_mismatch(), Refusal::internal()];
    usual.into_iter().find(|refusal| refusal.code == code).map(|refusal| refusal.message.into_owned())
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}
