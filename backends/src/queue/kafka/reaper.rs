//! Ends clients where nobody waits: their destructors talk to brokers, and can take seconds.

use std::thread;

/// Drops `client` on a thread of its own, after `farewell`.
pub(crate) fn bury<T: Send + 'static>(client: T, farewell: impl FnOnce(&T) + Send + 'static) {
    let end = move || {
        farewell(&client);
        drop(client);
    };
    if let Err(error) = thread::Builder::new().name("kafka-end".to_owned()).spawn(end) {
        // The closure went with the error: the client has been dropped here and now.
        tracing::warn!(%error, "no thread to end a kafka client on");
    }
}
