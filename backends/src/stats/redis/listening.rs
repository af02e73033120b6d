//! Listening to a channel of Redis, over connections that may break.

use std::sync::Arc;
use std::time::Duration;

use backbeat_core::call::Refusal;
use futures_util::StreamExt as _;
use redis::aio::PubSub;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::link::Link;
use crate::stats::{Heard, Subscription};

/// Messages that a slow listener may be behind before it misses some.
const DEPTH: usize = 256;
/// How long to wait between two attempts to listen again.
const RETRY: Duration = Duration::from_secs(1);
/// How often a connection on which nothing is said is asked whether it is there.
const CHECK: Duration = Duration::from_secs(15);

/// Listens from now on. The connection is made again when it breaks, after which the listener is told that it missed
/// something; it is given up when the listener goes.
pub(super) async fn listen(link: Arc<Link>, channel: String) -> Result<Subscription, Refusal> {
    let mut listener = link.listener(&channel).await?;
    let (told, heard) = broadcast::channel(DEPTH);
    tokio::spawn(async move {
        tokio::select! {
            () = told.closed() => {}
            () = async {
                loop {
                    relay(listener, &told, link.config().answer_time_max).await;
                    tracing::warn!(channel, "the connection to Redis that listens was lost");
                    listener = again(&link, &channel).await;
                    // Nobody listens any more: the other branch ends this.
                    drop(told.send(Heard::Missed(1)));
                }
            } => {}
        }
    });
    Ok(Subscription::told(heard))
}

/// Passes messages on until the connection ends or is silent for too long.
async fn relay(listener: PubSub, told: &broadcast::Sender<Heard>, answer_time_max: Duration) {
    let (mut questions, mut messages) = listener.split();
    loop {
        match timeout(CHECK, messages.next()).await {
            Ok(Some(message)) => {
                drop(told.send(Heard::Message(message.get_payload_bytes().to_vec().into())));
            }
            Ok(None) => return,
            Err(_) => match timeout(answer_time_max, questions.ping::<redis::Value>()).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            },
        }
    }
}

async fn again(link: &Link, channel: &str) -> PubSub {
    loop {
        match link.listener(channel).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}
