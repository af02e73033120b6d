//! The journal port: every metadata change of the source site, in order, from any position that is still kept.

pub mod ahead;
pub mod bucketd;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod dmd;
pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod memory;
mod pace;

use std::future::Future;

use backbeat_core::call::Ending;
use backbeat_core::id::Seq;
use backbeat_core::populator::Batch;
use backbeat_core::time::Span;

/// A journal.
///
/// Reading consumes nothing: a position can be read again as long as it is kept. A record appears only once everything
/// before it has: positions that were passed over stay empty for ever.
///
/// **What a batch says.** `records` are in order, none before `from`, at most `limit`. `next` is where to go on: larger
/// than every record given, and `from` if there was none. `end` is one past the newest record at the time of reading.
/// `oldest` is the oldest record still kept, or `end` if there is none. `epoch` is the identity of the journal: positions
/// of another epoch mean nothing here.
///
/// **History lost.** When `oldest` is larger than `from`, records between them may be gone: the batch is empty and its
/// `next` is `from`. When `end` is smaller than `from`, the journal went back. Both are for the caller to judge.
///
/// **Endings.** `Refused(Unavailable)`: the source cannot be read now. `Refused(Invalid)`: a record is damaged; the code
/// names it. `Unknown`: no answer in time. A read changes nothing, so each of them may be repeated.
pub trait Journal: Send + Sync + 'static {
    /// Reads from `from` on; without it, says where the journal ends, without records. If there is nothing at or after
    /// `from` yet, waits for something as long as `wait`, then gives an empty batch. Cancel safe.
    fn read(&self, from: Option<Seq>, limit: usize, wait: Span)
    -> impl Future<Output = Ending<Batch>> + Send;
}
