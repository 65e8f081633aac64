//! Argument vectors: pure functions of what is wanted and of the version.

use ipnet::IpNet;

use super::version::Version;

/// How `machine create` makes a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create<'a> {
    /// The machine's name.
    pub name: &'a str,
    /// The path of the pack that it is made from.
    pub from: &'a str,
    /// What it may reach; nothing at all where this is empty.
    pub allow: &'a [IpNet],
    /// Variables of its environment, none of them secret: an argument vector can be seen by everybody.
    pub env: &'a [(&'a str, &'a str)],
}

/// `smolvm machine create`.
pub fn create(version: Version, create: &Create<'_>) -> Vec<String> {
    let mut arguments = named(version, "create", create.name);
    arguments.extend(words(["--from", create.from]));
    for network in create.allow {
        arguments.extend(words(["--allow-cidr", &network.to_string()]));
    }
    for (name, value) in create.env {
        arguments.extend(words(["-e", &format!("{name}={value}")]));
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

/// `smolvm machine cp`, of one file into the machine; the local path must have no `:` in it.
pub fn copy_in(name: &str, from: &str, to: &str) -> Vec<String> {
    words(["machine", "cp", from, &format!("{name}:{to}")]).collect()
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
            from: "/packs/p.smolmachine",
            allow: &allow,
            env: &[("HTTPS_PROXY", "http://10.0.0.5:8888")],
        };
        let closed = Create { allow: &[], env: &[], ..made.clone() };
        let mut golden = String::new();
        for version in [Version::new(0, 8, 0), Version::new(1, 4, 0), Version::new(1, 32, 2)] {
            writeln!(golden, "# {version}").unwrap();
            for arguments in [
                create(version, &made),
                create(version, &closed),
                start("b1"),
                exec("b1", Streams::Collected, &["/bin/true", "-x"]),
                exec("b1", Streams::Streamed, &["/toolbox", "session"]),
                exec("b1", Streams::Terminal, &["claude"]),
                copy_in("b1", "/tmp/toolbox", "/toolbox"),
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
