//! Which task a queue message means for a site (replication reference 5.2 to 5.4).

use crate::id::Site;

use super::{Message, ObjectEntry};

/// How a site is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SiteKind {
    /// A Scality site: its servers, `host[:port]`, port 80 if not said.
    Scality {
        /// The servers.
        servers: Vec<String>,
        /// Whether bucket creations are echoed there.
        echo: bool,
    },
    /// A site of another type, `aws_s3` for example, reached through the source.
    Typed(String),
}

/// One entry of the bootstrap list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteConfig {
    /// The name.
    pub site: Site,
    /// How it is reached.
    pub kind: SiteKind,
    /// Whether rules that name no site mean this one.
    pub is_default: bool,
}

impl SiteConfig {
    /// Whether copies go through the cloud routes of the source.
    pub fn is_cloud(&self) -> bool {
        matches!(&self.kind, SiteKind::Typed(kind) if matches!(kind.as_str(), "aws_s3" | "azure" | "gcp"))
    }
}

/// What has to be done for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing: the message is done.
    None,
    /// Copy to a Scality site. A site without servers makes it FAILED.
    Replicate,
    /// Copy to a cloud through the source.
    MultipleBackend,
    /// Create the bucket at the target.
    Echo,
}

/// The task that `message` means for `site`. Messages that are no entries mean none; [`Message::Invalid`] must be recorded by the
/// caller. A site missing in `sites` is taken for a Scality site.
pub fn route(message: &Message, site: &Site, sites: &[SiteConfig]) -> Task {
    let config = sites.iter().find(|config| config.site == *site);
    match message {
        Message::Object(entry) => route_object(entry, site, sites),
        Message::Bucket { .. } => match config.map(|config| &config.kind) {
            Some(SiteKind::Scality { echo: true, .. }) => Task::Echo,
            Some(SiteKind::Scality { echo: false, .. } | SiteKind::Typed(_)) | None => Task::None,
        },
        Message::Canary
        | Message::Bootstrap
        | Message::DeleteOp { .. }
        | Message::BucketMd { .. }
        | Message::Action(_)
        | Message::Invalid { .. } => Task::None,
    }
}

/// The task that an object entry means for `site`. The storage class decides, not the list of backends.
pub fn route_object(entry: &ObjectEntry, site: &Site, sites: &[SiteConfig]) -> Task {
    if !entry.replication().names_site(site) {
        return Task::None;
    }
    let cloud = sites.iter().any(|config| config.site == *site && config.is_cloud());
    if cloud { Task::MultipleBackend } else { Task::Replicate }
}

/// Entries with the same ordering key are processed in sequence.
pub fn ordering_key(entry: &ObjectEntry) -> String {
    entry.canonical_key()
}

/// Upstream's key for dropping an entry that waits or runs already: object, raw version id and MD5. Machines here coalesce by version and
/// compare revisions instead (decision D1), because this key is blind to a change of tags.
pub fn dedupe_key(entry: &ObjectEntry) -> String {
    let version = entry.md().version_ref();
    format!("{}:{}:{}", entry.canonical_key(), version.raw().unwrap_or(""), entry.md().content_md5())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_message;

    fn message(storage_class: &str) -> Message {
        let value = format!(r#"{{\"replicationInfo\":{{\"storageClass\":\"{storage_class}\"}}}}"#);
        parse_message(format!(r#"{{"bucket":"b","key":"k","value":"{value}"}}"#).as_bytes())
    }

    #[test]
    fn the_storage_class_and_the_type_of_the_site_decide() {
        let sites = [
            SiteConfig {
                site: "a".into(),
                kind: SiteKind::Scality { servers: vec!["h:1".to_owned()], echo: true },
                is_default: true,
            },
            SiteConfig { site: "c".into(), kind: SiteKind::Typed("gcp".to_owned()), is_default: false },
            SiteConfig { site: "m".into(), kind: SiteKind::Typed("mem".to_owned()), is_default: false },
        ];
        let task = |class: &str, site: &str| route(&message(class), &site.into(), &sites);
        assert_eq!(task("a,c:preferred_read,m", "a"), Task::Replicate);
        assert_eq!(task("a,c:preferred_read,m", "c"), Task::MultipleBackend);
        assert_eq!(task("a,c:preferred_read,m", "m"), Task::Replicate);
        assert_eq!(task("aa", "a"), Task::None);
        assert_eq!(task("", "a"), Task::None);
        let bucket = parse_message(br#"{"bucket":"users..bucket","key":"o..|..b","value":"{}"}"#);
        assert_eq!(route(&bucket, &"a".into(), &sites), Task::Echo);
        assert_eq!(route(&bucket, &"c".into(), &sites), Task::None);
    }
}
