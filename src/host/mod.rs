//! What this machine can run: facts about the host, and requirements with the reason why they are unmet.
//!
//! [`Host`] is a plain value. [`Host::detect`] fills one in for this machine, [`Host::bare`] makes one up.
//! [`Requirements`] are data that are evaluated against it, and [`doctor`] explains the result to a person.
//!
//! ```
//! use claude_bottle::host::{Host, Requirement, Requirements};
//!
//! let host = Host::bare().with(Requirement::Docker);
//! assert_eq!(Requirements::for_backend("docker").reason(&host), None);
//! assert_eq!(
//!     Requirements::for_backend("smolmachines").reason(&host).as_deref(),
//!     Some("needs darwin (this is linux); needs smolvm on PATH"),
//! );
//! ```

mod addresses;
mod context;
mod detect;
mod docker;
mod doctor;
mod facts;
mod requirement;
mod requirements;
mod user_namespaces;

pub(crate) use addresses::{interface_addresses, interface_with, local_addresses};
pub(crate) use detect::has_vsock_loopback;
pub use detect::{Calls, Detect};
pub use docker::{Docker, ENGINE, Endpoint, EndpointError, EngineKind};
pub use doctor::doctor;
pub use facts::{Host, Lack, Smolvm, UserNamespaces};
pub use requirement::{Requirement, UnknownRequirement, Unmet};
pub use requirements::Requirements;
