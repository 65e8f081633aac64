//! A sandbox of another make, and the witnesses on this machine around it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use claude_bottle_protocol::prober::{Batch, Fuse};

use super::allowed::Allowed;
use super::command::{FILE, SandboxCommand};
use super::place::{in_sight, place, temporary};
use super::sandbox::Sandbox;
use super::witness::{self, Posted, Server};
use super::{Arena, LaunchError, failed};
use crate::bottle::Bottle;
use crate::lab::{
    Answers, Fixture, Inbound, LabError, Observation, Sites, View, Wiring, Witness, here,
};
use crate::teardown::TeardownError;
use crate::toolbox;

/// A sandbox under test.
pub(super) struct ExternalArena {
    sandbox: Sandbox,
    lab: Here,
    /// Holds the toolbox; gone with this.
    folder: tempfile::TempDir,
    /// Holds the socket with a path: not beside the toolbox, whose folder a sandbox may be shown because of `{dir}`.
    sockets: tempfile::TempDir,
}

/// This machine as the lab.
struct Here {
    posted: Posted,
    server: Server,
}

impl ExternalArena {
    pub(super) async fn launch(
        command: &SandboxCommand,
        patience: Duration,
        allowed: &[Allowed],
        serves_itself: bool,
    ) -> Result<Self, LaunchError> {
        let bytes = toolbox::bytes().map_err(failed("there is no toolbox"))?;
        let folder = place(&bytes, temporary());
        let folder = folder.map_err(failed("the toolbox cannot be put on disk"))?;
        let server =
            if serves_itself { Server::This } else { Server::Toolbox(folder.path().join(FILE)) };
        let sockets = in_sight(&std::env::temp_dir());
        let sockets = sockets.map_err(failed("there is no folder for a socket"))?;
        let posted = witness::post(&server, sockets.path(), allowed).await;
        let posted = posted.map_err(failed("the witness does not listen"))?;
        let sandbox = Sandbox::open(command, folder.path(), &bytes, patience).await;
        let sandbox = sandbox.map_err(failed("the command brings no toolbox into a sandbox"))?;
        Ok(Self { sandbox, lab: Here { posted, server }, folder, sockets })
    }
}

#[async_trait]
impl Arena for ExternalArena {
    fn bottle(&self) -> &dyn Bottle {
        &self.sandbox
    }

    fn lab(&self) -> &dyn Fixture {
        &self.lab
    }

    fn way_in(&self) -> String {
        "the command that was given leads into it".into()
    }

    async fn teardown(self: Box<Self>) -> Result<(), TeardownError> {
        let Self { sandbox, lab, folder, sockets } = *self;
        let ended = sandbox.end().await;
        drop((sandbox, lab));
        let ended = [
            ("the command", ended),
            ("the toolbox's folder", folder.close()),
            ("the socket's folder", sockets.close()),
        ];
        let failed =
            ended.into_iter().filter_map(|(what, done)| Some((what.into(), done.err()?.into())));
        let failed: Vec<_> = failed.collect();
        if failed.is_empty() { Ok(()) } else { Err(TeardownError(failed)) }
    }
}

#[async_trait]
impl Fixture for Here {
    fn sites(&self) -> &Sites {
        &self.posted.sites
    }

    fn witness(&self) -> &Witness {
        &self.posted.witness
    }

    fn fuse(&self) -> Fuse {
        self.posted.fuse.clone()
    }

    async fn control(&self, place: &str, batch: &Batch) -> Result<Answers, LabError> {
        // What this machine has lost may be somebody else's by now.
        let gone = self.gone();
        let fuse = match self.fuse() {
            Fuse::Addresses(mut addresses) => {
                addresses.retain(|address| !gone.contains(&address.ip()));
                Fuse::Addresses(addresses)
            }
            fuse @ Fuse::Namespaces(_) => fuse,
        };
        let batch = Batch { fuse, ..batch.clone() };
        let answers = witness::control(&self.server, &batch).await;
        answers.map_err(|source| LabError::Control { place: place.to_owned(), source })
    }

    async fn observe(&self, _: View) -> Result<Option<Observation>, LabError> {
        Ok(None)
    }

    fn inbound(&self) -> Option<Inbound> {
        None
    }

    fn gone(&self) -> BTreeSet<IpAddr> {
        here::gone(&self.posted.sites)
    }

    fn wiring(&self) -> Wiring {
        witness::wiring(&self.posted.sites)
    }

    fn has_real_bridge(&self) -> bool {
        false
    }
}
