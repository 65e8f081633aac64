//! From a manifest's text to a [`Manifest`]: what `raw` reads, checked.

use std::path::Path;

use claude_bottle_protocol::daemons::{Table, known};
use thiserror::Error;

use super::{Agent, Bottle, Limits, Manifest, Mount, Prompt, Runtime, Variable, raw};
use crate::bundle::pipelock::{Ports, Source, USUAL_PORTS, Wanted, classify};
use crate::nearest::{Suggestion, quote};
use crate::written::folder::visible;
use crate::written::named::ShortOr;
use crate::written::read::Written;
use crate::written::values::{List, Name};
use crate::written::{At, Mistake, Reader};

/// What runs where an agent has no command.
const USUAL_COMMAND: &str = "claude";
/// What lets something out where a bottle has no daemons.
const USUAL_DAEMON: &str = "gateway";
/// The port that is meant where an SSH host has none.
const SSH_PORT: u16 = 22;
/// The longest prompt in bytes: the kernel takes no longer argument (`MAX_ARG_STRLEN`).
const LONGEST_PROMPT: usize = 128 * 1024 - 1;

/// An agent's bottle is not there.
#[derive(Debug, Error)]
#[error(
    "the agent {} wants the bottle {}, which is not there; {}",
    quote(agent),
    quote(bottle),
    told(there, bottle)
)]
struct MissingBottle {
    agent: String,
    bottle: String,
    there: Vec<String>,
}

fn told(there: &[String], wanted: &str) -> String {
    let all: Vec<_> = there.iter().map(|name| quote(name)).collect();
    let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
    match Suggestion::new(wanted, there.iter().map(String::as_str)) {
        near @ Suggestion::DidYouMean(_) => format!("{near} (there are {all})"),
        Suggestion::OneOf(_) => format!("there are {all}"),
    }
}

/// A prompt is too long.
#[derive(Debug, Error)]
#[error("the prompt has {length} bytes, and an argument can have {LONGEST_PROMPT} at most")]
struct LongPrompt {
    length: usize,
}

/// A daemon that is in no image.
#[derive(Debug, Error)]
#[error(
    "the daemon {} is in the bundle's image, and the bottle names none: add `bundle-image` (docker/README.md tells how ours is built), \
     or leave it out",
    quote(.0)
)]
struct NoBundleImage(String);

/// Reads a manifest.
pub(super) fn manifest(file: &Path, text: &str) -> Result<Manifest, Vec<Mistake>> {
    let mut reader = Reader::default();
    let raw = reader.json_document::<raw::Manifest>(text);
    let manifest = raw.and_then(|raw| {
        let bottles = raw.bottles.0?.value.0;
        let agents = raw.agents.0?.value.0;
        let there: Vec<String> = bottles.keys().cloned().collect();
        let mut checker = Checker { text, there, reader: &mut reader };
        let bottles: Vec<_> = bottles
            .into_iter()
            .map(|(name, bottle)| Some((name, checker.bottle(bottle.value)?)))
            .collect();
        let agents: Vec<_> = agents
            .into_iter()
            .map(|(name, agent)| {
                let agent = checker.agent(&name, agent.value)?;
                Some((name, agent))
            })
            .collect();
        Some(Manifest {
            file: file.to_owned(),
            bottles: bottles.into_iter().collect::<Option<_>>()?,
            agents: agents.into_iter().collect::<Option<_>>()?,
        })
    });
    match manifest {
        Some(manifest) if reader.is_clean() => Ok(manifest),
        _ => Err(reader.finish(&visible(file), text)),
    }
}

struct Checker<'a> {
    text: &'a str,
    there: Vec<String>,
    reader: &'a mut Reader,
}

type Hosts = Option<Written<List<ShortOr<raw::HostText, raw::HostAndPorts>>>>;

impl Checker<'_> {
    /// None where something is wrong; the reader has the reason.
    fn bottle(&mut self, raw: raw::Bottle) -> Option<Bottle> {
        let raw::Bottle { image, runtime, env, egress, ssh, bundle_image, daemons, limits, mounts } =
            raw;
        let mut wanted =
            self.hosts(egress, &USUAL_PORTS, |line| Source::Egress { line }).unwrap_or_default();
        let by_ssh = self.hosts(ssh, &[SSH_PORT], |line| Source::Ssh { line });
        wanted.extend(by_ssh.unwrap_or_default());
        // One that cannot be read is there all the same.
        let has_image = bundle_image.is_some();
        let daemons = daemons.and_then(|daemons| daemons.0);
        let daemons = daemons.map(|daemons| self.daemons(daemons, has_image));
        let env = written(env).map(|env| env.0).unwrap_or_default();
        let env = env.into_iter().map(|(name, At { value, .. })| {
            let value = match value {
                ShortOr::Short(literal) => Variable::Literal(literal.0),
                ShortOr::Table(raw::FromHost { from }) => Variable::FromHost(from.0?.value.0),
            };
            Some((name, value))
        });
        let mounts = written(mounts).map(|mounts| mounts.0).unwrap_or_default();
        let mounts = mounts.into_iter().map(|At { value, .. }| {
            let raw::Mount { source, target, writable } = value;
            Some(Mount {
                source: source.0?.value.0,
                target: target.0?.value.0,
                writable: written(writable).unwrap_or(false),
            })
        });
        let limits = written(limits).map_or_else(Limits::default, |limits| Limits {
            memory_mib: written(limits.memory_mib).map(|count| count.0),
            cpus: written(limits.cpus).map(|count| count.0),
            processes: written(limits.processes).map(|count| count.0),
        });
        Some(Bottle {
            image: written(image).map(|line| line.0),
            runtime: written(runtime).unwrap_or(Runtime::Runc),
            env: env.collect::<Option<_>>()?,
            wanted,
            bundle_image: written(bundle_image).map(|line| line.0),
            daemons: daemons.unwrap_or_else(|| vec![USUAL_DAEMON.to_owned()]),
            limits,
            mounts: mounts.collect::<Option<_>>()?,
        })
    }

    fn agent(&mut self, name: &str, raw: raw::Agent) -> Option<Agent> {
        let raw::Agent { bottle, command, prompt, skills } = raw;
        let bottle = bottle.0?;
        if !self.there.contains(&bottle.value.0) {
            let (agent, there) = (name.to_owned(), self.there.clone());
            let missing = MissingBottle { agent, bottle: bottle.value.0.clone(), there };
            self.reader.rule(&bottle.span, missing);
        }
        let prompt = match prompt.and_then(|prompt| prompt.0) {
            None => None,
            Some(At { value: ShortOr::Short(text), span }) => {
                if text.0.len() > LONGEST_PROMPT {
                    self.reader.rule(&span, LongPrompt { length: text.0.len() });
                }
                Some(Prompt::Text(text.0))
            }
            Some(At { value: ShortOr::Table(raw::PromptFile { file }), .. }) => {
                Some(Prompt::File(file.0?.value.0))
            }
        };
        let skills = written(skills).map(|skills| skills.0).unwrap_or_default();
        Some(Agent {
            bottle: bottle.value.0,
            command: written(command).map_or_else(|| vec![USUAL_COMMAND.to_owned()], |all| all.0),
            prompt,
            skills: skills.into_iter().map(|skill| skill.value.0).collect(),
        })
    }

    /// What is wanted; every host that is none is noted.
    fn hosts(
        &mut self,
        hosts: Hosts,
        usual: &[u16],
        source: impl Fn(usize) -> Source,
    ) -> Option<Vec<Wanted>> {
        let mut wanted = Vec::new();
        for At { value, span } in hosts?.0?.value.0 {
            let line = self.text[..span.start].matches('\n').count() + 1;
            let (host, place, ports) = match value {
                ShortOr::Short(host) => (host, span, usual.iter().copied().collect()),
                ShortOr::Table(raw::HostAndPorts { host, ports }) => {
                    let (Some(host), Some(ports)) = (host.0, ports.0) else { continue };
                    let port = |port: At<crate::written::named::Count<65_535>>| {
                        u16::try_from(port.value.0).expect("it was read as a port")
                    };
                    let ports: Ports = ports.value.0.into_iter().map(port).collect();
                    (host.value, host.span, ports)
                }
            };
            match classify(&host.0) {
                Ok(host) => wanted.push(Wanted { source: source(line), host, ports }),
                Err(error) => self.reader.rule(&place, error),
            }
        }
        Some(wanted)
    }

    /// The daemons; what the bundle's init would refuse is noted, and what it would look for in vain.
    fn daemons(&mut self, daemons: At<List<Name>>, has_image: bool) -> Vec<String> {
        let At { value, span } = daemons;
        for At { value: Name(name), span } in &value.0 {
            if !has_image && known(name).is_some_and(|daemon| !daemon.is_ours) {
                self.reader.rule(span, NoBundleImage(name.clone()));
            }
        }
        let names: Vec<String> = value.0.into_iter().map(|name| name.value.0).collect();
        if let Err(error) = Table::built_in().select(&names.join(",")) {
            self.reader.rule(&span, error);
        }
        names
    }
}

fn written<T>(field: Option<Written<T>>) -> Option<T> {
    field?.0.map(|at| at.value)
}
