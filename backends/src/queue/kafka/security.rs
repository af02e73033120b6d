//! How brokers are spoken to: in the open or over TLS, and in whose name.

use std::path::Path;

use rdkafka::ClientConfig;

use crate::credentials::Secret;
use crate::queue::QueueError;
use crate::tls::TlsFiles;

/// How brokers are spoken to. In the open, by nobody in particular, if nothing is said.
#[derive(Clone, Debug, Default)]
pub struct KafkaSecurity {
    /// Over TLS.
    pub tls: Option<TlsFiles>,
    /// As this user.
    pub sasl: Option<KafkaUser>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct KafkaUser {
    /// How the broker is shown that the password is known.
    pub mechanism: SaslMechanism,
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
}

/// How a broker is shown that a password is known. Those of other libraries (Kerberos) are not built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password is sent: over TLS only, wherever others may listen.
    Plain,
    /// It is proven, with SHA-256.
    ScramSha256,
    /// It is proven, with SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// The name by which Kafka knows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl KafkaSecurity {
    fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        }
    }

    /// The same in the properties of librdkafka.
    fn properties(&self) -> Result<Vec<(&'static str, String)>, QueueError> {
        let mut properties = Vec::new();
        if self.tls.is_some() || self.sasl.is_some() {
            properties.push(("security.protocol", self.protocol().to_owned()));
        }
        if let Some(tls) = &self.tls {
            let path = |path: &Path| {
                let text = path.to_str().map(ToOwned::to_owned);
                text.ok_or_else(|| QueueError::Storage(format!("{}: not UTF-8", path.display())))
            };
            // Where distributions keep theirs: OpenSSL's own place is one of the machine that built it.
            let authorities = tls.authorities.as_deref().map_or_else(|| Ok("probe".to_owned()), path)?;
            properties.push(("ssl.ca.location", authorities));
            if let Some(identity) = &tls.identity {
                properties.push(("ssl.certificate.location", path(&identity.certificate)?));
                properties.push(("ssl.key.location", path(&identity.key)?));
            }
        }
        if let Some(user) = &self.sasl {
            properties.push(("sasl.mechanism", user.mechanism.name().to_owned()));
            properties.push(("sasl.username", user.name.clone()));
            properties.push(("sasl.password", user.password.expose().to_owned()));
        }
        Ok(properties)
    }

    /// Says what cannot be used as it is, or is said twice.
    pub(super) fn check<'a>(&self, mut by_hand: impl Iterator<Item = &'a String>) -> Result<(), QueueError> {
        let own = self.properties()?;
        let twice = by_hand.find(|name| own.iter().any(|(known, _)| known == name));
        twice.map_or(Ok(()), |name| {
            let told = format!("the Kafka property {name} is set by hand, and by tls or sasl: remove one");
            Err(QueueError::Storage(told))
        })
    }

    pub(super) fn apply(&self, client: &mut ClientConfig) {
        // What cannot be written as properties was refused when the queue was opened.
        for (name, value) in self.properties().unwrap_or_default() {
            client.set(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::IdentityFiles;

    fn user() -> KafkaUser {
        let (name, password) = ("someone".to_owned(), Secret::new("open-sesame"));
        KafkaUser { mechanism: SaslMechanism::ScramSha512, name, password }
    }

    #[test]
    fn the_protocol_follows_from_what_is_there() {
        let protocol = |tls: bool, sasl: bool| {
            let security = KafkaSecurity { tls: tls.then(TlsFiles::default), sasl: sasl.then(user) };
            let mut client = ClientConfig::new();
            security.apply(&mut client);
            client.get("security.protocol").map(ToOwned::to_owned)
        };
        assert_eq!(protocol(false, false), None);
        assert_eq!(protocol(true, false).as_deref(), Some("ssl"));
        assert_eq!(protocol(false, true).as_deref(), Some("sasl_plaintext"));
        assert_eq!(protocol(true, true).as_deref(), Some("sasl_ssl"));
    }

    #[test]
    fn files_and_names_become_properties_that_the_client_takes() {
        let directory = tempfile::tempdir().expect("a directory");
        let identity = IdentityFiles { certificate: "/c.pem".into(), key: "/k.pem".into() };
        let tls = TlsFiles { authorities: Some(directory.path().join("ca.pem")), identity: Some(identity) };
        let security = KafkaSecurity { tls: Some(tls), sasl: Some(user()) };
        let mut client = ClientConfig::new();
        security.apply(&mut client);
        assert_eq!(client.get("ssl.key.location"), Some("/k.pem"));
        assert_eq!(client.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        client.create_native_config().expect("it was built with TLS and SASL");
        let twice = security.check(["sasl.password".to_owned()].iter()).expect_err("twice").to_string();
        assert!(twice.contains("sasl.password"), "{twice}");
        assert!(!format!("{security:?}").contains("sesame"));
    }
}
