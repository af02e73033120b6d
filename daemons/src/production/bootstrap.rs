//! The bootstrap list: which sites there are. It is read again while the processors run (replication reference 1.2).

use super::StartError;
use super::selection::Selection;
use super::sites::Destinations;
use crate::config::{BootstrapSite, Config, Destination, S3_SITE, S3Options};

/// The sites that are served, as the configuration names them.
pub(super) struct Bootstrap {
    selection: Selection,
    known: Vec<BootstrapSite>,
    /// What was wrong the last time, so that it is said once.
    trouble: Option<String>,
}

impl Bootstrap {
    pub(super) fn new(selection: Selection) -> Self {
        Self { selection, known: Vec::new(), trouble: None }
    }

    /// The sites of `config` that are served.
    pub(super) fn configured(&mut self, config: &Config) -> Result<Vec<BootstrapSite>, StartError> {
        let destination: Destination = config.section(Destinations::KEY)?;
        self.known = self.served(destination.bootstrap_list)?;
        Ok(self.known.clone())
    }

    /// The sites that are served now, if they changed since the last time. A configuration that cannot be used changes
    /// nothing.
    pub(super) async fn changed(&mut self, config: &Config) -> Option<Vec<BootstrapSite>> {
        let file = config.file()?.to_owned();
        let read = move || Config::load(Some(&file), std::env::vars());
        let read = tokio::task::spawn_blocking(read).await.ok()?;
        let list = read
            .map_err(StartError::from)
            .and_then(|config| Ok(config.section::<Destination>(Destinations::KEY)?))
            .and_then(|destination| self.served(destination.bootstrap_list));
        match list {
            Ok(list) => {
                self.trouble = None;
                if list == self.known {
                    return None;
                }
                self.known.clone_from(&list);
                Some(list)
            }
            Err(error) => {
                let trouble = error.to_string();
                if self.trouble.as_ref() != Some(&trouble) {
                    tracing::error!(%error, "the configuration on disk cannot be used; the sites stay as they are");
                }
                self.trouble = Some(trouble);
                None
            }
        }
    }

    fn served(&self, list: Vec<BootstrapSite>) -> Result<Vec<BootstrapSite>, StartError> {
        let key = format!("{}.bootstrapList", Destinations::KEY);
        for wanted in &self.selection.sites {
            if list.iter().all(|site| site.site != *wanted) {
                let known: Vec<&str> = list.iter().map(|site| site.site.as_str()).collect();
                return Err(StartError::Configuration(format!(
                    "{key} has no site {wanted}; it has: {}",
                    known.join(", ")
                )));
            }
        }
        let served: Vec<BootstrapSite> =
            list.into_iter().filter(|site| self.selection.has(&site.site)).collect();
        for (index, site) in served.iter().enumerate() {
            let name = &site.site;
            let is_plain = site.kind.as_deref() != Some(S3_SITE);
            let wrong = match &site.kind {
                Some(kind) if is_plain => Some(format!(
                    "site {name} is of type {kind}, which is not supported yet: leave it out with --site"
                )),
                _ if is_plain && site.s3 != S3Options::default() => Some(format!(
                    "site {name} says how its S3 is spoken to and is not of type {S3_SITE}: give it this type or leave that out"
                )),
                _ if site.servers.is_empty() => Some(format!("site {name} has no servers: name some")),
                _ if site.echo => Some(format!("site {name} has echo, which is not supported: remove it")),
                _ if served[..index].iter().any(|other| other.site == *name) => {
                    Some(format!("two sites are called {name}: give each a name of its own"))
                }
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(StartError::Configuration(format!("{key}: {wrong}")));
            }
        }
        Ok(served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(selection: &[&str], list: &str) -> Result<Vec<String>, String> {
        let sites = selection.iter().map(|&site| site.to_owned()).collect();
        let bootstrap = Bootstrap::new(Selection { sites, replay_topic: None });
        let list = serde_json::from_str(list).expect("a list");
        let served = bootstrap.served(list).map_err(|error| error.to_string())?;
        Ok(served.into_iter().map(|site| site.site).collect())
    }

    #[test]
    fn sites_are_chosen_by_name() {
        let list = r#"[{"site":"a","servers":["x:1"]},{"site":"b","type":"aws_s3"}]"#;
        assert_eq!(served(&["a"], list), Ok(vec!["a".to_owned()]));
        let error = served(&[], list).expect_err("b is in a cloud");
        assert!(error.contains("site b is of type aws_s3"), "{error}");
        let error = served(&["c"], list).expect_err("there is no c");
        assert!(error.contains("has no site c; it has: a, b"), "{error}");
    }

    #[test]
    fn sites_that_cannot_be_served_are_named() {
        let twice = r#"[{"site":"a","servers":["x:1"]},{"site":"a","servers":["y:1"]}]"#;
        assert!(served(&[], twice).expect_err("twice").contains("two sites are called a"));
        assert!(served(&[], r#"[{"site":"a"}]"#).expect_err("nowhere").contains("has no servers"));
        let plain = r#"[{"site":"a","servers":["x:1"],"region":"eu-central-1"}]"#;
        assert!(served(&[], plain).expect_err("no type").contains("is not of type s3"));
        assert_eq!(
            served(&[], r#"[{"site":"a","type":"s3","servers":["x:1"],"region":"r"}]"#),
            Ok(vec!["a".to_owned()])
        );
        assert!(
            served(&[], r#"[{"site":"a","type":"s3"}]"#).expect_err("nowhere").contains("has no servers")
        );
    }

    #[tokio::test]
    async fn a_list_that_changes_on_disk_is_told_once_and_a_broken_one_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        let write = |list: &str| {
            let text = format!(
                r#"{{"extensions":{{"replication":{{"destination":{{"auth":{{"type":"account"}},"bootstrapList":{list}}}}}}}}}"#
            );
            std::fs::write(&file, text).expect("written");
        };
        write(r#"[{"site":"a","servers":["x:1"]}]"#);
        let config = Config::load(Some(&file), []).expect("valid");
        let mut bootstrap = Bootstrap::new(Selection::default());
        assert_eq!(bootstrap.configured(&config).expect("usable").len(), 1);
        assert_eq!(bootstrap.changed(&config).await, None);
        write(r#"[{"site":"a","servers":["x:1"]},{"site":"b","servers":["y:1"]}]"#);
        assert_eq!(bootstrap.changed(&config).await.map(|list| list.len()), Some(2));
        assert_eq!(bootstrap.changed(&config).await, None);
        std::fs::write(&file, "{").expect("written");
        assert_eq!(bootstrap.changed(&config).await, None);
        write("[]");
        assert_eq!(bootstrap.changed(&config).await, Some(Vec::new()));
    }
}
