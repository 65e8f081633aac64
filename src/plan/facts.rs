//! What a plan has to know of this host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::path_on_host;
use crate::manifest::{Manifest, Prompt};

/// How many bytes of a prompt's file are read at most.
const LONGEST_PROMPT: u64 = 1024 * 1024;

/// What a plan has to know of this host. It has names of variables, never their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The folder of the manifest, from which relative paths go.
    pub folder: PathBuf,
    /// The person's home folder.
    pub home: Option<PathBuf>,
    /// The names of the variables that are set.
    pub variables: BTreeSet<String>,
    /// What there is at each path that the manifest names.
    pub paths: BTreeMap<PathBuf, There>,
    /// The texts of the files with prompts, or why there are none.
    pub prompts: BTreeMap<PathBuf, Result<String, String>>,
}

/// What there is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum There {
    /// A folder; this is its path without links.
    Folder(PathBuf),
    /// A file; this is its path without links.
    File(PathBuf),
    /// A socket, a pipe, a device.
    Special,
    /// Nothing that could be looked at, and why.
    Nothing(String),
}

impl Facts {
    /// Looks at what `manifest` names.
    pub fn gather(manifest: &Manifest) -> Self {
        let folder = manifest.file.parent().unwrap_or(Path::new(".")).to_owned();
        let mut facts = Self {
            folder: std::path::absolute(&folder).unwrap_or(folder),
            home: std::env::home_dir(),
            variables: std::env::vars_os()
                .filter_map(|(name, _)| name.into_string().ok())
                .collect(),
            ..Self::default()
        };
        let mounts = manifest.bottles.values().flat_map(|bottle| &bottle.mounts);
        let sources = mounts.map(|mount| &mount.source);
        let skills = manifest.agents.values().flat_map(|agent| &agent.skills);
        let paths = sources.chain(skills).filter_map(|path| path_on_host(path, &facts));
        facts.paths = paths.map(|path| (path.clone(), look(&path))).collect();
        for agent in manifest.agents.values() {
            if let Some(Prompt::File(path)) = &agent.prompt
                && let Some(path) = path_on_host(path, &facts)
            {
                let text = read(&path);
                facts.prompts.insert(path, text);
            }
        }
        facts
    }
}

fn look(path: &Path) -> There {
    let real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) => return There::Nothing(error.to_string()),
    };
    match fs::metadata(&real) {
        Ok(found) if found.is_dir() => There::Folder(real),
        Ok(found) if found.is_file() => There::File(real),
        Ok(_) => There::Special,
        Err(error) => There::Nothing(error.to_string()),
    }
}

fn read(path: &Path) -> Result<String, String> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err("it is not a regular file".to_owned()),
        Ok(found) if found.len() > LONGEST_PROMPT => Err("it is too long".to_owned()),
        Ok(_) => fs::read_to_string(path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
