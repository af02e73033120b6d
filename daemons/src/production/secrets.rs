//! What is not in the configuration itself but in files that it names: certificates, keys, passwords.

use std::path::{Path, PathBuf};

use backbeat_backends::credentials::Secret;
use backbeat_backends::http;
use backbeat_backends::tls::{IdentityFiles, Tls, TlsFiles};

use super::StartError;
use crate::config::{Certificates, Config, Transport};

/// A file in the folder of the configuration, unless its name begins at the root.
pub(super) fn beside(config: &Config, name: &str) -> PathBuf {
    let folder = config.file().and_then(Path::parent).unwrap_or_else(|| Path::new("conf"));
    folder.join(name)
}

/// The files that the section at `key` names, all of which can be read (replication reference 8.4).
pub(super) fn tls_files(config: &Config, key: &str, section: &Certificates) -> Result<TlsFiles, StartError> {
    let file = |member: &str, name: &str| -> Result<Option<PathBuf>, StartError> {
        if name.is_empty() {
            return Ok(None);
        }
        let path = beside(config, name);
        let opened = std::fs::File::open(&path);
        let unreadable = |error| {
            StartError::Configuration(format!("{key}.{member}: {} cannot be read: {error}", path.display()))
        };
        opened.map_err(unreadable)?;
        Ok(Some(path))
    };
    let authorities = file("ca", &section.ca)?;
    let identity = match (file("cert", &section.cert)?, file("key", &section.key)?) {
        (Some(certificate), Some(key)) => Some(IdentityFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            tracing::warn!(
                section = key,
                "a certificate and its key go together: neither is used, name both"
            );
            None
        }
    };
    Ok(TlsFiles { authorities, identity })
}

/// The same, read, if there is such a section.
pub(super) fn tls(
    config: &Config,
    key: &str,
    section: Option<&Certificates>,
) -> Result<Option<Tls>, StartError> {
    let files = section.map(|section| tls_files(config, key, section)).transpose()?;
    Ok(files.as_ref().map(Tls::read).transpose()?)
}

/// How clients of HTTP speak to those whose certificates are at `key`.
pub(crate) fn transport(
    config: &Config,
    transport: Transport,
    key: &'static str,
) -> Result<http::Transport, StartError> {
    match transport {
        Transport::Http => Ok(http::Transport::Http),
        Transport::Https => {
            let section = match config.value(&format!("/{key}")) {
                Some(_) => config.section(key)?,
                None => Certificates::default(),
            };
            Ok(http::Transport::Https(Tls::read(&tls_files(config, key, &section)?)?))
        }
    }
}

pub(super) fn no_password(key: &str) -> StartError {
    StartError::Configuration(format!("{key}.password: missing; set it, or {key}.passwordFile"))
}

/// The password of a section: what it says itself, or what is in the file that it names, without the end of the line.
pub(super) fn password(
    config: &Config,
    key: &str,
    text: Option<&str>,
    file: Option<&str>,
) -> Result<Option<Secret>, StartError> {
    match (text.filter(|text| !text.is_empty()), file) {
        (Some(_), Some(_)) => Err(StartError::Configuration(format!(
            "{key}: there is a password and a file with one: remove one"
        ))),
        (Some(text), None) => Ok(Some(Secret::new(text))),
        (None, None) => Ok(None),
        (None, Some(name)) => {
            let path = beside(config, name);
            let wrong = |why: String| {
                StartError::Configuration(format!("the password file {} of {key} {why}", path.display()))
            };
            let text =
                std::fs::read_to_string(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                return Err(wrong("is empty".to_owned()));
            }
            Ok(Some(Secret::new(text)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> (tempfile::TempDir, Config) {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("config.json");
        std::fs::write(&file, "{}").expect("written");
        let config = Config::load(Some(&file), []).expect("usable");
        (folder, config)
    }

    fn certificates(key: &str, cert: &str, ca: &str) -> Certificates {
        Certificates { key: key.to_owned(), cert: cert.to_owned(), ca: ca.to_owned() }
    }

    #[test]
    fn files_are_looked_for_beside_the_configuration() {
        let (folder, config) = configured();
        let there = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").expect("written");
            path
        };
        let (ca, cert, key) = (there("ca.pem"), there("cert.pem"), there("key.pem"));
        let files = tls_files(&config, "kafka.tls", &certificates("key.pem", "cert.pem", "ca.pem"));
        let identity = Some(IdentityFiles { certificate: cert, key });
        assert_eq!(files.expect("all are there"), TlsFiles { authorities: Some(ca), identity });
        let none = tls_files(&config, "kafka.tls", &certificates("", "", "")).expect("none is needed");
        assert_eq!(none, TlsFiles::default());
        let half = tls_files(&config, "kafka.tls", &certificates("", "cert.pem", "")).expect("not used");
        assert_eq!(half, TlsFiles::default());
        let error = tls_files(&config, "kafka.tls", &certificates("", "", "nowhere.pem"));
        let error = error.expect_err("it is not there").to_string();
        assert!(error.starts_with("kafka.tls.ca: ") && error.contains("nowhere.pem"), "{error}");
    }

    #[test]
    fn a_password_comes_from_one_place() {
        let (folder, config) = configured();
        std::fs::write(folder.path().join("word"), "hush \n").expect("written");
        std::fs::write(folder.path().join("empty"), "\n").expect("written");
        let of = |text, file| password(&config, "redis", text, file).map_err(|error| error.to_string());
        assert_eq!(of(None, Some("word")), Ok(Some(Secret::new("hush "))));
        assert_eq!(of(Some("other"), None), Ok(Some(Secret::new("other"))));
        assert_eq!(of(Some(""), None), Ok(None));
        assert!(of(Some("other"), Some("word")).expect_err("two").contains("remove one"));
        assert!(of(None, Some("empty")).expect_err("nothing").ends_with("is empty"));
        assert!(of(None, Some("nowhere")).expect_err("nothing").contains("nowhere"));
    }
}
