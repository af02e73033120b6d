//! Whether the source bucket's present configuration still wants a version copied (replication reference 5.8).

use crate::model::ObjectMd;

use super::CopyJob;

pub(super) enum Permission {
    Granted,
    Withdrawn,
    BadRole,
}

impl CopyJob {
    /// Whether the bucket's present configuration still wants this version copied with the entry's roles
    /// (replication reference 5.8, R1 to R4). Towards targets that mint version ids only the source's role counts, and there may be
    /// no other: buckets whose sites are all clouds have one (5.9, M1).
    pub(super) fn permission(&self, md: &ObjectMd) -> Permission {
        let Some(configuration) = &self.configuration else { return Permission::Withdrawn };
        let roles = md.replication().roles();
        let are_the_same = if self.minting.is_some() {
            matches!(roles.len(), 1 | 2) && configuration.roles.first() == roles.first()
        } else {
            roles.len() == 2 && configuration.roles == roles
        };
        if !are_the_same {
            return Permission::BadRole;
        }
        let key = self.object.key.as_str();
        let wanted = configuration.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        if wanted { Permission::Granted } else { Permission::Withdrawn }
    }
}
