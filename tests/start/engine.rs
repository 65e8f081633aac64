//! An engine of the tests' own, with a little world around it and an image in which there is a shell.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::LazyLock;

use bollard::body_full;
use bollard::query_parameters::CreateImageOptionsBuilder;
use claude_bottle::backend::docker::Engine;
use claude_bottle::backend::docker::private::{EngineError, PrivateEngine};
use claude_bottle::host::Endpoint;
use claude_bottle_protocol::helper::{Address, End, Lab, Link, Net, Placed, Route};
use claude_bottle_protocol::witness::{Listener, Service, Transport};
use futures_util::StreamExt as _;
use tar::{Builder, EntryType, Header};
use tokio::runtime::Runtime;

use crate::trials::skip;

/// The image.
pub(crate) const IMAGE: &str = "localhost/smith:1";
/// Where the canary resolver leads names to, and a web server is.
pub(crate) const WEB: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
/// The number of that server among the listeners.
pub(crate) const WEB_LISTENER: u32 = 1;
/// What the tests' scripts call.
const PROGRAMS: &[&str] = &[
    "cat", "chmod", "env", "grep", "head", "httpd", "id", "kill", "ls", "mkdir", "mktemp", "nc",
    "nslookup", "printf", "rm", "sed", "sh", "sleep", "stty", "touch", "wc", "wget",
];

/// A private engine, and what it takes to ask it.
pub(crate) struct Private {
    pub(crate) runtime: Runtime,
    pub(crate) engine: PrivateEngine,
    pub(crate) client: Engine,
}

impl Private {
    /// Starts one, and loads the image. The test that this is called from ends as ignored where there can be none.
    pub(crate) fn start() -> Self {
        Self::try_start().unwrap_or_else(|why| skip(why))
    }

    fn try_start() -> Result<Self, String> {
        let busybox = which::which("busybox").map_err(|_| "there is no busybox".to_owned())?;
        let runtime = claude_bottle::runtime::make().unwrap();
        let started = runtime.block_on(async {
            let engine = match PrivateEngine::start(&lab(), "host").await {
                Ok(engine) => engine,
                Err(why @ (EngineError::NotRoot | EngineError::NotInstalled)) => {
                    return Err(why.to_string());
                }
                Err(other) => panic!("{other}"),
            };
            let endpoint = Endpoint::Unix(engine.socket());
            let client = Engine::connect(&endpoint, engine.inside(Path::new("/proc"))).await;
            let client = client.unwrap();
            import(&client, IMAGE, tree(&busybox, &[])).await;
            Ok((engine, client))
        });
        let (engine, client) = started?;
        Ok(Self { runtime, engine, client })
    }

    /// The one that most tests share; it ends with this program.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: LazyLock<Result<Private, String>> = LazyLock::new(Private::try_start);
        SHARED.as_ref().unwrap_or_else(|why| skip(why))
    }

    /// What `DOCKER_HOST` has to be.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.engine.socket().display())
    }
}

/// A host with a resolver on its loopback, on a wire to a world with a web server.
fn lab() -> Lab {
    let ip = |a, b, c, d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    let (host, world) = (ip(192, 168, 200, 10), ip(192, 168, 200, 1));
    let on =
        |interface: &str, address, prefix| Address { interface: interface.into(), address, prefix };
    let anywhere = Route {
        destination: ip(0, 0, 0, 0),
        prefix: 0,
        via: Some(world),
        interface: "wan0".into(),
    };
    let net = |name: &str, addresses, routes| Net {
        name: name.into(),
        forward: true,
        addresses,
        routes,
        ..Net::default()
    };
    let end = |net: &str, interface: &str| End { net: net.into(), interface: interface.into() };
    let listener = |net: &str, id, transport, address: IpAddr, port, service| Placed {
        net: net.into(),
        listener: Listener { id, transport, address: (address, port).into(), service },
        same_port: None,
    };
    Lab {
        nets: vec![
            net("host", vec![on("wan0", host, 24)], vec![anywhere]),
            net("world", vec![on("lan0", world, 24), on("lo", WEB, 32)], Vec::new()),
        ],
        links: vec![Link { a: end("host", "wan0"), b: end("world", "lan0") }],
        listeners: vec![
            listener("host", 0, Transport::Udp, ip(127, 0, 0, 1), 53, Service::Resolver),
            listener("world", WEB_LISTENER, Transport::Tcp, WEB, 80, Service::Http),
        ],
        ..Lab::default()
    }
}

/// A file system of busybox and these executable files.
pub(crate) fn tree(busybox: &Path, files: &[(&str, &str)]) -> Vec<u8> {
    let mut root = Builder::new(Vec::new());
    root.append_path_with_name(busybox, "bin/busybox").unwrap();
    for program in PROGRAMS {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        root.append_link(&mut header, format!("bin/{program}"), "busybox").unwrap();
    }
    for (path, content) in files {
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        root.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    root.into_inner().unwrap()
}

/// Makes an image of a file system.
pub(crate) async fn import(client: &Engine, image: &str, tree: Vec<u8>) {
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let options =
        CreateImageOptionsBuilder::default().from_src("-").repo(repository).tag(tag).build();
    let root = body_full(tree.into());
    let mut loading = client.docker().create_image(Some(options), Some(root), None);
    while let Some(progress) = loading.next().await {
        progress.unwrap();
    }
}

/// How many containers, images, networks and volumes there are, by kind.
pub(crate) async fn counted(client: &Engine) -> BTreeMap<&'static str, usize> {
    use bollard::query_parameters::{
        ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptions,
    };
    let docker = client.docker();
    let containers = ListContainersOptionsBuilder::default().all(true).build();
    let images = ListImagesOptionsBuilder::default().all(true).build();
    let volumes = docker.list_volumes(None::<ListVolumesOptions>).await.unwrap().volumes;
    [
        ("containers", docker.list_containers(Some(containers)).await.unwrap().len()),
        ("images", docker.list_images(Some(images)).await.unwrap().len()),
        ("networks", docker.list_networks(None).await.unwrap().len()),
        ("volumes", volumes.unwrap_or_default().len()),
    ]
    .into()
}
