//! An agent of a manifest, resolved against this host: pure data, without a side effect.
//!
//! What every backend needs is here: the command, what may be reached and who wants it, variables, mounts, skills. A
//! value that is taken from the host's environment is a name here and stays one: a plan can be printed.

mod facts;
pub mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

pub use self::facts::{Facts, There};
use crate::bundle::pipelock::{Allowlist, Source, Wanted, classify};
use crate::manifest::{Limits, Manifest, Prompt, Runtime, Variable};
use crate::nearest::{UnknownWord, quote};

/// The home folder in a bottle.
pub const HOME: &str = "/home/agent";
/// Where the skills are in it: <https://code.claude.com/docs/en/skills>.
const SKILLS: &str = "/home/agent/.claude/skills";
/// The longest argument in bytes, less its final NUL (`MAX_ARG_STRLEN`).
const LONGEST_ARGUMENT: usize = 128 * 1024 - 1;

/// What programs cannot work without: the API, and where a person signs in
/// (<https://code.claude.com/docs/en/network-config>).
const BUILT_IN: &[(&str, &[&str])] =
    &[("claude", &["api.anthropic.com", "claude.ai", "platform.claude.com"])];
/// Sockets by which somebody commands the host: whoever shows one of them opens the bottle.
const COMMANDING: &[&str] =
    &["/var/run/docker.sock", "/run/docker.sock", "/run/containerd", "/run/podman", "/run/dbus"];

/// An agent, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The agent's name.
    pub agent: String,
    /// The name of its bottle in the manifest.
    pub bottle: String,
    /// The image, for backends that run containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The container runtime, for the same.
    pub runtime: Runtime,
    /// How much of the host it may take, for backends that can limit it.
    pub limits: Limits,
    /// The program and its arguments, the prompt included.
    pub command: Vec<String>,
    /// The folder of the bottle that it runs in: the first that is mounted, or its home.
    pub folder: String,
    /// Variables of the command.
    pub env: BTreeMap<String, Value>,
    /// What may be reached.
    pub egress: Allowlist,
    /// The bundle's image; none: the toolbox's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_image: Option<String>,
    /// The daemons in the bundle.
    pub daemons: Vec<String>,
    /// What the bottle shows of the host.
    pub mounts: Vec<Mount>,
    /// What is copied into it: skills.
    pub copies: Vec<Copy>,
}

/// How a backend carries a plan out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Outline {
    /// The bottle's address, or where it is taken from if it is chosen at the launch.
    pub bottle: String,
    /// The same of the bundle's, the only one that the bottle reaches; none: the bottle has no network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// What the command runs in.
    pub runtime: String,
    /// What the bundle runs in.
    pub bundle_runtime: String,
    /// The daemons that are run in the bundle.
    pub runs: Vec<String>,
    /// Files that they are given.
    pub files: Vec<File>,
    /// What is known to get out all the same, by what the backend is made of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<String>,
    /// What is done, in order.
    pub steps: Vec<String>,
}

/// A file that a daemon in the bundle is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// The daemon.
    pub daemon: &'static str,
    /// The path in the bundle.
    pub path: &'static str,
    /// All that is in it.
    pub text: String,
}

/// A variable's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// This text.
    Literal(String),
    /// That of the host's variable of this name, which no plan knows.
    FromHost(String),
}

/// A folder or file of the host, shown in the bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// The path on the host, without links.
    pub source: PathBuf,
    /// The path in the bottle.
    pub target: String,
    /// Whether the bottle may write there.
    pub writable: bool,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// A folder of the host, copied into the bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copy {
    /// The path on the host, without links.
    pub from: PathBuf,
    /// The path of the copy.
    pub to: String,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no such agent.
    #[error(transparent)]
    NoAgent(#[from] UnknownWord),
    /// Variables of the host are not set.
    #[error("not set here: {}", .0.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", "))]
    Unset(Vec<String>),
    /// A path begins with `~`, and nobody's home is known.
    #[error("{} needs a home folder, and HOME is not set", quote(.0))]
    NoHome(String),
    /// What a path should lead to is not there.
    #[error("{what} {} cannot be used: {why}", quote(path))]
    Path {
        /// What it is for: `the mount`, `the skill`, `the prompt`.
        what: &'static str,
        /// The path as it is written.
        path: String,
        /// Why not.
        why: String,
    },
    /// A prompt is longer than any argument.
    #[error("the prompt has {0} bytes, and an argument can have {LONGEST_ARGUMENT} at most")]
    LongPrompt(usize),
}

/// Where a path leads that is written in a manifest. None: it needs a home folder, and there is none.
fn path_on_host(path: &str, facts: &Facts) -> Option<PathBuf> {
    match path.strip_prefix('~') {
        Some("") => facts.home.clone(),
        Some(below) if below.starts_with('/') => {
            Some(facts.home.as_ref()?.join(below.trim_start_matches('/')))
        }
        _ => Some(facts.folder.join(path)),
    }
}

/// Resolves an agent; else everything that is in the way, never nothing.
pub fn resolve(manifest: &Manifest, agent: &str, facts: &Facts) -> Result<Plan, Vec<PlanError>> {
    let Some((name, wanted)) = manifest.agents.get_key_value(agent) else {
        let right = manifest.agents.keys().map(String::as_str);
        return Err(vec![UnknownWord::new("agent", agent, right).into()]);
    };
    // Reading a manifest has seen to it that it is there.
    let Some(bottle) = manifest.bottles.get(&wanted.bottle) else {
        let right = manifest.bottles.keys().map(String::as_str);
        return Err(vec![UnknownWord::new("bottle", &wanted.bottle, right).into()]);
    };
    let mut errors = Vec::new();
    let unset = bottle.env.values().filter_map(|value| match value {
        Variable::FromHost(name) if !facts.variables.contains(name) => Some(name.clone()),
        _ => None,
    });
    let unset: Vec<_> = unset.collect();
    if !unset.is_empty() {
        errors.push(PlanError::Unset(unset));
    }
    let mut mounts = Vec::new();
    let mut folder = None;
    for mount in &bottle.mounts {
        match mounted(&mount.source, facts) {
            Ok((source, is_folder)) => {
                folder = folder.or_else(|| is_folder.then(|| mount.target.clone()));
                let (target, writable) = (mount.target.clone(), mount.writable);
                mounts.push(Mount { source, target, writable, is_folder });
            }
            Err(error) => errors.push(error),
        }
    }
    let mut copies = Vec::new();
    for skill in &wanted.skills {
        match copied(skill, facts) {
            Ok(copy) => copies.push(copy),
            Err(error) => errors.push(error),
        }
    }
    let mut command = wanted.command.clone();
    match wanted.prompt.as_ref().map(|prompt| prompted(prompt, facts)) {
        Some(Ok(prompt)) => command.push(prompt),
        Some(Err(error)) => errors.push(error),
        None => {}
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let env = bottle.env.iter().map(|(name, value)| {
        let value = match value {
            Variable::Literal(text) => Value::Literal(text.clone()),
            Variable::FromHost(name) => Value::FromHost(name.clone()),
        };
        (name.clone(), value)
    });
    Ok(Plan {
        agent: name.clone(),
        bottle: wanted.bottle.clone(),
        image: bottle.image.clone(),
        runtime: bottle.runtime,
        limits: bottle.limits,
        folder: folder.unwrap_or_else(|| HOME.to_owned()),
        env: env.collect(),
        egress: Allowlist::of(built_in(&wanted.command[0]).chain(bottle.wanted.iter().cloned())),
        bundle_image: bottle.bundle_image.clone(),
        daemons: bottle.daemons.clone(),
        command,
        mounts,
        copies,
    })
}

/// What a program cannot work without.
fn built_in(program: &str) -> impl Iterator<Item = Wanted> {
    let program = program.rsplit('/').next().unwrap_or_default();
    let known = BUILT_IN.iter().find(|(known, _)| *known == program);
    known.into_iter().flat_map(|(program, names)| {
        names.iter().map(|name| Wanted {
            source: Source::BuiltIn { program: (*program).to_owned() },
            host: classify(name).expect("what is built in is right"),
            ports: [443].into(),
        })
    })
}

/// The real path of a mount, and whether it is a folder.
fn mounted(path: &str, facts: &Facts) -> Result<(PathBuf, bool), PlanError> {
    let no = |why: &str| PlanError::Path {
        what: "the mount",
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let on_host = path_on_host(path, facts).ok_or_else(|| PlanError::NoHome(path.to_owned()))?;
    let (real, is_folder) = match facts.paths.get(&on_host) {
        Some(There::Folder(real)) => (real, true),
        Some(There::File(real)) => (real, false),
        Some(There::Special) => return Err(no("it is neither a folder nor a file")),
        Some(There::Nothing(why)) => return Err(no(why)),
        None => return Err(no("nobody has looked at it")),
    };
    if let Some(socket) = COMMANDING.iter().find(|socket| Path::new(socket).starts_with(real)) {
        return Err(no(&format!("{socket} is below it, by which the host is commanded")));
    }
    for closed in ["/proc", "/sys", "/dev"] {
        if real.starts_with(closed) {
            return Err(no(&format!("what is in {closed} is the kernel's")));
        }
    }
    Ok((real.clone(), is_folder))
}

fn copied(path: &str, facts: &Facts) -> Result<Copy, PlanError> {
    let no = |why: &str| PlanError::Path {
        what: "the skill",
        path: path.to_owned(),
        why: why.to_owned(),
    };
    let on_host = path_on_host(path, facts).ok_or_else(|| PlanError::NoHome(path.to_owned()))?;
    match facts.paths.get(&on_host) {
        Some(There::Folder(real)) => {
            let name = real.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| no("its name is no text"))?;
            Ok(Copy { from: real.clone(), to: format!("{SKILLS}/{name}") })
        }
        Some(There::Nothing(why)) => Err(no(why)),
        _ => Err(no("it is no folder")),
    }
}

fn prompted(prompt: &Prompt, facts: &Facts) -> Result<String, PlanError> {
    let text = match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::File(path) => {
            let no = |why: &str| PlanError::Path {
                what: "the prompt",
                path: path.clone(),
                why: why.to_owned(),
            };
            let on_host =
                path_on_host(path, facts).ok_or_else(|| PlanError::NoHome(path.clone()))?;
            match facts.prompts.get(&on_host) {
                Some(Ok(text)) if text.contains('\0') => return Err(no("it has a NUL")),
                Some(Ok(text)) => text.trim_end().to_owned(),
                Some(Err(why)) => return Err(no(why)),
                None => return Err(no("nobody has looked at it")),
            }
        }
    };
    if text.len() > LONGEST_ARGUMENT { Err(PlanError::LongPrompt(text.len())) } else { Ok(text) }
}
