//! Argument vectors: pure functions of what is wanted and of the version.

use ipnet::IpNet;

use super::version::Version;

/// What a machine is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A pack (`.smolmachine`), by its path.
    Pack(&'a str),
    /// An image: the path of an archive or of a root file system, which begins with `/` or `./`; or a reference, which the
    /// machine pulls by itself.
    Image(&'a str),
}

/// A network without an allow-list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// None of the machine's own, which is smolvm's choice: system calls are passed on to the monitor (`tsi`). What that lets
    /// through differs from release to release.
    PassedOn,
    /// A network stack of the monitor's (`virtio-net`), as with an allow-list.
    Own,
}

/// How much of its host a machine may take; what is left out is smolvm's own default, 4 processors and 8192 MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Processors.
    pub processors: Option<u32>,
    /// Memory in MiB.
    pub memory: Option<u32>,
}

/// A folder of the host's, shown in a machine. smolvm takes no single files, and splits at colons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The path on the host, without a `:`.
    pub source: String,
    /// The path in the machine, without one either.
    pub target: String,
    /// Whether the machine may write there.
    pub writable: bool,
}

/// How `machine create` makes a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// What it is made from.
    pub from: Source<'a>,
    /// What it may reach; nothing at all where this is empty.
    pub allow: &'a [IpNet],
    /// Variables of its environment, none of them secret: an argument vector can be seen by everybody.
    pub env: &'a [(&'a str, &'a str)],
    /// What is written down with it, for releases that can; see [`Version::has_labels`].
    pub labels: &'a [(&'a str, &'a str)],
    /// How much of its host it may take.
    pub size: Size,
    /// What it is shown of its host.
    pub volumes: &'a [Volume],
    /// Whether it has a network without an allow-list: a hole.
    pub open: Option<Open>,
    /// Ports of the host's and ports of the machine's that these lead to: a hole.
    pub ports: &'a [(u16, u16)],
    /// What is run in it on its start, in place of what its image names; for releases that can, see
    /// [`Version::names_by_flag`].
    pub workload: Option<&'a str>,
}

/// `smolvm machine create`.
pub fn create(version: Version, create: &Create<'_>) -> Vec<String> {
    let mut arguments = named(version, "create", create.name);
    arguments.extend(match create.from {
        Source::Pack(path) => words(["--from", path]),
        Source::Image(image) => words(["--image", image]),
    });
    let Size { processors, memory } = create.size;
    for (flag, number) in [("--cpus", processors), ("--mem", memory)] {
        if let Some(number) = number {
            arguments.extend(words([flag, &number.to_string()]));
        }
    }
    for Volume { source, target, writable } in create.volumes {
        let how = if *writable { "" } else { ":ro" };
        arguments.extend(words(["--volume", &format!("{source}:{target}{how}")]));
    }
    for network in create.allow {
        arguments.extend(words(["--allow-cidr", &network.to_string()]));
    }
    match create.open {
        None => {}
        Some(Open::PassedOn) => arguments.extend(words(["--net"])),
        Some(Open::Own) => arguments.extend(words(["--net", "--net-backend", "virtio-net"])),
    }
    for (host, machine) in create.ports {
        arguments.extend(words(["--port", &format!("{host}:{machine}")]));
    }
    for (name, value) in create.env {
        arguments.extend(words(["-e", &format!("{name}={value}")]));
    }
    if version.has_labels() {
        for (name, value) in create.labels {
            arguments.extend(words(["--label", &format!("{name}={value}")]));
        }
    }
    if let Some(workload) = create.workload.filter(|_| version.names_by_flag()) {
        arguments.extend(words(["--", workload]));
    }
    arguments
}

/// `smolvm machine start`.
pub fn start(name: &str) -> Vec<String> {
    words(["machine", "start", "--name", name]).collect()
}

/// `smolvm machine stop`.
pub fn stop(name: &str) -> Vec<String> {
    words(["machine", "stop", "--name", name]).collect()
}

/// `smolvm machine delete`, which never waits at a prompt.
pub fn delete(version: Version, name: &str) -> Vec<String> {
    let mut arguments = named(version, "delete", name);
    arguments.push("--force".to_owned());
    arguments
}

/// `smolvm machine ls`, as JSON.
pub fn list() -> Vec<String> {
    words(["machine", "ls", "--json"]).collect()
}

/// How `machine exec` runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Nothing on standard input; output all at once at the end.
    Collected,
    /// Standard input handed on, and output as it comes.
    Streamed,
    /// The person's terminal.
    Terminal,
}

/// `smolvm machine exec`.
pub fn exec(name: &str, streams: Streams, command: &[&str]) -> Vec<String> {
    let mut arguments: Vec<_> = words(["machine", "exec", "--name", name]).collect();
    match streams {
        Streams::Collected => {}
        Streams::Streamed => arguments.extend(words(["-i", "--stream"])),
        Streams::Terminal => arguments.extend(words(["-i", "-t"])),
    }
    arguments.push("--".to_owned());
    arguments.extend(command.iter().map(ToString::to_string));
    arguments
}

/// `smolvm machine cp`, of one file into the machine, with these permission bits where the release can set them; without,
/// they are 0644. The local path must have no `:` in it.
pub fn copy_in(version: Version, name: &str, from: &str, to: &str, mode: u32) -> Vec<String> {
    let mut arguments: Vec<_> = words(["machine", "cp"]).collect();
    if version.copies_modes() {
        arguments.extend(words(["--mode", &format!("{mode:04o}")]));
    }
    arguments.extend(words([from, &format!("{name}:{to}")]));
    arguments
}

/// `smolvm pack create`, of an image.
pub fn pack(image: &str, output: &str) -> Vec<String> {
    words(["pack", "create", "--image", image, "--output", output]).collect()
}

/// A verb of `smolvm machine` whose name is positional in old versions.
fn named(version: Version, verb: &str, name: &str) -> Vec<String> {
    if version.names_by_flag() {
        words(["machine", verb, "--name", name]).collect()
    } else {
        words(["machine", verb, name]).collect()
    }
}

fn words<const N: usize>(words: [&str; N]) -> impl Iterator<Item = String> {
    words.map(str::to_owned).into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_in_every_family() {
        use std::fmt::Write as _;

        let allow = ["10.0.0.5/32".parse().unwrap()];
        let made = Create {
            name: "b1",
            from: Source::Pack("/packs/p.smolmachine"),
            allow: &allow,
            env: &[("HTTPS_PROXY", "http://10.0.0.5:8888")],
            labels: &[("claude-bottle.bottle", "b1")],
            size: Size { processors: Some(2), memory: Some(2048) },
            volumes: &[],
            open: None,
            ports: &[],
            workload: None,
        };
        let size = Size::default();
        let closed = Create { allow: &[], env: &[], labels: &[], size, ..made.clone() };
        let volume = |writable| Volume {
            source: "/home/me/a project".into(),
            target: if writable { "/work" } else { "/notes" }.into(),
            writable,
        };
        let volumes = [true, false].map(volume);
        let shown = Create {
            size: Size { processors: None, memory: Some(512) },
            volumes: &volumes,
            workload: Some("true"),
            ..made.clone()
        };
        let open = Create {
            from: Source::Image("/images/i.tar"),
            open: Some(Open::Own),
            ports: &[(18080, 8080)],
            ..closed.clone()
        };
        let plain = Create { open: Some(Open::PassedOn), ..closed.clone() };
        let mut golden = String::new();
        for version in [Version::new(0, 8, 0), Version::new(1, 4, 0), Version::new(1, 32, 2)] {
            writeln!(golden, "# {version}").unwrap();
            for arguments in [
                create(version, &made),
                create(version, &shown),
                create(version, &closed),
                create(version, &open),
                create(version, &plain),
                start("b1"),
                exec("b1", Streams::Collected, &["/bin/true", "-x"]),
                exec("b1", Streams::Streamed, &["/toolbox", "session"]),
                exec("b1", Streams::Terminal, &["claude"]),
                copy_in(version, "b1", "/tmp/toolbox", "/toolbox", 0o755),
                stop("b1"),
                delete(version, "b1"),
                list(),
                pack("alpine:latest", "/packs/p"),
            ] {
                writeln!(golden, "smolvm {}", arguments.join(" ")).unwrap();
            }
        }
        insta::assert_snapshot!(golden);
    }
}
