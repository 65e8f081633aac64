//! A plan, printed.

use std::fmt::Write as _;

use serde::Serialize;

use super::{File, Outline, Plan, Value};
use crate::nearest::visible;

/// Everything, as JSON.
pub fn json(plan: &Plan, outline: &Outline) -> String {
    #[derive(Serialize)]
    struct Whole<'a> {
        plan: &'a Plan,
        outline: &'a Outline,
    }
    let text = serde_json::to_string_pretty(&Whole { plan, outline });
    text.expect("plain data has a JSON form") + "\n"
}

/// For people: what may be reached and who wants it, then the bottle, then the steps.
pub fn render(plan: &Plan, outline: &Outline) -> String {
    let Plan { agent, bottle, command, folder, env, egress, daemons, mounts, copies, .. } = plan;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<9} {}", visible(value));
    };
    line("agent", &format!("{agent}, in a bottle {bottle}"));
    line("runtime", &outline.runtime);
    let bottle = &outline.bottle;
    let network = match (&outline.bundle, outline.leaks.as_slice()) {
        (None, _) => format!("{bottle} has none"),
        (Some(bundle), []) => format!("{bottle} reaches {bundle} and nothing else"),
        (Some(bundle), _) => format!("{bottle} reaches {bundle}, and what leaks"),
    };
    line("network", &network);
    for leak in &outline.leaks {
        line("leaks", leak);
    }
    line("bundle", &outline.bundle_runtime);
    line("daemons", &told_daemons(daemons, &outline.runs));
    if egress.is_empty() {
        line("egress", "nothing may be reached");
    }
    let rows = egress.iter().map(|entry| {
        let ports: Vec<_> = entry.ports.iter().map(ToString::to_string).collect();
        let sources: Vec<_> = entry.sources.keys().map(ToString::to_string).collect();
        (entry.host.to_string(), ports.join(","), sources.join("; "))
    });
    let rows: Vec<_> = rows.collect();
    let host_width = rows.iter().map(|(host, ..)| host.len()).max().unwrap_or(0);
    let port_width = rows.iter().map(|(_, ports, _)| ports.len()).max().unwrap_or(0);
    for (at, (host, ports, sources)) in rows.iter().enumerate() {
        let name = if at == 0 { "egress" } else { "" };
        line(name, &format!("{host:<host_width$}  {ports:<port_width$}  {sources}"));
    }
    for File { daemon, path, text } in &outline.files {
        let lines = text.lines().count();
        line("file", &format!("{path} for {daemon}, {lines} lines (--format json has them)"));
    }
    for (name, value) in env {
        match value {
            Value::Literal(value) => line("variable", &format!("{name}={value}")),
            Value::FromHost(from) => line("variable", &format!("{name} from the host's {from}")),
        }
    }
    for mount in mounts {
        let how = if mount.writable { "writable" } else { "read-only" };
        line("mount", &format!("{} at {}, {how}", mount.source.display(), mount.target));
    }
    for copy in copies {
        line("copy", &format!("{} to {}", copy.from.display(), copy.to));
    }
    line("folder", folder);
    let words: Vec<_> = command.iter().map(|word| format!("{word:?}")).collect();
    line("command", &words.join(" "));
    for (number, step) in (1..).zip(&outline.steps) {
        line(&format!("step {number}"), step);
    }
    text
}

/// The daemons that are wanted, and which are run where that is something else.
fn told_daemons(wanted: &[String], runs: &[String]) -> String {
    let all = wanted.join(", ");
    if wanted == runs {
        return all;
    }
    match runs {
        [] => format!("{all} (none of them is run)"),
        runs => format!("{all} (what is run is {})", runs.join(", ")),
    }
}
