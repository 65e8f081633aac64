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

#[cfg(target_os = "linux")]
mod arena;
#[cfg(target_os = "linux")]
mod backend;
pub mod cache;
#[cfg(target_os = "linux")]
pub mod cleanup;
#[cfg(target_os = "linux")]
mod drawn;
#[cfg(target_os = "linux")]
mod guard;
#[cfg(target_os = "linux")]
mod holes;
#[cfg(target_os = "linux")]
pub mod image;
#[cfg(target_os = "linux")]
mod in_lab;
#[cfg(target_os = "linux")]
pub mod launch;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
pub mod on_host;
pub mod plan;
pub mod smolvm;
#[cfg(target_os = "linux")]
mod under_test;
#[cfg(target_os = "linux")]
mod work;

#[cfg(target_os = "linux")]
pub use self::backend::Smolmachines;
#[cfg(target_os = "linux")]
pub use self::launch::launch;
#[cfg(target_os = "linux")]
pub use self::machine::MachineBottle;
#[cfg(target_os = "linux")]
use super::{Cause, LaunchError};

/// The backend's name.
#[cfg(target_os = "linux")]
const NAME: &str = "smolmachines";

/// What turns the cause into the error of a step of a launch.
#[cfg(target_os = "linux")]
fn failed<E: Into<Cause>>(step: &str) -> impl FnOnce(E) -> LaunchError {
    LaunchError::at(NAME, step)
}
