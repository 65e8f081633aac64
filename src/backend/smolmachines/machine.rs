//! The handle to a bottle that is a micro virtual machine.

use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::guard::Guard;
use super::smolvm::run::End;
use crate::backend::docker::Engine;
use crate::backend::docker::daemons::Daemons;
use crate::backend::docker::launch::Guard as BundleGuard;
use crate::bottle::session::Session;
use crate::bottle::{Bottle, BottleError, Command, Running};
use crate::teardown::{Teardown, TeardownError, UndoError};

/// How long the session may take to end by itself.
const ENDING: Duration = Duration::from_secs(5);

/// A machine with a session in it, over one `machine exec`.
///
/// A command on the person's terminal goes over the session too, and not over a `machine exec -it` of its own: the values of
/// its variables would be in an argument vector then, which everybody can read.
pub struct MachineBottle {
    name: String,
    toolbox: String,
    session: Session,
    /// The `machine exec`: dropped, it is killed.
    exec: Mutex<Option<End>>,
    undo: tokio::sync::Mutex<Option<Undo>>,
    /// What runs in its bundle, the engine and the bundle's container; none where nothing may be reached.
    daemons: Option<(Daemons, Engine, String)>,
    note: Option<String>,
}

/// What there is to undo, and what does so where nobody asks for it: first the machine, then its bundle.
pub(super) struct Undo {
    pub(super) teardown: Teardown,
    pub(super) machine: Guard,
    pub(super) bundle: BundleGuard,
}

impl Undo {
    async fn run(mut self) -> Result<(), TeardownError> {
        self.teardown.run().await?;
        self.machine.disarm();
        self.bundle.disarm();
        Ok(())
    }
}

impl MachineBottle {
    pub(super) fn new(
        name: String,
        toolbox: String,
        session: Session,
        exec: End,
        undo: Undo,
    ) -> Self {
        let (exec, undo) = (Mutex::new(Some(exec)), Some(undo).into());
        Self { name, toolbox, session, exec, undo, daemons: None, note: None }
    }

    /// Pushes how to undo what was made beside it, before all else; see [`Teardown::push`].
    pub(super) async fn undo_first<F, E>(
        &self,
        step: String,
        undo: impl FnOnce() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<UndoError>,
    {
        if let Some(all) = self.undo.lock().await.as_mut() {
            all.teardown.push(step, undo);
        }
    }

    /// With what runs in its bundle, and what a person should know of it.
    pub(super) fn with(
        self,
        daemons: Option<(Daemons, Engine, String)>,
        note: Option<String>,
    ) -> Self {
        Self { daemons, note, ..self }
    }
}

#[async_trait]
impl Bottle for MachineBottle {
    fn name(&self) -> &str {
        &self.name
    }

    fn toolbox(&self) -> &str {
        &self.toolbox
    }

    async fn start(&self, command: Command) -> Result<Running, BottleError> {
        self.session.start(command)
    }

    fn notes(&self) -> Vec<String> {
        self.note.iter().cloned().collect()
    }

    fn remarks(&self) -> Vec<String> {
        let daemons = self.daemons.as_ref();
        daemons.map(|(daemons, ..)| daemons.remarks()).unwrap_or_default()
    }

    async fn teardown(&self) -> Result<(), TeardownError> {
        let Some(undo) = self.undo.lock().await.take() else { return Ok(()) };
        self.session.close(ENDING).await;
        drop(self.exec.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
        if let Some((daemons, engine, bundle)) = &self.daemons {
            daemons.end(engine, bundle).await;
        }
        undo.run().await
    }
}

impl fmt::Debug for MachineBottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineBottle").field("name", &self.name).finish_non_exhaustive()
    }
}
