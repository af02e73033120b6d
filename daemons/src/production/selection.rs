//! What a queue processor is told to serve.

use super::StartError;
use crate::config::Config;

/// What a queue processor serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// These sites only; all if there are none.
    pub sites: Vec<String>,
    /// This replay topic only, not the replication topic and all replay topics.
    pub replay_topic: Option<String>,
}

impl Selection {
    /// Refuses what is not configured.
    pub(super) fn check(&self, config: &Config) -> Result<(), StartError> {
        let Some(wanted) = &self.replay_topic else { return Ok(()) };
        let known: Vec<String> =
            config.replication().replay_topics.into_iter().map(|replay| replay.topic_name).collect();
        if known.contains(wanted) {
            return Ok(());
        }
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(StartError::Configuration(format!(
            "{wanted} is not a replay topic (sites are named with --site); extensions.replication.replayTopics has: {known}"
        )))
    }

    /// Whether `site` is served.
    pub(super) fn has(&self, site: &str) -> bool {
        self.sites.is_empty() || self.sites.iter().any(|wanted| wanted == site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_replay_topics_are_served() {
        let config = Config::load(None, []).expect("the defaults are valid");
        let replay = |topic: &str| Selection { replay_topic: Some(topic.to_owned()), ..Selection::default() };
        assert!(replay("backbeat-replication-replay-0").check(&config).is_ok());
        let error = replay("paris").check(&config).expect_err("a site's name").to_string();
        assert!(error.contains("backbeat-replication-replay-0") && error.contains("--site"), "{error}");
    }
}
