//! Names for states of metadata: what a copy speaks for, what a conditional write compares, what must be equal at a replica.

use std::fmt;
use std::str::FromStr;

use super::digest::Stored;

/// Why a text names no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a state tag: 32 hexadecimal digits, a dash and 16 hexadecimal digits are expected")]
pub struct StateTagError;

/// What a version's metadata says apart from the progress of its replication (decision D2).
///
/// The hash of the canonical metadata, defaults filled in, without what the engine writes: `replicationInfo.status`, the backends and the
/// storage class that goes with them (a retry narrows both to one site without changing what there is to copy), `originOp` and
/// `md-model-version`; and without what a site writes to keep account of null versions (`versionId`, `isNull`, `isNull2`,
/// `nullVersionId`): revisions of different versions are never compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(Stored);

/// What must be equal between a source version and its replica (invariant I3): the canonical metadata without owner, location,
/// encryption, `replicationInfo`, `originOp`, `md-model-version` and the account of null versions, with the part layout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(Stored);

/// A revision together with the progress of its replication: changes with every write that changes anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateTag {
    /// The revision.
    pub revision: Revision,
    status: u64,
}

impl Revision {
    pub(super) fn of(digest: u128) -> Self {
        Self(digest.into())
    }
}

impl Fingerprint {
    pub(super) fn of(digest: u128) -> Self {
        Self(digest.into())
    }
}

impl StateTag {
    pub(super) fn new(revision: Revision, status: u64) -> Self {
        Self { revision, status }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from(self.0))
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for StateTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.revision, self.status)
    }
}

impl fmt::Debug for StateTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let usual = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    usual.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl FromStr for Revision {
    type Err = StateTagError;

    fn from_str(text: &str) -> Result<Self, StateTagError> {
        hex(text, 32).map(Self::of).ok_or(StateTagError)
    }
}

impl FromStr for StateTag {
    type Err = StateTagError;

    fn from_str(text: &str) -> Result<Self, StateTagError> {
        let (revision, status) = text.split_once('-').ok_or(StateTagError)?;
        let status = hex(status, 16).and_then(|status| u64::try_from(status).ok()).ok_or(StateTagError)?;
        Ok(Self { revision: revision.parse()?, status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_tag_survives_its_text_form_and_nothing_else_is_one() {
        let tag = StateTag::new(Revision::of(0x99aa_06d3_0147_98d8_6001_c324_468d_497f), 7);
        let text = tag.to_string();
        assert_eq!(text.len(), 49);
        assert_eq!(text.parse(), Ok(tag));
        for wrong in ["", "-", &text[1..], &text.to_uppercase(), &text.replace('-', "+"), &format!("{text}0")]
        {
            assert_eq!(wrong.parse::<StateTag>(), Err(StateTagError), "{wrong}");
        }
    }
}
