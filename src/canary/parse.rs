//! From a file's text to a [`Canary`]: what `raw` reads, checked.

use std::time::Duration;

use super::definition::{Answer, Canary, Check, Engine, Has, Image, Runs, Says, Tool};
use crate::host::Requirement;
use crate::nearest::UnknownWord;
use crate::written::folder::Definition;
use crate::written::read::Written;
use crate::written::values::{Line, List, Name};
use crate::written::{At, Mistake, Reader};

pub(crate) mod raw;

/// How long an image may take unless the definition says otherwise.
const PATIENCE: Duration = Duration::from_secs(600);

/// Reads one canary.
pub(super) fn canary(definition: Definition<'_>) -> Result<Canary, Vec<Mistake>> {
    let Definition { name, file, shown, text } = definition;
    let mut reader = Reader::default();
    let raw = reader.document::<raw::Canary>(text);
    let canary = raw.and_then(|raw| {
        check_needs(raw.needs.as_ref(), &mut reader);
        Some(Canary {
            name: name.to_owned(),
            file,
            title: raw.title.0?.value.0,
            why: raw.why.0?.value.0.trim().to_owned(),
            references: list(raw.references, |line| line.0).unwrap_or_default(),
            needs: list(raw.needs, |name| name.0).unwrap_or_default(),
            check: check(raw.check.0?.value)?,
        })
    });
    match canary {
        Some(canary) if reader.is_clean() => Ok(canary),
        _ => Err(reader.finish(shown, text)),
    }
}

/// Notes every requirement that does not exist.
fn check_needs(needs: Option<&Written<List<Name>>>, reader: &mut Reader) {
    let Some(Written(Some(needs))) = needs else { return };
    let right = Requirement::words();
    for At { value: Name(name), span } in &needs.value.0 {
        if !right.contains(&name.as_str()) {
            let unknown = UnknownWord::new("requirement", name, right.iter().copied());
            reader.note(span.clone(), unknown.into());
        }
    }
}

/// None where something is wrong; the reader has the reason.
fn check(check: raw::Check) -> Option<Check> {
    match check {
        raw::Check::Toolbox(raw::Toolbox { backend }) => {
            Some(Check::Toolbox { backend: backend.0?.value })
        }
        raw::Check::Tool(raw::Tool { program, version, help }) => {
            let raw::Version { args, line } = version.0?.value;
            let version = Says { args: arguments(args, "--version"), line: line.0?.value.0 };
            let help = help.and_then(|help| help.0).map(|help| help.value.0).unwrap_or_default();
            let help = help.into_iter().map(|At { value: raw::Help { args, has }, .. }| {
                let flags = list(Some(has), |flag| flag.0)?;
                Some(Has { args: arguments(args, "--help"), flags })
            });
            let help = help.collect::<Option<_>>()?;
            Some(Check::Tool(Tool { program: program.0?.value.0, version, help }))
        }
        raw::Check::Image(raw::Image { image, digest, tag, runs, within }) => {
            let raw::Runs { args, prints } = runs.0?.value;
            let args = list(args, |line| line.0).unwrap_or_default();
            let within = within.and_then(|within| within.0).map(|within| within.value.0);
            let within = within.and_then(|text| humantime::parse_duration(&text).ok());
            Some(Check::Image(Image {
                repository: image.0?.value.0,
                digest: digest.0?.value.0,
                tag: tag.and_then(|tag| tag.0).map(|tag| tag.value.0),
                runs: Runs { args, prints: list(Some(prints), |line| line.0)? },
                within: within.unwrap_or(PATIENCE),
            }))
        }
        raw::Check::Engine(raw::Engine { api, answer }) => {
            let answers = answer.and_then(|tables| tables.0).map(|tables| tables.value.0);
            let answers = answers.unwrap_or_default().into_iter();
            let answers = answers.map(|At { value: raw::Answer { of, has }, .. }| {
                Some(Answer { of: of.0?.value, has: list(Some(has), |field| field.0)? })
            });
            let answers = answers.collect::<Option<_>>()?;
            Some(Check::Engine(Engine { api: raw::api(&api.0?.value.0)?, answers }))
        }
    }
}

fn arguments(written: Option<Written<List<Line>>>, usual: &str) -> Vec<String> {
    list(written, |line| line.0).unwrap_or_else(|| vec![usual.to_owned()])
}

fn list<T>(list: Option<Written<List<T>>>, text: fn(T) -> String) -> Option<Vec<String>> {
    let items = list?.0?.value.0;
    Some(items.into_iter().map(|item| text(item.value)).collect())
}
