//! The embedded site, from the socket inwards.

use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningParams, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use backbeat_backends::site::fuzzing::{self, Served};
use std::cell::RefCell;
use std::path::Path;
use std::time::SystemTime;

/// Inputs that one site takes before the next one starts on an empty folder.
const INPUTS_MAX: u32 = 2000;

struct World {
    runtime: tokio::runtime::Runtime,
    served: Served,
    folder: tempfile::TempDir,
    inputs: u32,
}

impl World {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = made.expect("there is room for a scratch folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime can be made");
        let served = runtime.block_on(Served::open(folder.path()));
        let world = Self { runtime, served, folder, inputs: 0 };
        let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        for (target, body) in [("/bucket", ""), ("/bucket?versioning", versioning), ("/bucket/key", "hello")]
        {
            let answer = world
                .exchange(&signed("PUT", target, &[], body.as_bytes(), false).expect("it can be signed"));
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        }
        world
    }

    fn exchange(&self, request: &[u8]) -> Vec<u8> {
        self.runtime.block_on(self.served.exchange(request))
    }
}

fn exchange(request: &[u8]) -> Vec<u8> {
    thread_local!(static WORLD: RefCell<Option<World>> = const { RefCell::new(None) });
    WORLD.with(|world| {
        let mut world = world.borrow_mut();
        if world.as_ref().is_some_and(|world| world.inputs >= INPUTS_MAX) {
            *world = None;
        }
        let world = world.get_or_insert_with(World::new);
        world.inputs += 1;
        assert!(world.folder.path().is_dir());
        world.exchange(request)
    })
}

/// A signed request as it goes over the wire; nothing if it cannot be one.
fn signed(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    is_chunked: bool,
) -> Option<Vec<u8>> {
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let identity =
        aws_credential_types::Credentials::new(fuzzing::ACCESS_KEY, fuzzing::SECRET_KEY, None, None, "fuzz")
            .into();
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .ok()?
        .into();
    let signed_headers = headers.iter().filter(|(name, _)| {
        let name = name.to_ascii_lowercase();
        (name.starts_with("x-amz-") || name == "content-md5") && !name.starts_with("x-amz-content-sha")
    });
    let signed_headers = std::iter::once(("host", "127.0.0.1:8000")).chain(signed_headers.copied());
    let uri = format!("http://127.0.0.1:8000{target}");
    let payload = if is_chunked {
        SignableBody::StreamingUnsignedPayloadTrailer
    } else {
        SignableBody::UnsignedPayload
    };
    let signable = SignableRequest::new(method, uri, signed_headers, payload).ok()?;
    let mut request = http::Request::builder().method(method).uri(target).body(()).ok()?;
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
        request.headers_mut().append(name, http::HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    sign(signable, &params).ok()?.into_parts().0.apply_to_request_http1x(&mut request);
    let mut wire =
        format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nconnection: close\r\n").into_bytes();
    for (name, value) in request.headers() {
        if name == "content-length" || name == "host" || name == "connection" {
            continue;
        }
        wire.extend_from_slice(format!("{name}: ").as_bytes());
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    wire.extend_from_slice(body);
    Some(wire)
}

/// A request that is signed whatever it says: `METHOD target`, a line a header, an empty line, the body. A first line that
/// begins with a blank asks for a body in chunks.
pub fn s3_request(data: &[u8]) {
    let end = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let Ok(head) = std::str::from_utf8(&data[..end]) else { return };
    let body = data.get(end + 2..).unwrap_or_default();
    let mut lines = head.lines();
    let Some((method, target)) = lines.next().and_then(|line| line.trim_start().split_once(' ')) else {
        return;
    };
    if !target.starts_with('/') || method.is_empty() {
        return;
    }
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let is_chunked = head.starts_with(' ');
    let Some(wire) = signed(method, target, &headers, body, is_chunked) else { return };
    // The protocol library answers some bodies that break off inside with an internal error of its own, so that an answer of
    // 500 proves nothing; a panic ends the process.
    exchange(&wire);
}

/// Whatever arrives at the socket. Nothing is answered well that is not signed. (The engine sees what is compared: it learns the signature
/// of a request that names the account.)
pub fn raw_connection(data: &[u8]) {
    let answer = exchange(data);
    let account = fuzzing::ACCESS_KEY.as_bytes();
    if data.windows(account.len()).any(|place| place == account) {
        return;
    }
    if let Some(status) = answer.get(9..12) {
        assert!(matches!(status[0], b'1' | b'4') || status == b"501", "{}", String::from_utf8_lossy(&answer));
    }
}

/// What the bodies, queries and headers of the internal routes are parsed with, and what the store's records are.
pub fn internal_bodies(data: &[u8]) {
    fuzzing::parsers(data);
}
