//! How a copy ends.

use crate::id::MintedId;
use crate::model::ObjectMd;

/// How a copy ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The target equals this source revision. `bytes` were moved for it.
    Copied {
        /// The source revision.
        source: ObjectMd,
        /// Bytes of data moved, zero when the target had them.
        bytes: u64,
        /// The id that the target gave the copy, if it mints ids.
        minted: Option<MintedId>,
    },
    /// There is nothing to record.
    Settled(Settled),
    /// Trying again by itself is pointless, or was tried long enough.
    Failed {
        /// A stable word.
        reason: String,
        /// The source revision the failure speaks for.
        source: ObjectMd,
    },
    /// Something outside has to change first; nothing is wrong with the copy.
    Held {
        /// A stable word.
        reason: String,
    },
}

/// Why a version needs no work and no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The version is gone at the source.
    Gone,
    /// The site is COMPLETED for the present revision.
    AlreadyCompleted,
    /// The version does not ask for replication to this site (any more).
    NotRequested,
    /// The data is archived: upstream skips it too (replication reference 5.7, `InvalidObjectState`).
    Archived,
}
