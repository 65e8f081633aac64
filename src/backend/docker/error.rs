//! What goes wrong with an engine.

use ipnet::Ipv4Net;
use thiserror::Error;

use crate::report::text::Untrusted;
use crate::toolbox::ToolboxError;

/// Why the engine could not do something, or was not asked to.
#[derive(Debug, Error)]
pub enum DockerError {
    /// None is to be had.
    #[error("no Docker engine: {0}")]
    NoEngine(String),
    /// It refused, or did not answer.
    #[error("cannot {what}")]
    Call {
        /// What it was asked, such as `create the network b-1`.
        what: String,
        /// Its answer.
        source: Box<bollard::errors::Error>,
    },
    /// A name that an engine would not take.
    #[error("{0:?} is no name for a bottle: 1 to 40 of a-z, 0-9 and `-`, the first one a letter")]
    Name(String),
    /// The engine does not have the runtime.
    #[error("the engine has no runtime {wanted:?}; it has {known}")]
    Runtime {
        /// The wanted one.
        wanted: String,
        /// Those that it has.
        known: String,
    },
    /// The agent's image is not there; images are never fetched.
    #[error("the engine has no image {0:?}: build or load it first")]
    NoImage(String),
    /// An image went away while a bottle was launched from it.
    #[error(
        "the image {image} was removed while the bottle was launched: launch it again, and let nobody remove images (`docker image \
         prune`) meanwhile"
    )]
    ImageGone {
        /// The image.
        image: String,
        /// What the engine says.
        source: Box<bollard::errors::Error>,
    },
    /// Somebody else has an address on the bottle's network.
    #[error(
        "the container {container} cannot have its address on the bottle's network: somebody connected another container there and \
         took it; launch the bottle again"
    )]
    AddressTaken {
        /// The container.
        container: String,
        /// What the engine says.
        source: Box<bollard::errors::Error>,
    },
    /// The bundle's image is not there either.
    #[error(
        "the engine has no image {0:?}, which the manifest names as `bundle-image`: build or load it first (docker/README.md tells of ours)"
    )]
    NoBundleImage(String),
    /// The bundle has no such daemons.
    #[error("the bundle cannot run these daemons")]
    Daemons(#[source] claude_bottle_protocol::daemons::SelectError),
    /// What may be reached does not fit into a variable.
    #[error(
        "the allow-list of what serves in the bundle takes {bytes} bytes, and can take {longest} at most"
    )]
    LongList {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        longest: usize,
    },
    /// The bundle's gateway is published somewhere else than it should be.
    #[error(
        "the engine has published the bundle's gateway at {0}, where a port of 127.0.0.1 was asked for"
    )]
    Published(String),
    /// A daemon of the bundle does not come up.
    #[error(
        "the daemon {daemon} does not run in the bundle, of the image {image}: {how}{}{}",
        if said.as_str().trim().is_empty() { "" } else { ": " },
        said.as_str().trim()
    )]
    Daemon {
        /// Its name.
        daemon: String,
        /// The bundle's image.
        image: String,
        /// How it ended, in the words of the bundle's init.
        how: String,
        /// What it said before.
        said: Untrusted,
    },
    /// Every subnet is in use.
    #[error(
        "no free /28 is left in {pool}: `claude-bottle ls` tells which bottles hold one, and `claude-bottle cleanup` removes those whose \
         launcher has ended"
    )]
    PoolExhausted {
        /// The pool.
        pool: Ipv4Net,
    },
    /// There is no toolbox to put into an image.
    #[error(transparent)]
    Toolbox(#[from] ToolboxError),
    /// This process could not be told apart from others.
    #[error("cannot tell who launches the bottle")]
    Owner(#[source] std::io::Error),
    /// The agent could not be pinned to its bundle, or is not any more.
    #[error("the agent is not pinned to its bundle: {}", .0.as_str().trim())]
    Routes(Untrusted),
    /// Nobody could look whether it is.
    #[error("cannot look whether the agent is pinned to its bundle")]
    Looking(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The session does not answer.
    #[error("the agent does not answer")]
    Session(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Gives a call's failure its place.
pub(super) fn call(what: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> DockerError {
    let what = what.into();
    move |source| DockerError::Call { what, source: Box::new(source) }
}

/// Whether the answer is that the thing is not there.
pub(super) fn missing(error: &bollard::errors::Error) -> bool {
    status(error) == Some(404)
}

/// The status of the engine's answer.
pub(super) fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}
