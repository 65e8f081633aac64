//! What is done alike in every lab that a helper has made: controls from its nets, looks at them, and the host's resolver.

use std::io;
use std::time::Duration;

use claude_bottle_protocol::helper::{Forwarder, Process};
use claude_bottle_protocol::prober::{Batch, Fuse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::helper::{Helper, HelperError, Started, complaint};
use crate::lab::{Answers, LabError, Observation, StreamLines, batch_line, converse};

/// How long a resolver may take to listen. It takes a few milliseconds.
const LISTENS: Duration = Duration::from_secs(10);

impl Helper {
    /// Has a prober in `net` make `batch`. It dials nothing unless it finds itself in the net namespace with this inode number.
    /// An error tells of `place`.
    pub(in crate::backend) async fn control(
        &self,
        place: &str,
        net: &str,
        inode: Option<u64>,
        batch: &Batch,
    ) -> Result<Answers, LabError> {
        let prober = self.start(Process::Prober { net: net.to_owned() }).await;
        answers(place, inode, batch, prober).await
    }

    /// What there is to be seen in `net` from outside.
    pub(in crate::backend) async fn look(&self, net: &str) -> Result<Observation, LabError> {
        let files = self.observe(net).await;
        let files = files.map_err(io::Error::other).map_err(LabError::Observe)?;
        Ok(Observation::parse(&files))
    }

    /// How a person gets into the net namespace with this inode number, as a clause.
    pub(in crate::backend) fn way_in(&self, inode: Option<u64>) -> String {
        match inode.and_then(|inode| self.process_in(inode)) {
            Some(pid) => format!("enter its network with: nsenter --user --net --target {pid}"),
            None => "its processes cannot be seen from here".into(),
        }
    }

    /// Starts a resolver that hands on what it is asked, and waits until it listens. It ends with the stream.
    pub(in crate::backend) async fn forwarder(
        &self,
        wanted: Forwarder,
    ) -> Result<UnixStream, HelperError> {
        let Started { mut stdio, stderr, .. } = self.start(Process::Forwarder(wanted)).await?;
        let listening = timeout(LISTENS, stdio.read_u8()).await;
        let Err(source) = listening.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) else {
            return Ok(stdio);
        };
        drop(stdio);
        let said = timeout(LISTENS, complaint(stderr)).await.unwrap_or_default();
        Err(HelperError::Deaf { said, source })
    }
}

/// The answers of a prober that was started at `place`, to `batch`.
pub(super) async fn answers(
    place: &str,
    inode: Option<u64>,
    batch: &Batch,
    prober: Result<Started, HelperError>,
) -> Result<Answers, LabError> {
    let failed = |source| LabError::Control { place: place.to_owned(), source };
    let batch = Batch { fuse: Fuse::Namespaces(inode.into_iter().collect()), ..batch.clone() };
    let prober = prober.map_err(io::Error::other).map_err(failed)?;
    let (output, mut input) = prober.stdio.into_split();
    input.write_all(&batch_line(&batch)).await.map_err(failed)?;
    Ok(converse(&batch, &mut StreamLines::new(output), |_| {}).await)
}
