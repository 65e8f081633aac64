//! Replacing the process' environment.

use std::ffi::OsString;

/// Removes the variables named in `old` and sets those of `new`.
///
/// Only for single-threaded roles, at their start.
pub(crate) fn replace(old: Vec<OsString>, new: impl Iterator<Item = (String, String)>) {
    for name in old {
        // SAFETY: no other thread exists that could read the environment.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in new {
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
}
