//! The expected verdict of every attempt, and how a run compares with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use claude_bottle_protocol::helper::REAL;
use claude_bottle_protocol::prober::{Action, How};

use super::methods::{self, Fate};
use super::outside::{self, Sight};
use super::{Expected, Kind, Topology, proxied, unix};
use crate::lab::Listening;
use crate::probe::attempt::{self, Means, Planned};
use crate::probe::definition::Probe;
use crate::probe::outcome::RunOutcome;
use crate::probe::verdict::Verdict;

/// Why nothing can be told of what the prober does.
const CANNOT_RUN: &str = "the prober cannot run: no command in the bottle can be started";

/// The expectations of one bottle, by probe and attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    cells: BTreeMap<String, Vec<Cell>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cell {
    what: String,
    expected: Expected,
    /// Whether the attempt is only made where the machine itself has what it takes.
    depends_on_machine: bool,
}

/// A run beside its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// A row per attempt, in the order of the run.
    pub rows: Vec<Row>,
    /// Why there were none of a probe, where the run says so: no bottle could be launched.
    pub trouble: Option<String>,
}

/// One attempt: expected and seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its probe.
    pub probe: String,
    /// What is tried.
    pub what: String,
    /// What must come of it; none: nothing is known.
    pub expected: Option<Expected>,
    /// What came of it; none: it was not made.
    pub actual: Option<Kind>,
    /// Whether the two agree.
    pub agrees: bool,
}

impl Comparison {
    /// The rows where expected and seen differ, or nothing is expected.
    pub fn differences(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.agrees)
    }
}

impl Topology {
    /// What must come of each attempt of `probes` on `backend`.
    pub fn table(&self, probes: &[Probe], backend: &str) -> Table {
        let planned = attempt::plan(probes, backend, &self.sites);
        let oracle = Oracle::new(self, &planned);
        let mut table = Table::default();
        for planned in planned {
            let cell = Cell {
                what: planned.what.clone(),
                depends_on_machine: depends_on_machine(&planned),
                expected: oracle.expected(&planned),
            };
            table.cells.entry(probes[planned.probe].name.clone()).or_default().push(cell);
        }
        table
    }
}

impl Table {
    /// How many attempts it has.
    pub fn attempts(&self) -> usize {
        self.cells.values().map(Vec::len).sum()
    }

    /// Every expectation: the probe, what it tries, and what must come of that.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Expected)> {
        self.cells.iter().flat_map(|(probe, cells)| {
            cells.iter().map(move |cell| (probe.as_str(), cell.what.as_str(), &cell.expected))
        })
    }

    /// Puts a run beside it. Probes that the run does not have are left out.
    pub fn compare(&self, run: &RunOutcome) -> Comparison {
        let mut rows = Vec::new();
        for probe in &run.probes {
            let cells = self.cells.get(&probe.name).map(Vec::as_slice).unwrap_or_default();
            for attempt in &probe.attempts {
                let cell = cells.iter().find(|cell| cell.what == attempt.what);
                let actual = Kind::of(&attempt.verdict);
                let skipped_here = |cell: &Cell| cell.depends_on_machine && actual == Kind::Skipped;
                rows.push(Row {
                    probe: probe.name.clone(),
                    what: attempt.what.clone(),
                    agrees: cell.is_some_and(|c| c.expected.agrees(actual) || skipped_here(c)),
                    expected: cell.map(|cell| cell.expected.clone()),
                    actual: Some(actual),
                });
            }
            let is_made = |cell: &Cell| probe.attempts.iter().any(|one| one.what == cell.what);
            let missing = cells.iter().filter(|cell| !is_made(cell) && !cell.depends_on_machine);
            rows.extend(missing.map(|cell| Row {
                probe: probe.name.clone(),
                what: cell.what.clone(),
                expected: Some(cell.expected.clone()),
                actual: None,
                agrees: false,
            }));
        }
        let trouble = run.probes.iter().find_map(|probe| match &probe.verdict {
            Verdict::Inconclusive { why } if probe.attempts.is_empty() => Some(why.clone()),
            _ => None,
        });
        Comparison { rows, trouble }
    }
}

/// A line per expectation; attempts of a probe with the same one are told once.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (probe, cells) in &self.cells {
            writeln!(f, "{probe}")?;
            let mut told: Vec<&Expected> = Vec::new();
            for cell in cells {
                let Cell { what, expected, .. } = cell;
                if told.contains(&expected) {
                    continue;
                }
                told.push(expected);
                let more = cells.iter().filter(|other| other.expected == *expected).count() - 1;
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                writeln!(f, "  {expected:<9}  {what}{more} — {}", expected.why)?;
            }
        }
        Ok(())
    }
}

/// What holds for every attempt in one bottle.
struct Oracle<'a> {
    topology: &'a Topology,
    /// Whether the prober's sign of life arrives at what the plan allows.
    lives: bool,
    /// The listeners to which connections stay half open. The client sends its first packet again after a second, and
    /// that one is counted as lost (`tcp_v4_rcv`, `sk_drops`): whatever else goes there cannot be told any more.
    lossy: BTreeSet<u32>,
}

impl<'a> Oracle<'a> {
    fn new(topology: &'a Topology, planned: &[Planned]) -> Self {
        let half_open = |planned: &Planned| match &planned.means {
            Means::Prober { action, .. } => methods::half_open(action, topology),
            _ => Vec::new(),
        };
        let lossy = planned.iter().flat_map(half_open).collect();
        let life = attempt::sign_of_life(&topology.sites);
        let lives = life.is_none_or(|(attempt, listening)| {
            let fate = methods::fate(&attempt.action, topology);
            matches!(fate, Fate::Arrives { listener, .. } if listener == listening.id)
        });
        Self { topology, lives, lossy }
    }

    fn expected(&self, planned: &Planned) -> Expected {
        match &planned.means {
            Means::Skipped(why) => Expected::new(Kind::Skipped, why.clone()),
            Means::Exec if self.topology.bottle.executable => {
                Expected::new(Kind::Reached, "files in the bottle can be executed")
            }
            Means::Exec => {
                Expected::new(Kind::Unreached, "no command in the bottle can be started")
            }
            Means::Prober { action, listeners, .. } => {
                let fate = methods::fate(action, self.topology);
                let permits = match action {
                    Action::Proxied(asked) => Some(proxied::permits(asked, self.topology)),
                    _ => None,
                };
                self.of_prober(fate, listeners, &planned.definition.how, permits)
            }
            Means::Outside { action, look, .. } => {
                let fate = outside::fate(action, *look, self.topology);
                self.of_outside(fate, &planned.definition.how)
            }
        }
    }

    /// `permits`: whether the plan lets it through, where that is the gateway's to decide and not the listener's.
    fn of_prober(
        &self,
        fate: Fate,
        listeners: &[Listening],
        demanded: &[How],
        permits: Option<bool>,
    ) -> Expected {
        let allowed = |id: &u32| permits.unwrap_or_else(|| self.topology.allowed.contains(id));
        let is_allowed = listeners.iter().all(|one| allowed(&one.id));
        if fate == Fate::Unknown {
            return Expected::unknown("the simulator does not know this method");
        }
        if !self.topology.bottle.executable {
            return Expected::new(Kind::Inconclusive, CANNOT_RUN);
        }
        let (how, way) = match fate {
            Fate::Arrives { listener, way } => {
                let kind = if allowed(&listener) { Kind::Reached } else { Kind::Leaked };
                let expected = Expected::new(kind, way);
                if self.is_contested(listener) {
                    let why = "or somebody else on this machine has that port";
                    return expected.or(Kind::Inconclusive, why);
                }
                return expected;
            }
            Fate::Stays { how, way } => (how, way),
            Fate::MayArrive { how, way } => {
                let otherwise = self.contained(how, way, demanded);
                return otherwise.or(Kind::Leaked, "else it stays");
            }
            Fate::Fused { way } => return Expected::new(Kind::Inconclusive, way),
            Fate::Unknown => unreachable!("handled above"),
        };
        if let Some(listener) = listeners.iter().find(|one| self.lossy.contains(&one.id)) {
            let why = format!("{way}; connections to {} stay half open", listener.name);
            return Expected::new(Kind::Inconclusive, why);
        }
        if let Some(listener) = listeners.iter().find(|one| !self.control_arrives(one)) {
            let why = format!("no control reaches {} from {}", listener.name, listener.control);
            return Expected::new(Kind::Inconclusive, why);
        }
        if is_allowed {
            return Expected::new(Kind::Unreached, way);
        }
        self.contained(how, way, demanded)
    }

    /// An attempt that the outside looks at.
    fn of_outside(&self, sight: Sight, demanded: &[How]) -> Expected {
        if sight == Sight::Unknown {
            return Expected::unknown("the simulator does not know this method");
        }
        if !self.topology.bottle.executable {
            return Expected::new(Kind::Inconclusive, CANNOT_RUN);
        }
        match sight {
            Sight::Shows { why } => Expected::new(Kind::Leaked, why),
            Sight::Blind { why } => Expected::new(Kind::Inconclusive, why),
            Sight::Nothing { how, why } => self.contained(how, why, demanded),
            Sight::Unsure { how, why } => {
                let contained = self.contained(how, why, demanded);
                contained.or(Kind::Inconclusive, "or it finds what another attempt listens on")
            }
            Sight::Unknown => unreachable!("handled above"),
        }
    }

    /// What stays in the bottle, as far as the prober lives and it ends as is demanded.
    fn contained(&self, how: How, way: String, demanded: &[How]) -> Expected {
        if !self.lives {
            return Expected::new(Kind::Inconclusive, format!("{way}; nor is the bundle reached"));
        }
        if !demanded.is_empty() && !demanded.contains(&how) {
            return Expected::new(Kind::Inconclusive, format!("{way}: {how}, not as is demanded"));
        }
        Expected::new(Kind::Contained, way)
    }

    fn control_arrives(&self, listening: &Listening) -> bool {
        unix::control_arrives(self.topology, listening)
    }

    /// A listener on the real loopback whose port is not random may be somebody else's.
    fn is_contested(&self, id: u32) -> bool {
        let adopted = self.topology.lab.adopted.iter().find(|listener| listener.id == id);
        adopted.is_some_and(|one| !self.topology.random_ports.contains(&one.address.port()))
    }
}

/// Whether the attempt goes to a listener that this machine may not give away.
fn depends_on_machine(planned: &Planned) -> bool {
    let Means::Prober { listeners, .. } = &planned.means else { return false };
    listeners.iter().any(|listening| listening.control == REAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{attempt, contained, leaked, probe, run};

    fn cell(what: &str, expected: Expected) -> Cell {
        Cell { what: what.to_owned(), expected, depends_on_machine: false }
    }

    /// Whether the attempts `a` and `b` of one probe agree with `cells`, in which `a` is contained as it was in the run.
    fn agree(cells: Vec<Cell>) -> Vec<(String, bool)> {
        let mut tried = probe("x", contained());
        tried.attempts = vec![attempt("a", contained()), attempt("b", contained())];
        let table = Table { cells: [("x".to_owned(), cells)].into() };
        let rows = table.compare(&run(vec![tried])).rows;
        rows.into_iter().map(|row| (row.what, row.agrees)).collect()
    }

    fn told(rows: &[(&str, bool)]) -> Vec<(String, bool)> {
        rows.iter().map(|(what, agrees)| ((*what).to_owned(), *agrees)).collect()
    }

    #[test]
    fn what_has_no_expectation_never_agrees() {
        let contained = || Expected::new(Kind::Contained, "no route");
        let all = agree(vec![cell("a", contained()), cell("b", contained())]);
        assert_eq!(all, told(&[("a", true), ("b", true)]));
        let without_a_cell = agree(vec![cell("a", contained())]);
        assert_eq!(without_a_cell, told(&[("a", true), ("b", false)]));
        let unknown = cell("b", Expected::unknown("the simulator does not know this method"));
        assert_eq!(
            agree(vec![cell("a", contained()), unknown]),
            told(&[("a", true), ("b", false)])
        );
        assert_eq!(agree(Vec::new()), told(&[("a", false), ("b", false)]));
    }

    #[test]
    fn what_was_expected_and_not_tried_does_not_agree_either() {
        let contained = || Expected::new(Kind::Contained, "no route");
        let cells = ["a", "b", "c"].map(|what| cell(what, contained()));
        assert_eq!(agree(cells.into()), told(&[("a", true), ("b", true), ("c", false)]));
        let leaks = Expected::new(Kind::Leaked, "a route");
        assert!(!leaks.agrees(Kind::Contained) && leaks.agrees(Kind::of(&leaked())));
    }
}
