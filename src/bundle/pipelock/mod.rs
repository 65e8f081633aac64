//! What may leave a bottle: from what people write to the configuration of whoever lets it out.
//!
//! Three pure functions, one behind the other:
//!
//! | function | from | to |
//! |---|---|---|
//! | [`classify()`] | a text such as `*.example.com` | what it is, or why it is none |
//! | [`Allowlist::of`] | what several people want to reach, and where each said so | one list, ordered, nothing twice |
//! | [`yaml()`] | that list | [pipelock](https://github.com/luckyPipewrench/pipelock)'s configuration |
//!
//! And [`refused()`], from its log to what it did not let through.

mod allowlist;
mod classify;
mod host;
mod refused;
mod yaml;

pub use allowlist::{Allowlist, Entry, Ports, Source, USUAL_PORTS, Wanted};
pub use classify::classify;
pub use host::{Host, Name, NotAHost};
pub use refused::refused;
pub use yaml::{FILE, command, yaml};
