//! Bottles that are micro virtual machines, made by smolvm, with a bundle in a container beside them.
//!
//! What a machine reaches is up to its monitor, a process of the host's: an allow-list with the bundle's address on it, and
//! nothing else. What that is worth differs from release to release, and is probed; see `docs/smolmachines.md`.
//!
//! | file | what it knows |
//! |---|---|
//! | `smolvm` | how smolvm is spoken to |
//! | `cache`, `image` | images as smolvm takes them, made once |
//! | `plan` | what a machine is made with, and which plans are refused |
//! | `launch`, `machine`, `guard` | carrying a plan out, the handle, and what is undone when that is dropped |
//! | `on_host` | smolvm and an engine on this host |
//! | `work` | a bottle for work: an agent of a manifest as it is wanted here |
//! | `cleanup` | the machines that there are |
//! | `under_test`, `holes`, `arena`, `in_lab` | a machine under test, in a lab around a private engine |
//! | `drawn` | the same for the simulator and for reports |
//! | `system` | a machine under test beside this machine's own smolvm and engine |

mod arena;
mod backend;
pub mod cache;
pub mod cleanup;
mod drawn;
mod guard;
mod holes;
pub mod image;
mod in_lab;
pub mod launch;
mod machine;
pub mod on_host;
pub mod plan;
pub mod smolvm;
mod system;
mod under_test;
mod work;

pub use self::backend::Smolmachines;
pub use self::launch::launch;
pub use self::machine::MachineBottle;
use super::{Cause, LaunchError};

/// The backend's name.
const NAME: &str = "smolmachines";

/// What turns the cause into the error of a step of a launch.
fn failed<E: Into<Cause>>(step: &str) -> impl FnOnce(E) -> LaunchError {
    LaunchError::at(NAME, step)
}
