//! The standard streams of a container, as byte streams.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::container::LogOutput;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use futures_util::StreamExt as _;
use tokio::io::{AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};

use super::engine::Engine;
use super::error::{DockerError, call};
use crate::report::text::Untrusted;

/// How much may wait to be read.
const WAITING: usize = 64 * 1024;
/// How much of standard error is kept.
const COMPLAINT: usize = 4096;

/// The streams of a container that its engine is attached to.
pub struct Attached {
    /// Its standard output.
    pub output: DuplexStream,
    /// Its standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it wrote to standard error so far, up to a bound.
    pub complaint: Complaint,
}

/// What a container wrote to standard error, up to a bound.
#[derive(Debug, Clone, Default)]
pub struct Complaint(Arc<Mutex<Vec<u8>>>);

impl Complaint {
    /// What there is so far.
    pub fn so_far(&self) -> Untrusted {
        Untrusted::new(&*self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = COMPLAINT - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl Engine {
    /// Attaches to a container that was created and not started yet, so that nothing is missed.
    pub async fn attach(&self, id: &str) -> Result<Attached, DockerError> {
        let options = AttachContainerOptionsBuilder::default()
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .stream(true)
            .build();
        let attached = self.docker.attach_container(id, Some(options)).await;
        let attached = attached.map_err(call(format!("attach to the container {id}")))?;
        let (output, mut into) = duplex(WAITING);
        let complaint = Complaint::default();
        let (said, mut stream) = (complaint.clone(), attached.output);
        // Ends with the container, or with whoever reads.
        tokio::spawn(async move {
            while let Some(Ok(portion)) = stream.next().await {
                match portion {
                    LogOutput::StdErr { message } => said.add(&message),
                    other => {
                        if into.write_all(&other.into_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        Ok(Attached { output, input: attached.input, complaint })
    }
}
