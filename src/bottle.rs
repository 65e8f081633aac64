//! The handle to one bottle, and how commands run inside it.
//!
//! Inside every bottle runs one *session*, a role of the toolbox; [`session::Session`] is the launcher's end of it.
//! A backend brings the session up, owns the [`Session`](session::Session), and forwards [`Bottle::start`] to it;
//! everything else here is made of that.
//!
//! Whatever comes from inside is hostile: it is bounded in length, and it can neither end a wait that has a
//! time-out nor make one that has not.

pub mod command;
pub mod error;
pub mod lines;
pub mod running;
pub mod session;

mod copy;
mod link;
mod terminal;

use std::path::Path;

use async_trait::async_trait;

use crate::teardown::TeardownError;

pub use command::Command;
pub use error::BottleError;
pub use running::{End, Ended, Event, Output, Running};

/// `SIGKILL`.
const KILL: i32 = 9;
/// The exit code for a command that `SIGKILL` has killed.
const KILLED: i32 = 128 + KILL;

/// One launched sandbox.
#[async_trait]
pub trait Bottle: Send + Sync {
    /// Its name, for people.
    fn name(&self) -> &str;

    /// The path of the toolbox inside.
    fn toolbox(&self) -> &str;

    /// Starts a command and hands over its streams. The command's own time-out does not matter here: whoever
    /// holds the [`Running`] decides how long.
    async fn start(&self, command: Command) -> Result<Running, BottleError>;

    /// How often the kernel has killed something in the bottle because its memory was used up, as far as that can be told.
    async fn out_of_memory(&self) -> u64 {
        0
    }

    /// Runs a command to its end and collects what it wrote. It ends within the command's time-out, if it has one.
    async fn exec(&self, command: Command) -> Result<Output, BottleError> {
        let before = self.out_of_memory().await;
        let mut done = self.start(command).await?.output().await;
        match &mut done {
            Ok(Output { end: end @ End::Signal(KILL), .. })
                if self.out_of_memory().await > before =>
            {
                *end = End::OutOfMemory;
            }
            Err(BottleError::SessionEnded { .. }) if self.out_of_memory().await > before => {
                done = Err(BottleError::OutOfMemory);
            }
            _ => {}
        }
        done
    }

    /// Runs a command that inherits the person's terminal, and returns its exit code: that of the command, or 128
    /// and the number of the signal that killed it.
    ///
    /// If standard input and output are a terminal, the command has one of the same size; every key goes to it as
    /// the byte that it is, `^C` included. Otherwise the streams are relayed as pipes, and an interrupt is passed on.
    /// To terminate or hang up this process hangs up the command, and a second time kills it. From then on these
    /// signals no longer end this process by themselves.
    async fn exec_claude(&self, command: Command) -> Result<i32, BottleError> {
        let before = self.out_of_memory().await;
        let done = terminal::exec(self, command).await;
        // A shell says 137 of what was killed below it.
        let killed = matches!(done, Ok(KILLED) | Err(BottleError::SessionEnded { .. }));
        if killed && self.out_of_memory().await > before {
            return Err(BottleError::OutOfMemory);
        }
        done
    }

    /// Copies a file, a symbolic link or a folder with everything in it to `to`, an absolute path: the path of the
    /// copy itself, not of a folder to put it in. Missing parents are made, folders are merged, files replaced.
    ///
    /// Permission bits and modification times are kept, links remain links. Owners, the setuid, setgid and sticky bits,
    /// sockets, pipes and devices are left out.
    async fn cp_in(&self, from: &Path, to: &str) -> Result<(), BottleError> {
        copy::cp_in(self, from, to).await
    }

    /// What a person should know of it before anything runs in it, a line each. Harmless to print.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a person should know of it once it is gone, a line each: what was refused to it, say. Harmless to print.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }

    /// Removes the bottle and everything that was made for it.
    async fn teardown(&self) -> Result<(), TeardownError>;
}
