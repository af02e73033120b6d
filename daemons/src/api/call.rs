//! What routes are asked and what they answer: a request, taken apart, answers in JSON, and errors in upstream's words.

use axum::body::Bytes;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::operator::OperatorError;

/// A request, taken apart.
pub(super) struct Call {
    pub(super) method: Method,
    /// The decoded segments of the path behind the prefix.
    pub(super) segments: Vec<String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Call {
    /// The value of a query parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer that is an error, in upstream's words.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    kind: &'static str,
    description: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, kind: &'static str, description: impl Into<String>) -> Self {
        Self { status, kind, description: description.into() }
    }

    pub(super) fn no_route(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "RouteNotFound", format!("path {path} does not exist"))
    }

    pub(super) fn denied(description: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", description)
    }
}

impl From<OperatorError> for ApiError {
    fn from(error: OperatorError) -> Self {
        let (status, kind) = match &error {
            OperatorError::NotFound(_) => (StatusCode::NOT_FOUND, "RouteNotFound"),
            OperatorError::Invalid(_) => (StatusCode::BAD_REQUEST, "InvalidRequest"),
            OperatorError::Unavailable(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("code".to_owned(), json!(self.status.as_u16()));
        body.insert("description".to_owned(), json!(self.description));
        body.insert(self.kind.to_owned(), json!(true));
        (self.status, [(header::CONTENT_TYPE, "application/json")], Value::Object(body).to_string())
            .into_response()
    }
}

/// A JSON answer.
pub(super) fn json_of(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("reports always have a JSON form");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
