//! Preparing two buckets for replication, and looking whether they are prepared (replication reference 9).
//!
//! What is [wanted](Wanted) and what is [found](Found) make a [plan](plan()); what is [seen](Seen) makes [checks](checks()).
//! Both are pure. [`Work`] looks and carries out.

mod checks;
mod error;
mod names;
mod places;
mod plan;
mod policy;
mod rights;
mod work;

use backbeat_backends::objects::Versioning;
use backbeat_core::request::Side;

pub use checks::{Check, Outcome, RoleSeen, Seen, checks};
pub use error::{SetupError, Trouble};
pub use names::{TargetSite, Wanted};
pub use places::{Overrides, Place, Places, TargetPlaces};
pub use plan::{Conflict, Found, FoundIam, FoundPolicy, Item, Plan, Step, plan};
pub use work::{Clients, Work};

/// Something of the source's and, unless the target is a cloud that is reached through the source, of the target's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Both<T> {
    /// The source's.
    pub source: T,
    /// The target's.
    pub target: Option<T>,
}

impl<T> Both<T> {
    /// That of one side.
    pub fn at(&self, side: Side) -> Option<&T> {
        match side {
            Side::Source => Some(&self.source),
            Side::Target => self.target.as_ref(),
        }
    }

    fn at_mut(&mut self, side: Side) -> Option<&mut T> {
        match side {
            Side::Source => Some(&mut self.source),
            Side::Target => self.target.as_mut(),
        }
    }

    /// Both made into something else.
    pub fn map<U>(self, mut make: impl FnMut(Side, T) -> U) -> Both<U> {
        Both { source: make(Side::Source, self.source), target: self.target.map(|of| make(Side::Target, of)) }
    }
}

/// What a side is called.
pub fn side_name(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Target => "target",
    }
}

/// What S3 calls a state of versioning.
fn versioning_name(versioning: Versioning) -> &'static str {
    match versioning {
        Versioning::Never => "not enabled",
        Versioning::Enabled => "Enabled",
        Versioning::Suspended => "Suspended",
    }
}
