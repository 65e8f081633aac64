//! smolvm and an engine on this host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tempfile::TempDir;
use tokio::net::{TcpStream, UdpSocket};

use super::image::Hatch;
use super::launch::{Ground, Tools};
use super::smolvm::run::Here;
use super::smolvm::{Smolvm, SmolvmError};
use crate::backend::docker::Engine;

/// How long a neighbour may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// This host.
#[derive(Debug)]
pub struct OnHost {
    tools: Tools,
    _folder: TempDir,
}

impl OnHost {
    /// With this smolvm and this engine of the host's.
    pub async fn new(program: &Path, engine: Engine) -> Result<Self, SmolvmError> {
        let failed = |source| SmolvmError::Run { program: program.to_owned(), source };
        // Open, since a monitor gives up root before it reads what is in there.
        let folder = tempfile::Builder::new()
            .prefix("claude-bottle-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .map_err(failed)?;
        let path = folder.path().to_owned();
        let hatch = Hatch { here: path.clone(), there: path };
        let smolvm = Smolvm::find(program, Arc::new(Here::default())).await?;
        Ok(Self { tools: Tools { smolvm, engine, hatch }, _folder: folder })
    }
}

#[async_trait]
impl Ground for OnHost {
    fn tools(&self) -> &Tools {
        &self.tools
    }

    async fn reaches(&self, address: SocketAddr, from: Ipv4Addr) -> bool {
        is_reached(address, from).await
    }

    async fn listens(&self, port: u16) -> bool {
        let dialled = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        matches!(tokio::time::timeout(PATIENCE, dialled).await, Ok(Ok(_)))
    }
}

async fn is_reached(address: SocketAddr, from: Ipv4Addr) -> bool {
    // No packet is sent by that; one to an address that is not on the bundle's own network might go anywhere.
    let leaves_from = async {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(address).await?;
        socket.local_addr()
    };
    if !leaves_from.await.is_ok_and(|own| own.ip() == IpAddr::V4(from)) {
        return false;
    }
    match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A refusal is an answer; what would leave by another way than the bundle's network is not dialled.
    #[tokio::test]
    async fn only_an_address_on_the_bundles_own_network_is_dialled() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_reached(address, Ipv4Addr::new(10, 210, 0, 1)).await);
        let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
        assert!(accepted.is_err(), "nobody has dialled");
        assert!(is_reached(address, Ipv4Addr::LOCALHOST).await);
        drop(listener);
        assert!(is_reached(address, Ipv4Addr::LOCALHOST).await);
    }
}
