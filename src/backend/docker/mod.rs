//! Bottles on a Docker engine: an agent and its bundle in containers, the agent's routes pinned to the bundle.
//!
//! An internal network alone is not enough: up to Engine 27 its containers reach the host by the bridge's own address,
//! and 127.0.0.11 hands on what it is asked. So the agent's net namespace keeps one route, and the bundle is its resolver.
//!
//! | file | what it knows |
//! |---|---|
//! | `spec` | what is wanted, deliberate holes included |
//! | `plan` | every request of a launch, as data |
//! | `engine`, `attached`, `image` | what an engine is asked |
//! | `launch`, `bottle` | carrying a plan out, and the handle |
//! | `under_test`, `holes` | what a bottle under test is to be like, sound or breached |
//! | `drawn` | what an engine makes of a plan, for the simulator |
//! | `owner`, `cleanup` | who launched what, and what nobody owns any more |

mod arena;
pub mod attached;
mod bottle;
pub mod cleanup;
mod drawn;
pub mod engine;
pub mod error;
mod holes;
pub mod image;
pub mod launch;
pub mod owner;
pub mod plan;
pub mod private;
pub mod spec;
mod under_test;

pub use self::arena::Docker;
pub use self::bottle::DockerBottle;
pub use self::engine::Engine;
pub use self::error::DockerError;
pub use self::launch::{Launched, launch};
pub use self::spec::Spec;
