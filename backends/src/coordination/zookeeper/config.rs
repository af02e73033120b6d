//! How to reach ZooKeeper, and what may be wrong with that.

use std::fmt;
use std::time::Duration;

use crate::credentials::Secret;
use crate::tls::Tls;

/// How to reach ZooKeeper.
#[derive(Clone, Debug)]
pub struct ZooKeeperConfig {
    /// `host:port[,host:port...][/folder]`: all paths are below the folder.
    pub connection: String,
    /// Makes the folder if it is missing (upstream's `autoCreateNamespace`); otherwise everything in a missing one is
    /// `NotFound`.
    pub makes_namespace: bool,
    /// How long the servers keep the session without hearing of it; they may insist on another time.
    pub session_time: Duration,
    /// How long it may take to open a session, and to answer a request.
    pub answer_time_max: Duration,
    /// User and password: nodes are made for that user alone.
    pub digest: Option<(String, Secret)>,
    /// The servers are spoken to over TLS.
    pub tls: Option<Tls>,
}

impl ZooKeeperConfig {
    /// The servers and the folder of a connection string, with upstream's session time (replication reference 11.2).
    pub fn new(connection: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            makes_namespace: false,
            session_time: Duration::from_secs(30),
            answer_time_max: Duration::from_secs(10),
            digest: None,
            tls: None,
        }
    }

    /// The servers, and the folder, which is empty or begins with a slash and does not end with one.
    pub(super) fn place(&self) -> Result<Place, ConnectError> {
        let (servers, folder) = match self.connection.find('/') {
            Some(start) => self.connection.split_at(start),
            None => (self.connection.as_str(), ""),
        };
        let invalid = |reason: &'static str| ConnectError::Invalid {
            connection: self.connection.clone(),
            reason: reason.to_owned(),
        };
        if servers.split(',').any(str::is_empty) {
            return Err(invalid("a server's name is missing"));
        }
        let folder = folder.trim_end_matches('/');
        if folder.contains("//") {
            return Err(invalid("a segment of the folder is empty"));
        }
        Ok(Place { servers: servers.to_owned(), folder: folder.to_owned() })
    }
}

/// Where all nodes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) servers: String,
    pub(super) folder: String,
}

impl Place {
    /// The hosts of the servers, without their ports.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.servers.split(',').map(|server| server.rsplit_once(':').map_or(server, |(host, _)| host))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.servers, self.folder)
    }
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered. Trying again later may help.
    #[error(
        "no ZooKeeper answered at {servers} within {within:?}: is it running, and is this its client port?"
    )]
    Unreachable {
        /// The servers that were asked.
        servers: String,
        /// For how long.
        within: Duration,
    },
    /// User or password were refused, or they do not suffice to make the folder.
    #[error(
        "ZooKeeper at {place} refused access ({code}): check the user, the password and the rights of the folder"
    )]
    Denied {
        /// Servers and folder.
        place: String,
        /// What the server said.
        code: String,
    },
    /// Server and client do not trust each other.
    #[error(
        "ZooKeeper at {server}: no protected connection: {reason}; look at the authorities, the certificates and their keys"
    )]
    Distrust {
        /// The server that said so, or was not believed.
        server: String,
        /// Who does not trust whom, and why.
        reason: String,
    },
    /// The connection string is none.
    #[error("ZooKeeper connection {connection:?} is not `host:port[,host:port...][/folder]`: {reason}")]
    Invalid {
        /// The string.
        connection: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The servers answered with something else.
    #[error("ZooKeeper at {place} opened no session: {reason}")]
    Failed {
        /// Servers and folder.
        place: String,
        /// What happened.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(connection: &str) -> Result<(String, String), String> {
        match ZooKeeperConfig::new(connection).place() {
            Ok(Place { servers, folder }) => Ok((servers, folder)),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn servers_and_folder_are_told_apart() {
        let two = |servers: &str, folder: &str| Ok((servers.to_owned(), folder.to_owned()));
        assert_eq!(place("one:2181"), two("one:2181", ""));
        assert_eq!(place("one:2181/"), two("one:2181", ""));
        assert_eq!(place("one:2181,two:2181/backbeat/"), two("one:2181,two:2181", "/backbeat"));
        assert_eq!(place("one/a/b"), two("one", "/a/b"));
        for bad in ["", "/backbeat", "one:2181,,two:2181", "one:2181/a//b"] {
            let message = place(bad).expect_err("it is none");
            assert!(message.contains(&format!("{bad:?}")), "{message}");
        }
    }
}
