//! The way of messages from the client, which reads ahead of each partition, to what waits for the owner.

use std::future::Future as _;
use std::task::Poll;

use backbeat_core::id::Epoch;
use backbeat_core::time::WallTime;
use bytes::Bytes;
use futures_util::StreamExt as _;
use rdkafka::consumer::MessageStream;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};

use super::member::{Client, Shared, Watching};
use super::start;
use crate::queue::{Message, Slot};

/// Messages taken of one partition before the others, and commands, are looked at again: an owner may be as fast as the
/// client.
const BATCH_MAX: usize = 256;

/// A partition and the queue in which the client keeps what it has read ahead of it.
pub(super) struct Partitioned {
    pub(super) slot: Slot,
    /// The name of its topic on the wire.
    pub(super) topic: String,
    pub(super) queue: StreamPartitionQueue<Watching>,
}

impl Partitioned {
    fn is_of(&self, message: &BorrowedMessage<'_>) -> bool {
        i64::from(self.slot.partition.0) == i64::from(message.partition()) && self.topic == message.topic()
    }
}

/// Takes to the owner what has come of the partitions of which it wants more. Ends when something was taken, when more is
/// wanted than at the start, or with what the client complains about. Cancelled, it has taken nothing.
pub(super) async fn take_in(
    client: Option<&Client>,
    partitions: &[Partitioned],
    shared: &Shared,
) -> Option<KafkaError> {
    let Some(client) = client else { return std::future::pending().await };
    // Looked at in any case: it is how the client hears of its group, and tells us.
    let mut main = client.stream();
    let mut wanted: Vec<(&Slot, MessageStream<'_, Watching>)> = {
        let reading = shared.reading();
        let low = partitions.iter().filter(|own| reading.wants(&own.slot));
        low.map(|own| (&own.slot, own.queue.stream())).collect()
    };
    let mut more = std::pin::pin!(shared.wanted.notified());
    std::future::poll_fn(|context| {
        let mut has_come = more.as_mut().poll(context).is_ready();
        let mut trouble = None;
        while trouble.is_none()
            && let Poll::Ready(Some(came)) = main.poll_next_unpin(context)
        {
            match came {
                // It was here before its partition got a queue: older than what is there.
                Ok(message) => {
                    if let Some(own) = partitions.iter().find(|own| own.is_of(&message)) {
                        shared.reading().arrive(owned(&own.slot, &message));
                        shared.changed.notify_one();
                        has_come = true;
                    }
                }
                Err(error) => trouble = Some(error),
            }
        }
        for (slot, messages) in &mut wanted {
            let mut room = BATCH_MAX;
            let mut taken = false;
            while room > 0
                && trouble.is_none()
                && let Poll::Ready(Some(came)) = messages.poll_next_unpin(context)
            {
                match came {
                    Ok(message) => {
                        room = if shared.reading().arrive(owned(slot, &message)) { room - 1 } else { 0 };
                        taken = true;
                    }
                    Err(error) => trouble = Some(error),
                }
            }
            if taken {
                shared.changed.notify_one();
                has_come = true;
            }
        }
        if has_come || trouble.is_some() { Poll::Ready(trouble.take()) } else { Poll::Pending }
    })
    .await
}

fn owned(slot: &Slot, message: &BorrowedMessage<'_>) -> Message {
    Message {
        // The one of the assignment, put in with it.
        epoch: Epoch(0),
        slot: slot.clone(),
        offset: start::offset(message.offset()),
        key: message.key().map(Bytes::copy_from_slice),
        payload: message.payload().map(Bytes::copy_from_slice),
        timestamp: WallTime::from_millis(message.timestamp().to_millis().unwrap_or(0)),
    }
}
