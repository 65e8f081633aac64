//! The Docker context that a person has chosen: where their engine listens if `DOCKER_HOST` does not say.
//!
//! `docker context use NAME` writes the name into `config.json`; what the name stands for is in a folder beside it that is named by
//! the name's SHA-256 (docker/cli, `cli/context/store`). Docker Desktop, colima and a rootless engine each make one at their
//! installation.

use std::path::PathBuf;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::detect::Detect;
use super::facts::Lack;

/// The variable that names a context.
const CONTEXT: &str = "DOCKER_CONTEXT";
/// The variable that names the folder of the configuration; `.docker` in the person's own folder, where it is not set.
const CONFIG: &str = "DOCKER_CONFIG";
/// What the context is called that is none.
const NONE: &str = "default";

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "currentContext")]
    current: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Docker,
}

#[derive(Deserialize)]
struct Docker {
    #[serde(rename = "Host", default)]
    host: String,
}

/// The context that is chosen, by its name, and where its engine listens; none where none is.
pub(super) fn chosen(detect: &Detect<'_>) -> Result<Option<(String, String)>, Lack> {
    let Some(folder) = folder(detect) else { return Ok(None) };
    let read = |path: PathBuf| detect.read(path.to_str()?);
    let named = || {
        let config: Config = serde_json::from_str(&read(folder.join("config.json"))?).ok()?;
        config.current
    };
    let name = detect.variable(CONTEXT).or_else(named);
    let Some(name) = name.filter(|name| !name.is_empty() && name != NONE) else { return Ok(None) };
    let hash = format!("{:x}", Sha256::digest(&name));
    let meta = read(folder.join("contexts/meta").join(hash).join("meta.json"));
    let meta = meta.and_then(|text| serde_json::from_str::<Meta>(&text).ok());
    let host = meta.map(|meta| meta.endpoints.docker.host).filter(|host| !host.is_empty());
    match host {
        Some(host) => Ok(Some((name, host))),
        None => {
            Err(Lack::new(format!("the Docker context {name:?} is not there, or names no engine"))
                .fixed_by("`docker context ls` tells which there are; or set DOCKER_HOST"))
        }
    }
}

fn folder(detect: &Detect<'_>) -> Option<PathBuf> {
    let said = detect.variable(CONFIG).map(PathBuf::from);
    said.or_else(|| Some(PathBuf::from(detect.variable("HOME")?).join(".docker")))
}

#[cfg(test)]
mod tests {
    use super::super::detect::tests::Machine;

    /// SHA-256 of `desktop-linux`.
    const HASH: &str = "fe9c6bd7a66301f49ca9b6a70b217107cd1284598bfc254700c989b916da791e";
    const META: &str = r#"{ "Name": "desktop-linux", "Metadata": {}, "Endpoints": {
        "docker": { "Host": "tcp://engine.invalid:2375", "SkipTLSVerify": false } } }"#;

    fn machine() -> Machine {
        let mut machine = Machine::new();
        machine.set("HOME", "/home/me");
        machine.write(
            "/home/me/.docker/config.json",
            r#"{ "currentContext": "desktop-linux", "auths": {} }"#,
        );
        machine.write(&format!("/home/me/.docker/contexts/meta/{HASH}/meta.json"), META);
        machine
    }

    fn engine(machine: &Machine) -> String {
        machine.host().docker.map_or_else(|lack| lack.why, |docker| docker.endpoint.to_string())
    }

    #[test]
    fn the_engine_is_the_chosen_contexts_unless_a_variable_says_otherwise() {
        let mut machine = machine();
        assert_eq!(engine(&machine), "tcp://engine.invalid:2375");
        machine.set("DOCKER_CONTEXT", "default");
        assert_eq!(engine(&machine), "/var/run/docker.sock does not exist");
        machine.set("DOCKER_CONTEXT", "desktop-linux");
        assert_eq!(engine(&machine), "tcp://engine.invalid:2375");
        machine.set("DOCKER_HOST", "tcp://another.invalid");
        assert_eq!(engine(&machine), "tcp://another.invalid:2375");
    }

    #[test]
    fn the_configuration_may_be_elsewhere() {
        let mut machine = machine();
        machine.set("DOCKER_CONFIG", "/etc/me");
        assert_eq!(engine(&machine), "/var/run/docker.sock does not exist");
        machine.write("/etc/me/config.json", "not JSON");
        assert_eq!(engine(&machine), "/var/run/docker.sock does not exist");
    }

    #[test]
    fn what_a_context_lacks_is_told_with_its_name() {
        let mut machine = machine();
        machine.write(
            &format!("/home/me/.docker/contexts/meta/{HASH}/meta.json"),
            &META.replace("tcp://engine.invalid:2375", "ssh://me@there"),
        );
        let why = "the Docker context \"desktop-linux\": \"ssh://me@there\" is neither unix:// nor tcp://";
        assert_eq!(engine(&machine), why);
        machine.set("DOCKER_CONTEXT", "gone");
        assert_eq!(
            engine(&machine),
            "the Docker context \"gone\" is not there, or names no engine"
        );
    }
}
