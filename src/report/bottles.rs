//! The bottles that are on a host, on its engine and with smolvm: for a person, and for programs.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::layout::{Hue, Page, cell, cell_right, words};
use super::prose::{clean, count};
use super::terminal::Style;
use super::text::{Untrusted, width};

/// The widest name, in columns. Names are what labels say, and anybody may write labels.
const NAME: usize = 60;

/// One bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BottleRow {
    /// Its name.
    pub name: Untrusted,
    /// Who launched it.
    pub owner: Owner,
    /// Seconds since the first of it was made.
    pub age_s: Option<u64>,
    /// Containers, by id.
    pub containers: Vec<String>,
    /// Networks, by id.
    pub networks: Vec<String>,
    /// Volumes, by name.
    pub volumes: Vec<String>,
    /// Machines of smolvm, by name.
    pub machines: Vec<String>,
}

/// Who launched a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// The process, as its own PID namespace counts.
    pub pid: Option<u32>,
    /// What is known of it.
    pub state: OwnerState,
    /// Why no more is known, where it is undecided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What is known of who launched a bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnerState {
    /// It runs.
    Runs,
    /// It has ended.
    Ended,
    /// It cannot be told from here.
    Undecided,
}

/// All bottles of a host, as `ls --json` prints them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bottles {
    /// Grows when a field is renamed, removed or changes its meaning.
    pub version: u32,
    /// Where the engine listens, where one answers.
    pub engine: Option<String>,
    /// The version of smolvm, where there is one that answers.
    pub smolvm: Option<String>,
    /// The bottles, by name.
    pub bottles: Vec<BottleRow>,
}

/// What was done, or would be, with one bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleaned {
    /// It was removed.
    Removed,
    /// It would be.
    WouldBeRemoved,
    /// It could not be removed, for this reason.
    Failed(String),
    /// It was left alone.
    Kept,
}

/// The time that has passed since `created`.
pub fn age(created: Option<SystemTime>, now: SystemTime) -> Option<u64> {
    // An engine's clock may be ahead of this one's.
    created.map(|created| now.duration_since(created).unwrap_or_default().as_secs())
}

/// A row per bottle: its name, its age, what there is of it, and who launched it.
pub fn render_bottles(bottles: &Bottles, style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    if bottles.bottles.is_empty() {
        let nothing = format!("no bottles {}", places(bottles));
        page.line(0, 2, words(0, Hue::Faint, &nothing));
        return page.finish();
    }
    let rows: Vec<_> = bottles
        .bottles
        .iter()
        .map(|row| (row.name.one_line(NAME), short(row.age_s), parts(row), row))
        .collect();
    let names = rows.iter().map(|(name, ..)| width(name)).max().unwrap_or(0).max("BOTTLE".len());
    let ages = rows.iter().map(|(_, age, ..)| width(age)).max().unwrap_or(0).max("AGE".len());
    let held = rows.iter().map(|(.., parts, _)| width(parts)).max().unwrap_or(0).max("HOLDS".len());
    let hang = names + 2 + ages + 2 + held + 2;
    let heading = [
        cell(0, Hue::Heading, "BOTTLE", names),
        cell_right(2, Hue::Heading, "AGE", ages),
        cell(2, Hue::Heading, "HOLDS", held),
        cell(2, Hue::Heading, "LAUNCHER", 0),
    ];
    page.line(0, hang, heading);
    for (name, age, parts, row) in &rows {
        let mut line = vec![
            cell(0, Hue::Plain, name, names),
            cell_right(2, Hue::Plain, age, ages),
            cell(2, Hue::Plain, parts, held),
        ];
        line.extend(words(2, hue(row.owner.state), &clean(&launcher(&row.owner))));
        page.line(0, hang, line);
    }
    page.finish()
}

/// A line per bottle: what was done with it, or would be, and why.
pub fn render_cleaned(bottles: &Bottles, cleaned: &[Cleaned], style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    for (row, done) in bottles.bottles.iter().zip(cleaned) {
        let (hue, word) = match done {
            Cleaned::Removed => (Hue::Good, "removed"),
            Cleaned::WouldBeRemoved => (Hue::Amber, "would remove"),
            Cleaned::Failed(_) => (Hue::Bad, "cannot remove"),
            Cleaned::Kept if row.owner.state == OwnerState::Undecided => {
                (Hue::Unclear, "left alone")
            }
            Cleaned::Kept => (Hue::Faint, "kept"),
        };
        let mut line = words(0, hue, word);
        line.push(cell(1, Hue::Plain, row.name.one_line(NAME), 0));
        let why = match done {
            Cleaned::Failed(why) => why.clone(),
            _ => launcher(&row.owner),
        };
        let told = format!("({}): {}", parts(row), clean(&why));
        line.extend(words(1, Hue::Faint, &told));
        page.line(0, 4, line);
    }
    if bottles.bottles.is_empty() {
        let nothing = format!("nothing to remove {}", places(bottles));
        page.line(0, 2, words(0, Hue::Faint, &nothing));
    }
    page.finish()
}

fn hue(state: OwnerState) -> Hue {
    match state {
        OwnerState::Runs => Hue::Good,
        OwnerState::Ended => Hue::Amber,
        OwnerState::Undecided => Hue::Unclear,
    }
}

fn launcher(owner: &Owner) -> String {
    let process = owner.pid.map(|pid| format!("process {pid}")).unwrap_or_default();
    match (owner.state, &owner.why) {
        (OwnerState::Runs, _) => format!("{process} runs"),
        (OwnerState::Ended, _) => format!("{process} has ended"),
        (OwnerState::Undecided, why) => {
            let why = why.as_deref().unwrap_or("it cannot be told");
            if process.is_empty() { why.to_owned() } else { format!("{process}: {why}") }
        }
    }
}

/// Where was looked.
fn places(bottles: &Bottles) -> String {
    let engine = bottles.engine.as_ref().map(|engine| format!("on the engine at {engine}"));
    let smolvm = bottles.smolvm.as_ref().map(|version| format!("with smolvm {version}"));
    let places: Vec<_> = engine.into_iter().chain(smolvm).collect();
    places.join(" and ")
}

fn parts(row: &BottleRow) -> String {
    let parts = [
        (&row.machines, "machine"),
        (&row.containers, "container"),
        (&row.networks, "network"),
        (&row.volumes, "volume"),
    ];
    let parts = parts.into_iter().filter(|(all, _)| !all.is_empty());
    let parts: Vec<_> = parts.map(|(all, what)| count(all.len(), what)).collect();
    parts.join(", ")
}

/// The largest unit alone: `5s`, `12m`, `3h`, `40d`.
fn short(age_s: Option<u64>) -> String {
    let Some(age) = age_s else { return "?".to_owned() };
    let hours = Duration::from_secs(3600).as_secs();
    match age {
        0..60 => format!("{age}s"),
        60..3600 => format!("{}m", age / 60),
        _ if age < 48 * hours => format!("{}h", age / hours),
        _ => format!("{}d", age / (24 * hours)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, state: OwnerState, why: Option<&str>, age_s: u64) -> BottleRow {
        let pid = (state != OwnerState::Undecided).then_some(4711);
        BottleRow {
            name: name.into(),
            owner: Owner { pid, state, why: why.map(Into::into) },
            age_s: Some(age_s),
            containers: vec!["c1".into(), "c2".into()],
            networks: vec!["n1".into()],
            volumes: Vec::new(),
            machines: (name == "bottle-1").then(|| name.into()).into_iter().collect(),
        }
    }

    fn some() -> Bottles {
        let why = Some("its launcher is on another machine");
        let bottles = vec![
            row("bottle-1", OwnerState::Runs, None, 59),
            row("bottle-22", OwnerState::Ended, None, 7200),
            row("evil\u{1b}[2J\n", OwnerState::Undecided, why, 40 * 86_400),
        ];
        let engine = Some("unix:///var/run/docker.sock".into());
        Bottles { version: 1, engine, smolvm: None, bottles }
    }

    const PLAIN: Style = Style { colour: false, width: 0, verbose: 0 };

    #[test]
    fn bottles_are_listed_with_age_and_launcher() {
        insta::assert_snapshot!(render_bottles(&some(), PLAIN));
        let none = Bottles { bottles: Vec::new(), ..some() };
        insta::assert_snapshot!(render_bottles(&none, PLAIN));
        let beside = Bottles { smolvm: Some("1.32.2".into()), ..none };
        insta::assert_snapshot!(render_bottles(&beside, PLAIN));
    }

    #[test]
    fn what_was_done_is_told_with_its_reason() {
        let cleaned = [Cleaned::Kept, Cleaned::WouldBeRemoved, Cleaned::Kept];
        insta::assert_snapshot!(render_cleaned(&some(), &cleaned, PLAIN));
        let failed = [Cleaned::Kept, Cleaned::Failed("in use".into()), Cleaned::Kept];
        assert!(render_cleaned(&some(), &failed, PLAIN).contains("cannot remove bottle-22"));
    }

    #[test]
    fn programs_read_the_same() {
        let json = serde_json::to_value(some()).unwrap();
        assert_eq!(json["bottles"][1]["owner"]["state"], "ended");
        assert_eq!(json["bottles"][2]["name"], "evil\\u{1b}[2J\n");
        assert_eq!(json["bottles"][0]["age_s"], 59);
    }
}
