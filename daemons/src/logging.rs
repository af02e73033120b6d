//! Log lines on standard error, and which of them: also while the process runs.

use std::fmt;
use std::sync::Arc;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Which log lines are written. Clones change the same.
#[derive(Clone)]
pub struct LogFilter(Arc<reload::Handle<EnvFilter, Registry>>);

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogFilter").field(&self.current()).finish()
    }
}

/// A text that is no filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is no log filter ({reason}): a level (error, warn, info, debug, trace), or MODULE=LEVEL, separated by commas"
)]
pub struct FilterError {
    text: String,
    reason: String,
}

impl LogFilter {
    /// The filter, and what has to be in the way of the log lines for it to count.
    fn new(filter: EnvFilter) -> (Self, reload::Layer<EnvFilter, Registry>) {
        let (layer, handle) = reload::Layer::new(filter);
        (Self(Arc::new(handle)), layer)
    }

    /// The filter as text.
    pub fn current(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Writes from now on what `text` says: a level, or levels of modules, separated by commas.
    ///
    /// # Errors
    /// The text is no filter; then nothing changes.
    pub fn set(&self, text: &str) -> Result<(), FilterError> {
        let error = |reason: String| FilterError { text: text.to_owned(), reason };
        if text.trim().is_empty() {
            return Err(error("nothing would be written".to_owned()));
        }
        let filter = EnvFilter::try_new(text.trim()).map_err(|reason| error(reason.to_string()))?;
        self.0.reload(filter).map_err(|reason| error(reason.to_string()))
    }
}

/// Starts writing log lines to standard error, from `level` on; `RUST_LOG` overrides it.
///
/// # Panics
/// If log lines are written already.
pub fn start(level: &str) -> LogFilter {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let (filter, layer) = LogFilter::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(layer).with(lines).init();
    filter
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A filter, and the way of log lines that it is in: it counts as long as that is kept.
    pub(crate) fn filter(text: &str) -> (LogFilter, impl tracing::Subscriber + Send + Sync) {
        let (filter, layer) = LogFilter::new(EnvFilter::new(text));
        (filter, tracing_subscriber::registry().with(layer))
    }

    #[test]
    fn a_filter_changes_what_is_written_and_nonsense_changes_nothing() {
        let (filter, subscriber) = filter("info");
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            filter.set("debug").expect("it is a filter");
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            for nonsense in ["", " ", "backbeat=loud"] {
                let error = filter.set(nonsense).expect_err("it is none").to_string();
                assert!(error.contains(nonsense), "{error}");
            }
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            filter.set("warn,backbeat_core=trace").expect("it is a filter");
            assert!(!tracing::enabled!(tracing::Level::INFO));
            assert!(filter.current().contains("backbeat_core=trace"), "{}", filter.current());
        });
    }
}
