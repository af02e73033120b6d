//! Bytes from the source to the target, and whose fault it is if they do not arrive.

use std::future::Future;
use std::time::Duration;

use backbeat_core::call::{Ending, Refusal, RefusalKind};
use backbeat_core::model::ObjectRef;
use backbeat_core::request::{PartMove, Side};
use tracing::warn;

use crate::objects::{ByteStream, ObjectSite, PartRange};

/// Without a byte taken for so long, a part that goes to a target is given up: the connection is as good as gone, and the
/// deadline of a part is long enough for large ones.
const STALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Time for a target that has all bytes of a part to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

/// Bytes on their way from the source to a target.
pub(super) struct Passing<'a> {
    pub(super) from: &'a ObjectRef,
    /// Which part, counted from 1.
    pub(super) part: u32,
    pub(super) size: u64,
    /// Lower-case hex MD5; empty if it is not known.
    pub(super) digest: &'a str,
    /// Where they go, for messages.
    pub(super) to: String,
}

impl<'a> Passing<'a> {
    /// A part of an object.
    pub(super) fn of_part(part: &'a PartMove) -> Self {
        Self {
            from: &part.from,
            part: part.number,
            size: part.size,
            digest: &part.digest,
            to: format!("{}/{}", part.to_bucket, part.to_key),
        }
    }

    /// Streams bytes across: `write` is what the target does with them. What is at fault is at the side that is named.
    pub(super) async fn across<S: ObjectSite, T, W: Future<Output = Ending<T>>>(
        self,
        source: &S,
        write: impl FnOnce(ByteStream) -> W,
    ) -> (Side, Ending<T>) {
        let bytes = match source.read_part(self.from, PartRange::Part(self.part)).await {
            Ending::Applied(bytes) => bytes,
            Ending::Refused(refusal) => return (Side::Source, Ending::Refused(refusal)),
            // Nothing was written: a read without an answer is like a source that is not there.
            Ending::Unknown => return (Side::Source, unavailable("no answer to the read")),
        };
        if bytes.size() != self.size {
            let code = format!("part {} has {} bytes, not {}", self.part, bytes.size(), self.size);
            return (Side::Source, Ending::Refused(Refusal::new(RefusalKind::BadDigest, code)));
        }
        let (bytes, meter) = bytes.metered();
        let ending = tokio::select! {
            biased;
            ending = write(bytes) => ending,
            () = meter.stalled(STALL_TIME_MAX, ANSWER_TIME_MAX) => {
                let bytes_left = meter.bytes_left();
                warn!(object = self.to, part = self.part, bytes_left, "the target takes nothing more and does not answer: given up");
                Ending::Unknown
            }
        };
        match (meter.error(), ending) {
            // A target that saw the source break off has not stored the part.
            (Some(error), Ending::Unknown | Ending::Refused(_)) => {
                (Side::Source, unavailable(&error.to_string()))
            }
            // The bytes that arrived were not those that the source announces: the target is not to blame.
            (None, Ending::Refused(refusal))
                if refusal.kind == RefusalKind::BadDigest && meter.md5() != self.digest =>
            {
                (Side::Source, Ending::Refused(refusal))
            }
            (_, ending) => (Side::Target, ending),
        }
    }
}

fn unavailable<T>(code: &str) -> Ending<T> {
    Ending::Refused(Refusal::new(RefusalKind::Unavailable, code))
}
