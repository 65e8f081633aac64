//! Canaries: checks that something which this project relies on, and does not make, still is what it was.
//!
//! One file in `canaries/` is one canary; its `[check]` has a `kind`, and each kind is one table of `parse` and one
//! module that carries it out:
//!
//! | kind | what it checks |
//! |---|---|
//! | `toolbox` | the toolbox runs in a bottle of a backend, and is of this crate's version |
//! | `tool` | a program of this host says its version as it used to, and still has the flags that we use |
//! | `image` | an image pinned by its digest still pulls, and its program still says what it used to |
//! | `engine` | the Docker engine's API still answers as the docker backend assumes |
//!
//! What came of it is a [`Finding`]: upstream is unchanged, it has changed, or it could not be asked. The last two are
//! told apart in every report, since they ask for different people.

pub mod definition;
mod engine;
mod image;
pub mod outcome;
mod parse;
pub mod schema;
mod tool;
mod toolbox;

use std::path::Path;
use std::time::Instant;

pub use definition::{Canary, Check};
pub use outcome::{CanaryOutcome, Finding};

use crate::backend;
use crate::host::{Host, Requirement, Requirements};
use crate::nearest::{Suggestion, quote};
use crate::written::Mistake;
use crate::written::errors::DefinitionErrors;
use crate::written::folder::{Definition, Definitions};

/// Stem and text of each file of the project's own `canaries/`, written by the build script.
static BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/embedded_canaries.rs"));

fn definitions() -> Definitions<impl Fn(Definition<'_>) -> Result<Canary, Vec<Mistake>> + Sync> {
    Definitions { what: "canary", read: parse::canary }
}

/// Every `*.toml` in `folder`, sorted by name. Never empty: a folder without a definition is an error.
pub fn discover(folder: &Path) -> Result<Vec<Canary>, DefinitionErrors> {
    definitions().discover(folder)
}

/// The definitions that were built in: those of the project itself.
pub fn embedded() -> Result<Vec<Canary>, DefinitionErrors> {
    definitions().embedded(Path::new("canaries"), BUILT_IN)
}

/// No canary has such a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no canary is named {}, {suggestion}", quote(name))]
pub struct NoSuchCanary {
    /// The name that was asked for.
    pub name: String,
    /// Names that exist.
    pub suggestion: Suggestion,
}

/// The canaries whose names contain one of `names`, or with `exact` are one of them; all of them where there are no
/// `names`. A name that no canary has is an error, also beside one that some have.
pub fn select(
    canaries: Vec<Canary>,
    names: &[String],
    exact: bool,
) -> Result<Vec<Canary>, NoSuchCanary> {
    let meant = |canary: &Canary, name: &String| {
        if exact { canary.name == *name } else { canary.name.contains(name.as_str()) }
    };
    if let Some(name) = names.iter().find(|name| !canaries.iter().any(|c| meant(c, name))) {
        let existing = canaries.iter().map(|canary| canary.name.as_str());
        let suggestion = Suggestion::several(name, existing);
        return Err(NoSuchCanary { name: name.clone(), suggestion });
    }
    let selected = |canary: &Canary| names.is_empty() || names.iter().any(|n| meant(canary, n));
    Ok(canaries.into_iter().filter(selected).collect())
}

/// Why `canary` cannot run here, if it cannot.
pub fn unmet(canary: &Canary, host: &Host) -> Option<String> {
    let needs: Requirements =
        canary.needs.iter().filter_map(|word| word.parse::<Requirement>().ok()).collect();
    let of_kind = || match &canary.check {
        Check::Toolbox { backend } => backend::lacking(host, backend.as_str()),
        Check::Tool(tool) => tool.path().is_none().then(|| tool.needed()),
        Check::Image(_) | Check::Engine(_) => Requirement::Docker.unmet(host),
    };
    needs.reason(host).or_else(of_kind)
}

/// Carries out a canary that can run on `host`, which is this machine.
pub async fn run(canary: &Canary, host: &Host) -> CanaryOutcome {
    let begun = Instant::now();
    let finding = match &canary.check {
        Check::Toolbox { backend } => match backend::by_name(backend.as_str()) {
            Some(backend) => toolbox::check(backend.as_ref()).await,
            None => Finding::Skipped { why: format!("this build has no {backend} backend") },
        },
        Check::Tool(tool) => tool::check(tool).await,
        Check::Image(image) => match engine::connect(host).await {
            Ok(docker) => image::check(&docker, image).await,
            Err(finding) => finding,
        },
        Check::Engine(assumed) => match engine::connect(host).await {
            Ok(docker) => engine::check(&docker, assumed).await,
            Err(finding) => finding,
        },
    };
    CanaryOutcome { took: begun.elapsed(), ..CanaryOutcome::of(canary, finding) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select_and_wrong_ones_are_told() {
        let all = || embedded().unwrap();
        let named = |names: &[&str], exact| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            select(all(), &names, exact).map(|canaries| canaries.len())
        };
        assert_eq!(named(&[], false), Ok(all().len()));
        assert_eq!(named(&["in-namespace"], false), Ok(1));
        assert_eq!(named(&["toolbox-in-namespace"], true), Ok(1));
        assert!(named(&["in-namespace"], true).is_err());
        let error = named(&["toolbox", "toolbocks"], false).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no canary is named `toolbocks`, did you mean `toolbox-in-namespace`?"
        );
    }

    #[test]
    fn what_a_host_lacks_is_the_reason() {
        let canary = Canary {
            needs: vec!["root".to_owned()],
            ..embedded().unwrap().into_iter().find(|c| c.name == "toolbox-in-namespace").unwrap()
        };
        let bare = Host::bare();
        assert_eq!(unmet(&canary, &bare).as_deref(), Some("needs root (this is uid 1000)"));
        let root = bare.with(Requirement::Root);
        let why = unmet(&canary, &root).unwrap();
        assert!(why.starts_with("needs user-namespaces: "), "{why}");
    }
}
