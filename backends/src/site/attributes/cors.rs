//! The rules of a bucket about pages of other origins.

use crate::site::error::{Outcome, Refusal};
use crate::site::headers::insert;
use http::HeaderMap;
use s3s::dto::CORSRule;
use serde::{Deserialize, Serialize};

const RULES_MAX: usize = 100;
const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";
/// The methods that rules may name.
pub(in crate::site) const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// A rule as the attributes of a bucket keep it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::site) struct CorsRule {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    allowed_methods: Vec<String>,
    allowed_origins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_headers: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age_seconds: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expose_headers: Option<Vec<String>>,
}

/// A pattern with at most one `*` for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

impl CorsRule {
    /// The rules that a client asks for.
    pub(in crate::site) fn parse_all(asked: Vec<CORSRule>) -> Outcome<Vec<Self>> {
        if asked.is_empty() {
            return Err(Refusal::malformed_xml());
        }
        if asked.len() > RULES_MAX {
            let message = "The number of CORS rules should not exceed allowed limit of 100 rules.";
            return Err(Refusal::invalid_request(message));
        }
        asked.into_iter().map(Self::parse).collect()
    }

    fn parse(asked: CORSRule) -> Outcome<Self> {
        if asked.allowed_methods.is_empty() || asked.allowed_origins.is_empty() {
            return Err(Refusal::malformed_xml());
        }
        if let Some(method) = asked.allowed_methods.iter().find(|method| !METHODS.contains(&method.as_str()))
        {
            return Err(Refusal::invalid_request(format!(
                "Found unsupported HTTP method in CORS config. Unsupported method is \"{method}\""
            )));
        }
        let several = |text: &&String| text.matches('*').count() > 1;
        if let Some(origin) = asked.allowed_origins.iter().find(several) {
            let message = format!("AllowedOrigin \"{origin}\" can not have more than one wildcard.");
            return Err(Refusal::invalid_request(message));
        }
        if let Some(name) = asked.allowed_headers.iter().flatten().find(several) {
            let message = format!("AllowedHeader \"{name}\" can not have more than one wildcard.");
            return Err(Refusal::invalid_request(message));
        }
        if asked.max_age_seconds.is_some_and(|seconds| seconds < 0) {
            return Err(Refusal::malformed_xml());
        }
        Ok(Self {
            id: asked.id,
            allowed_methods: asked.allowed_methods,
            allowed_origins: asked.allowed_origins,
            allowed_headers: asked.allowed_headers,
            max_age_seconds: asked.max_age_seconds,
            expose_headers: asked.expose_headers,
        })
    }

    /// As S3 shows it.
    pub(in crate::site) fn shown(self) -> CORSRule {
        CORSRule {
            allowed_headers: self.allowed_headers,
            allowed_methods: self.allowed_methods,
            allowed_origins: self.allowed_origins,
            expose_headers: self.expose_headers,
            id: self.id,
            max_age_seconds: self.max_age_seconds,
        }
    }

    /// The origin pattern that lets a request through.
    pub(in crate::site) fn allows(&self, origin: &str, method: &str, headers: &[String]) -> Option<&str> {
        let pattern = self.allowed_origins.iter().find(|pattern| matches(pattern, origin))?;
        let knows = |name: &String| {
            let known = self.allowed_headers.iter().flatten();
            known.into_iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name))
        };
        let is_allowed =
            self.allowed_methods.iter().any(|known| known == method) && headers.iter().all(knows);
        is_allowed.then_some(pattern.as_str())
    }

    /// Tells a browser what the rule allows.
    pub(in crate::site) fn answer(
        &self,
        pattern: &str,
        origin: &str,
        asked: &[String],
        headers: &mut HeaderMap,
    ) {
        if pattern == "*" {
            insert(headers, "access-control-allow-origin", Some("*"));
        } else {
            insert(headers, "access-control-allow-origin", Some(origin));
            insert(headers, "access-control-allow-credentials", Some("true"));
        }
        insert(headers, "access-control-allow-methods", Some(&self.allowed_methods.join(", ")));
        if !asked.is_empty() {
            insert(headers, "access-control-allow-headers", Some(&asked.join(", ")));
        }
        let exposed = self.expose_headers.as_ref().map(|names| names.join(", "));
        insert(
            headers,
            "access-control-expose-headers",
            exposed.as_deref().filter(|names| !names.is_empty()),
        );
        let age = self.max_age_seconds.map(|seconds| seconds.to_string());
        insert(headers, "access-control-max-age", age.as_deref());
        insert(headers, "vary", Some(VARY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stands_for_any_text() {
        assert!(matches("*", "http://a"));
        assert!(matches("http://*.example", "http://www.example"));
        assert!(matches("http://a", "http://a"));
        assert!(!matches("http://a", "http://b"));
        assert!(!matches("ab*ba", "aba"));
    }
}
