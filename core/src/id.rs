//! Identifiers that machines, queues and sites share. A function never takes two bare integers.

use std::fmt;

use smol_str::SmolStr;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        // Mostly short, then in place: nothing is counted when it is copied.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(SmolStr);

        impl $name {
            /// The identifier as text.
            #[inline]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The identifier as text that is cheap to copy.
            pub fn shared(&self) -> SmolStr {
                self.0.clone()
            }
        }

        impl<T: Into<SmolStr>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The name of a bucket.
    Bucket
}
text_id! {
    /// The key of an object, without any version suffix and never percent-encoded.
    ObjectKey
}
text_id! {
    /// The name of a replication destination: upstream's "site" (replication reference section 0).
    Site
}
text_id! {
    /// The id that a target gave a version (`x-amz-version-id`; upstream's `dataStoreVersionId`).
    MintedId
}
text_id! {
    /// The id of a multipart upload at a target.
    UploadId
}
text_id! {
    /// The name of a queue topic, prefix included.
    Topic
}
text_id! {
    /// The name of a provision: one journal, which one populator at a time reads (upstream's `raftId`).
    Provision
}
text_id! {
    /// The name of one instance among those that share the provisions: that of its owner node.
    Member
}

/// One partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// The position of a message in one partition of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The position of a record in the journal of the source site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// The position after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The identity of a journal: it changes when history was replaced, so that positions of another life are never mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalEpoch(pub u64);

/// One assignment of partitions to a consumer: a counter of ours, larger for every assignment (decision D7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Names one effect of one machine, once. The answer to the effect carries the same id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u64);

/// Hands out effect ids, each once.
#[derive(Clone, Debug, Default)]
pub struct EffectIds(u64);

impl EffectIds {
    /// A fresh id.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless counter gains nothing from being an iterator"
    )]
    pub fn next(&mut self) -> EffectId {
        self.0 += 1;
        EffectId(self.0)
    }
}

/// One partition of one of the topics a machine consumes. `topic` is an index into the machine's list of topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Index into the consumer's topic list: 0 is the main topic, replay topics follow in their configured order.
    pub topic: u8,
    /// The partition.
    pub partition: Partition,
}
