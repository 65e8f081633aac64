//! Text that a guest had a hand in, made harmless.

use serde::Serialize;

/// Text from inside a bottle, decoded lossily, escaped and bounded: the only form in which it enters a report.
///
/// It holds no control character but newline and tab, nothing that XML 1.0 forbids, and no `]]>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// Makes `bytes` harmless.
    pub fn new(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).escape_debug().to_string())
    }

    /// The harmless text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
