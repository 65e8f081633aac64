//! Tests that not every host can make: what cannot run here is ignored, and the reason stands beside it, as libtest has no
//! way to say once a test has begun.

mod runner;

use claude_bottle::host::Host;

pub(crate) use self::runner::*;

/// Ends the test that this is called from as ignored where no bottle of the embedded backend can be launched.
#[allow(dead_code, reason = "not every suite has such tests")]
pub(crate) fn needs_user_namespaces() {
    if let Err(lack) = Host::detect().user_namespaces {
        skip(format!("needs user-namespaces: {lack}"));
    }
}
