//! The one attempt that rests on exec's own result: a command's output and exit code come back.

use std::time::Duration;

use super::attempt::fresh_nonce;
use super::verdict::Verdict;
use crate::bottle::{Bottle, BottleError, Command, End};
use crate::report::text::Untrusted;

/// How long the command may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A code that no shell, runtime or signal gives.
const CODE: i32 = 42;

/// Runs a command that prints a nonce on each stream and exits with a code of its own.
pub(super) async fn attempt(bottle: &dyn Bottle) -> Verdict {
    let (out, err) = (fresh_nonce(), fresh_nonce());
    let code = CODE.to_string();
    let command = Command::new(bottle.toolbox()).args(["say", out.as_str(), err.as_str(), &code]);
    let output = match bottle.exec(command.timeout(PATIENCE)).await {
        Ok(output) => output,
        Err(error) => return Verdict::Inconclusive { why: error.to_string() },
    };
    let wrong = |what: &str, got: &[u8]| {
        let got = Untrusted::new(&got[..got.len().min(80)]);
        Verdict::Unreached { why: format!("{what} did not come back, but {:?}", got.as_str()) }
    };
    if output.end == End::TimedOut {
        // One that was waited for in vain has shown nothing: the bottle may have been stopped as a whole.
        let why = format!("the command did not end within {} s", PATIENCE.as_secs());
        return Verdict::Inconclusive { why };
    }
    if output.end == End::OutOfMemory {
        return Verdict::Inconclusive { why: BottleError::OutOfMemory.to_string() };
    }
    if output.end != End::Code(CODE) {
        return Verdict::Unreached { why: format!("the command ended otherwise: {}", output.end) };
    }
    if output.stdout.trim_ascii_end() != out.as_str().as_bytes() {
        return wrong("standard output", &output.stdout);
    }
    if output.stderr.trim_ascii_end() != err.as_str().as_bytes() {
        return wrong("standard error", &output.stderr);
    }
    Verdict::Reached
}
