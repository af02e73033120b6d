//! The small pieces that the machines are composed of. Each is useful and tested alone, knows nothing of the others
//! unless it is built from them, and is told the time.

pub mod breaker;
pub mod budget;
pub mod in_flight;
pub mod lanes;
pub mod ledger;
pub mod probe_breaker;
pub mod retry;
pub mod schedule;
pub mod timers;
pub mod window;

pub use breaker::{Breaker, BreakerPolicy, BreakerState, Forced, Permit};
pub use budget::Budget;
pub use in_flight::InFlight;
pub use lanes::Lanes;
pub use ledger::{Ledger, Position};
pub use probe_breaker::{ProbeBreaker, ProbeBreakerPolicy, ProbeBreakerState};
pub use retry::{Retry, RetryDecision, RetryPolicy};
pub use schedule::{Schedule, ScheduleError};
pub use timers::Timers;
pub use window::Window;
