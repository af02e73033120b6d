//! How a command ends.

use std::fmt;
use std::process::ExitCode;

/// The exit codes, the same for every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It went wrong.
    Error = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Answered, and the answer is bad.
    Bad = 3,
    /// Not found.
    NotFound = 4,
    /// Not now; it may work later.
    Temporary = 5,
    /// A guard refused.
    Refused = 6,
    /// Not permitted.
    NotPermitted = 7,
    /// It took too long.
    TimedOut = 8,
}

impl Exit {
    /// What a process of this program that ended with `code` means by it.
    pub(super) fn of_code(code: i32) -> Self {
        let all = [
            Self::Done,
            Self::Usage,
            Self::Bad,
            Self::NotFound,
            Self::Temporary,
            Self::Refused,
            Self::NotPermitted,
            Self::TimedOut,
        ];
        all.into_iter().find(|exit| i32::from(*exit as u8) == code).unwrap_or(Self::Error)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// A failure that ends with `exit`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into() }
    }

    /// A failure that ends with `exit`, told in words.
    pub fn say(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, error: anyhow::anyhow!("{message}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Error, error)
    }
}
