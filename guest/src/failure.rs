//! What went wrong in a system call, and while doing what.

use std::fmt;

/// A failed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What was being done, such as `unshare a user namespace`.
    pub(crate) what: String,
    /// The errno, 0 if none.
    pub(crate) errno: i32,
}

impl Failure {
    /// A failure that no system call is behind.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), errno: 0 }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errno == 0 {
            return f.write_str(&self.what);
        }
        write!(f, "{}: {}", self.what, nix::Error::from_raw(self.errno).desc())
    }
}

impl std::error::Error for Failure {}

/// Adds to an error what was being done.
pub(crate) trait Doing<T> {
    /// `doing` is lower-case and fits after "cannot".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T> Doing<T> for nix::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|errno| Failure { what: doing(), errno: errno as i32 })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Failure { what: doing(), errno },
            None => Failure::new(format!("{}: {error}", doing())),
        })
    }
}
