//! A small client that signs every request: the S3 routes and the internal routes of CloudServer take the same signature.
//!
//! It never retries and never follows: the core decides what happens next. Payloads are streamed and not hashed
//! (`UNSIGNED-PAYLOAD`), which both servers accept on every route (wire reference 0.5).

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Uri};
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use super::passage::{Interrupted, Passage, Stream, Turned};
use super::signing::{self, Payload, Signable, Signer};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Time to open a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Idle connections are given up before common servers give them up.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4);

/// Keys to sign with.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The public part.
    pub access_key: String,
    /// The secret part; never printed.
    pub secret_key: String,
    /// The token of a temporary session; never printed.
    pub session_token: Option<String>,
}

impl Credentials {
    /// Keys of an account, without a session.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self { access_key: access_key.into(), secret_key: secret_key.into(), session_token: None }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// How a request ended without an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It was never sent: nothing happened at the server.
    #[error("cannot connect to {endpoint}: {message}")]
    Connect {
        /// Host and port.
        endpoint: String,
        /// What the system said.
        message: String,
    },
    /// It could not be built: nothing happened at the server.
    #[error("invalid request to {endpoint}: {message}")]
    Invalid {
        /// Host and port.
        endpoint: String,
        /// What is wrong with it.
        message: String,
    },
    /// Server and client do not trust each other: nothing happened at the server.
    #[error(
        "no protected connection to {endpoint}: {message}; look at the authorities, the certificates and their keys"
    )]
    Distrust {
        /// Host and port.
        endpoint: String,
        /// Who does not trust whom, and why.
        message: String,
    },
    /// No answer in time: the server may have done it.
    #[error("no answer from {endpoint} within {} ms", .time_max.as_millis())]
    TimedOut {
        /// Host and port.
        endpoint: String,
        /// How long was waited.
        time_max: Duration,
    },
    /// The connection broke: the server may have done it.
    #[error("lost the connection to {endpoint}: {message}")]
    Broken {
        /// Host and port.
        endpoint: String,
        /// What the system said.
        message: String,
    },
}

impl ClientError {
    /// True if the server has certainly not done what was asked.
    pub fn is_definite(&self) -> bool {
        matches!(
            self,
            ClientError::Connect { .. } | ClientError::Invalid { .. } | ClientError::Distrust { .. }
        )
    }
}

/// Headers that every request gets: host, length, date, digest, token and signature.
const HEADERS_OF_OURS: usize = 6;
/// The service that is signed for unless another one is named.
const S3: &str = "s3";

/// What is sent along.
pub struct Body {
    bytes: u64,
    /// All of it, if it is in memory.
    whole: Option<Bytes>,
    stream: Stream,
}

impl Body {
    /// Nothing.
    pub fn empty() -> Self {
        let stream = Empty::new().map_err(|never| match never {}).boxed_unsync();
        Self { bytes: 0, whole: Some(Bytes::new()), stream }
    }

    /// Bytes that are in memory.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            bytes: bytes.len() as u64,
            whole: Some(bytes.clone()),
            stream: Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
        }
    }

    /// A stream of exactly `bytes` bytes.
    pub fn stream<B>(bytes: u64, stream: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let stream = stream.map_err(|error| Interrupted::from(error.into())).boxed_unsync();
        Self { bytes, whole: None, stream }
    }
}

/// One request. Path and query are plain text; they are encoded here.
pub struct Request {
    method: Method,
    path: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Body,
    is_signed: bool,
}

impl Request {
    /// A request to `path`, which starts with a slash and is not encoded.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: Vec::new(),
            headers: Vec::new(),
            body: Body::empty(),
            is_signed: true,
        }
    }

    /// Adds a query parameter; an empty value is written as `name=`.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The headers so far, in the order in which they were added.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Sets the body.
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Method, path and query, for messages.
    pub fn describe(&self) -> String {
        format!("{} {}", self.method, signing::target(&self.path, &self.query))
    }

    /// Leaves the signature out.
    pub fn unsigned(mut self) -> Self {
        self.is_signed = false;
        self
    }
}

/// A client of one server.
#[derive(Clone, Debug)]
pub struct SignedClient {
    endpoint: String,
    credentials: Credentials,
    signer: Signer,
    way: Way,
}

/// How servers on the network are spoken to.
#[derive(Clone, Debug, Default)]
pub enum Transport {
    /// In the open.
    #[default]
    Http,
    /// Over TLS.
    #[cfg(feature = "tls")]
    Https(crate::tls::Tls),
}

/// How the server is reached.
#[derive(Clone, Debug)]
enum Way {
    Network(Client<HttpConnector, Stream>),
    #[cfg(feature = "tls")]
    Protected(Client<hyper_rustls::HttpsConnector<HttpConnector>, Stream>),
    InProcess(Passage),
}

impl Way {
    fn over(transport: &Transport) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIME_MAX));
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIME_MAX);
        match transport {
            Transport::Http => Self::Network(builder.build(connector)),
            #[cfg(feature = "tls")]
            Transport::Https(tls) => {
                connector.enforce_http(false);
                let protected = hyper_rustls::HttpsConnectorBuilder::new()
                    .with_tls_config(tls.config().as_ref().clone())
                    .https_only()
                    .enable_http1()
                    .wrap_connector(connector);
                Self::Protected(builder.build(protected))
            }
        }
    }

    fn scheme(&self) -> &'static str {
        match self {
            Self::Network(_) | Self::InProcess(_) => "http",
            #[cfg(feature = "tls")]
            Self::Protected(_) => "https",
        }
    }
}

impl SignedClient {
    /// A client of the server at `endpoint` (`host:port`, plain HTTP).
    pub fn new(endpoint: impl Into<String>, credentials: Credentials, region: impl Into<String>) -> Self {
        Self::over(&Transport::Http, endpoint, credentials, region)
    }

    /// A client of the server at `endpoint` (`host:port`).
    pub fn over(
        transport: &Transport,
        endpoint: impl Into<String>,
        credentials: Credentials,
        region: impl Into<String>,
    ) -> Self {
        Self {
            endpoint: endpoint.into(),
            credentials,
            signer: Signer::new(region.into(), S3),
            way: Way::over(transport),
        }
    }

    /// A client of the server of this process behind `passage`, which calls itself `endpoint`.
    pub fn in_process(
        passage: Passage,
        endpoint: impl Into<String>,
        credentials: Credentials,
        region: impl Into<String>,
    ) -> Self {
        let way = Way::InProcess(passage);
        Self { endpoint: endpoint.into(), credentials, signer: Signer::new(region.into(), S3), way }
    }

    /// Host and port of the server.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The same connections, signing for another service than S3: such services look at what the body is, so that it has to be
    /// in memory.
    pub fn for_service(self, service: &'static str) -> Self {
        Self { signer: self.signer.for_service(service), ..self }
    }

    /// The same connections with other keys.
    pub fn with_credentials(&self, credentials: Credentials) -> Self {
        Self { credentials, ..self.clone() }
    }

    /// Sends a request and waits at most `time_max` for the head of the answer; its body streams.
    ///
    /// # Errors
    /// [`ClientError`]; an HTTP status is never an error here.
    pub async fn send(&self, request: Request, time_max: Duration) -> Result<Response<Stream>, ClientError> {
        let request = self.build(request)?;
        let endpoint = || self.endpoint.clone();
        let answered = async {
            match &self.way {
                Way::Network(http) => self.answer(http.request(request).await),
                #[cfg(feature = "tls")]
                Way::Protected(http) => self.answer(http.request(request).await),
                Way::InProcess(passage) => passage.send(request).await.map_err(|turned| match turned {
                    Turned::Away(why) => {
                        ClientError::Connect { endpoint: endpoint(), message: why.to_owned() }
                    }
                    Turned::Off(why) => ClientError::Broken { endpoint: endpoint(), message: why.to_owned() },
                }),
            }
        };
        let timed_out = |_| ClientError::TimedOut { endpoint: endpoint(), time_max };
        tokio::time::timeout(time_max, answered).await.map_err(timed_out)?
    }

    /// What came over the network.
    fn answer(
        &self,
        answer: Result<Response<Incoming>, hyper_util::client::legacy::Error>,
    ) -> Result<Response<Stream>, ClientError> {
        let error = match answer {
            Ok(response) => {
                let stream = |body: Incoming| body.map_err(|error| Interrupted::from(BoxError::from(error)));
                return Ok(response.map(|body| stream(body).boxed_unsync()));
            }
            Err(error) => error,
        };
        let endpoint = self.endpoint.clone();
        if let Some(message) = distrust(&error) {
            tracing::warn!(endpoint, cause = message, "no protected connection");
            return Err(ClientError::Distrust { endpoint, message });
        }
        let message = chain(&error);
        Err(if error.is_connect() {
            ClientError::Connect { endpoint, message }
        } else {
            ClientError::Broken { endpoint, message }
        })
    }

    /// Sends a request and collects an answer of at most `bytes_max` bytes within `time_max`.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Broken`] also if the answer is larger.
    pub async fn fetch(
        &self,
        request: Request,
        time_max: Duration,
        bytes_max: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let exchange = async {
            let (head, body) = self.send(request, time_max).await?.into_parts();
            let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
                ClientError::Broken { endpoint: self.endpoint.clone(), message: error.to_string() }
            })?;
            let body = body.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        tokio::time::timeout(time_max, exchange)
            .await
            .unwrap_or_else(|_| Err(ClientError::TimedOut { endpoint: self.endpoint.clone(), time_max }))
    }

    fn invalid(&self, error: impl fmt::Display) -> ClientError {
        ClientError::Invalid { endpoint: self.endpoint.clone(), message: error.to_string() }
    }

    fn build(&self, request: Request) -> Result<http::Request<Stream>, ClientError> {
        let path = percent_encode(&request.path, true);
        let query = signing::encoded(&request.query);
        let target = format!("{}://{}{}", self.way.scheme(), self.endpoint, signing::target(&path, &query));
        let mut headers = HeaderMap::with_capacity(request.headers.len() + HEADERS_OF_OURS);
        headers.insert(HOST, HeaderValue::from_str(&self.endpoint).map_err(|error| self.invalid(error))?);
        let has_length = request.body.bytes > 0 || matches!(request.method, Method::PUT | Method::POST);
        if has_length {
            headers.insert(CONTENT_LENGTH, request.body.bytes.into());
        }
        for (name, value) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| self.invalid(error))?;
            // Values beyond ASCII go out as UTF-8, as S3 clients send user metadata.
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| self.invalid(error))?;
            headers.append(name, value);
        }
        if request.is_signed {
            let payload = match (self.signer.service(), &request.body.whole) {
                (S3, _) => Payload::Unsigned,
                (_, Some(whole)) => Payload::Whole(whole),
                (service, None) => return Err(self.invalid(format!("{service} takes no streams"))),
            };
            let signable = Signable { method: &request.method, path: &path, query, payload };
            self.signer
                .sign(signable, &mut headers, &self.credentials, SystemTime::now())
                .map_err(|error| self.invalid(error))?;
        }
        let mut built = http::Request::new(request.body.stream);
        *built.method_mut() = request.method;
        *built.uri_mut() = target.parse::<Uri>().map_err(|error| self.invalid(error))?;
        *built.headers_mut() = headers;
        Ok(built)
    }
}

/// Why server and client do not trust each other, if that is why nothing was asked.
#[cfg(feature = "tls")]
fn distrust(error: &hyper_util::client::legacy::Error) -> Option<String> {
    if error.is_connect() { crate::tls::distrust(error) } else { crate::tls::refusal_of_identity(error) }
}

#[cfg(not(feature = "tls"))]
fn distrust(_: &hyper_util::client::legacy::Error) -> Option<String> {
    None
}

/// The error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        write!(text, ": {error}").expect("writing to a string cannot fail");
        source = error.source();
    }
    text
}

/// Percent-encodes everything but letters, digits and `-._~`, and slashes if `keeps_slashes`, as Signature Version 4
/// wants it.
pub fn percent_encode(text: &str, keeps_slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte.into()),
            b'/' if keeps_slashes => encoded.push('/'),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail"),
        }
    }
    encoded
}

/// A percent-encoded text, decoded; what is not encoded properly stays as it is.
pub fn percent_decode(text: &str) -> String {
    let raw = text.as_bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let escaped = (raw[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let byte = escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(byte.unwrap_or(raw[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The same of what forms and queries hold: plus signs are blanks (wire reference 0.2).
pub fn form_decode(text: &str) -> String {
    percent_decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> SignedClient {
        SignedClient::new("127.0.0.1:1", Credentials::new("key", "secret"), "us-east-1")
    }

    #[test]
    fn names_are_encoded_once() {
        assert_eq!(percent_encode("/bucket/a b+é%", true), "/bucket/a%20b%2B%C3%A9%25");
        assert_eq!(percent_encode("a/b", false), "a%2Fb");
    }

    #[test]
    fn texts_are_decoded_once() {
        assert_eq!(percent_decode("a%20b+%2Fc%25"), "a b+/c%");
        assert_eq!(percent_decode("100%"), "100%");
        assert_eq!(percent_decode("%zz%C3%A9"), "%zz\u{e9}");
        assert_eq!(form_decode("a+b%2B"), "a b+");
    }

    #[test]
    fn a_request_carries_its_signature_and_length() {
        let request = Request::new(Method::PUT, "/b/a b").query("v2", "").header("x-scal-thing", "1");
        let built = client().build(request.body(Body::full("hello"))).unwrap();
        assert_eq!(built.uri(), "http://127.0.0.1:1/b/a%20b?v2=");
        assert_eq!(built.headers()["content-length"], "5");
        assert_eq!(built.headers()["x-amz-content-sha256"], "UNSIGNED-PAYLOAD");
        let authorization = built.headers()["authorization"].to_str().unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=key/"), "{authorization}");
        assert!(authorization.contains("x-scal-thing"), "{authorization}");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", client()).contains("secret\""));
    }

    #[tokio::test]
    async fn a_refused_connection_is_definite() {
        let error = client().send(Request::new(Method::GET, "/"), Duration::from_secs(5)).await.unwrap_err();
        assert!(error.is_definite(), "{error}");
    }
}
