//! Verdicts as JSON.

use std::time::Duration;

/// Serialises a duration as whole microseconds.
pub(crate) fn micros<S: serde::Serializer>(duration: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
