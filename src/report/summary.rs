//! What a sandbox lets out, for a person who has never read our documents: the worst first, each with its evidence and
//! one sentence on how to close it.

use std::collections::BTreeMap;

use super::layout::{Hue, Page, piece, words};
use super::prose::{self, Nonces, clean};
use super::tally::Tally;
use super::terminal::{Style, severity};
use crate::probe::outcome::{AttemptOutcome, ProbeOutcome, RunOutcome};
use crate::probe::verdict::Verdict;

/// What to do about a leak that is none of a place, by the probe's name.
const CLOSE_PROBE: &[(&str, &str)] = &[
    (
        "allowed-reach",
        "Open that one way: without it the sandbox cannot do its work, and nothing shows that its network is there at all.",
    ),
    (
        "namespace-escape",
        "Forbid new user namespaces (bwrap --disable-userns, a seccomp filter), drop every capability, and give the sandbox \
         a PID namespace of its own.",
    ),
    (
        "route-change",
        "Drop CAP_NET_ADMIN (bwrap --cap-drop ALL, docker run --cap-drop ALL), and do not make the sandbox root of its own \
         user namespace.",
    ),
    (
        "netlink",
        "Drop CAP_NET_ADMIN (bwrap --cap-drop ALL, docker run --cap-drop ALL), and do not make the sandbox root of its own \
         user namespace.",
    ),
    (
        "foreign-sockets",
        "Give the sandbox a filter on system calls (bwrap --seccomp) that refuses sockets of AF_VSOCK and AF_ALG; bubblewrap has none \
         by itself.",
    ),
    (
        "inbound",
        "Give the sandbox no address that others can reach, or a firewall rule that refuses what comes in.",
    ),
    (
        "inherited-descriptors",
        "Close every descriptor but the standard streams before the sandbox starts.",
    ),
];
/// What to do about a leak, by where it arrived.
const CLOSE: &[(&str, &str)] = &[
    (
        "host-sockets unix/abstract",
        "Give the sandbox a network namespace of its own: abstract sockets belong to it.",
    ),
    (
        "host-loopback",
        "Give the sandbox a network namespace of its own (unshare, --unshare-net, --network none).",
    ),
    (
        "resolver",
        "Let the sandbox ask no resolver but one that answers from a list: a name that is looked up carries data out.",
    ),
    (
        "published-port",
        "Give the sandbox no way to this machine's addresses, or publish ports of other containers on 127.0.0.1 alone.",
    ),
    (
        "neighbour",
        "Give each sandbox a network of its own: neighbours on one bridge reach each other.",
    ),
    (
        "metadata",
        "Refuse 169.254.0.0/16 and the cloud's other metadata addresses: credentials of this machine are served there.",
    ),
    (
        "control-plane",
        "Do not let the engine listen on TCP, and refuse the sandbox the way to this machine.",
    ),
    (
        "segment",
        "Take the sandbox off any bridge that it shares, or filter multicast and broadcast there.",
    ),
    ("internet-v6", "Turn IPv6 off in the sandbox, or filter it as IPv4 is."),
    ("nat64", "Turn IPv6 off in the sandbox, or filter it as IPv4 is."),
    (
        "private-ranges",
        "Give the sandbox no default route, or a firewall rule that refuses private address ranges.",
    ),
    (
        "internet",
        "Give the sandbox no default route, and let it out through a proxy with a list of what it may reach.",
    ),
    (
        "real-sockets",
        "Give the sandbox a network namespace of its own: abstract sockets belong to it.",
    ),
    (
        "real-vsock",
        "Refuse socket(AF_VSOCK) with a filter on system calls: a network namespace does not hold vsock back.",
    ),
    (
        "host-sockets",
        "Do not show the sandbox folders of this machine in which sockets lie, such as /tmp and /run.",
    ),
    (
        "host-gateway",
        "Give the sandbox a network without a way to this machine's addresses, or a firewall rule that refuses them.",
    ),
    (
        "real-loopback",
        "Give the sandbox a network namespace of its own (unshare, --unshare-net, --network none).",
    ),
];

/// The whole summary.
pub fn render(run: &RunOutcome, style: Style) -> String {
    let mut page = Page::new(style.colour, style.width);
    let mut leaks: Vec<_> = run
        .probes
        .iter()
        .filter(|probe| matches!(probe.verdict, Verdict::Leaked { .. } | Verdict::Unreached { .. }))
        .collect();
    leaks.sort_by_key(|probe| (std::cmp::Reverse(probe.severity), &probe.name));
    if !leaks.is_empty() {
        page.line(0, 2, words(0, Hue::Bad, "Not as it should be:"));
    }
    for probe in leaks {
        leak(&mut page, probe);
    }
    let held = run
        .probes
        .iter()
        .filter(|probe| matches!(probe.verdict, Verdict::Contained { .. } | Verdict::Reached));
    list(
        &mut page,
        Hue::Good,
        "As it should be:",
        held.map(|probe| (as_far_as_tried(probe), None)),
    );
    list(
        &mut page,
        Hue::Unclear,
        "Could not be judged:",
        grouped(run, |probe| match &probe.verdict {
            Verdict::Inconclusive { why } => Some(plain(why) + &added(probe)),
            _ => None,
        }),
    );
    list(
        &mut page,
        Hue::Faint,
        "Not tried:",
        grouped(run, |probe| match &probe.verdict {
            Verdict::Skipped { why } => Some(plain(why)),
            _ => None,
        }),
    );
    for note in &run.notes {
        page.line(0, 2, words(0, Hue::Faint, &format!("note: {}", clean(note))));
    }
    page.gap();
    let tally = Tally::of(std::slice::from_ref(run));
    page.line(0, 2, words(0, Hue::Plain, &tally.to_string()));
    page.finish()
}

/// Made harmless, in the reader's words: a bottle is ours, and theirs is a sandbox.
fn plain(text: &str) -> String {
    let text = clean(text);
    let mut said = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("bottle") {
        let (before, found) = rest.split_at(at);
        said.push_str(before);
        // Part of a name otherwise, such as that of a socket.
        let is_word = before.chars().next_back().is_none_or(char::is_whitespace);
        said.push_str(if is_word { "sandbox" } else { "bottle" });
        rest = &found["bottle".len()..];
    }
    said + rest
}

/// Its title, and how many of its attempts say so, where some could not be made.
fn as_far_as_tried(probe: &ProbeOutcome) -> String {
    let title = plain(&probe.title);
    let all = probe.attempts.len();
    let skipped = |one: &&AttemptOutcome| matches!(one.verdict, Verdict::Skipped { .. });
    match probe.attempts.iter().filter(skipped).count() {
        0 => title,
        skipped => {
            format!("{title} (by {} of {all} attempts, the others were not tried)", all - skipped)
        }
    }
}

fn leak(page: &mut Page, probe: &ProbeOutcome) {
    let level = severity(probe.severity);
    let mut line = vec![piece(0, Hue::Bad, level)];
    line.extend(words(2, Hue::Heading, &format!("{} does not hold", clean(&probe.name))));
    page.line(2, 4, line);
    page.line(4, 4, words(0, Hue::Plain, &format!("It should be so: {}.", plain(&probe.title))));
    let all = probe.attempts.iter().filter(|one| one.verdict.badness() == probe.verdict.badness());
    let count = format!("({} of {})", all.count(), prose::count(probe.attempts.len(), "attempt"));
    let seen = plain(&prose::probe_reason(probe, Nonces::Short));
    page.line(4, 6, words(0, Hue::Plain, &format!("Seen: {seen} {count}")));
    if let Some(close) = close(probe) {
        page.line(4, 6, words(0, Hue::Plain, &format!("To close it: {close}")));
    }
}

/// One sentence on what to do, if anything is known to help.
fn close(probe: &ProbeOutcome) -> Option<&'static str> {
    if let Some((_, close)) = CLOSE_PROBE.iter().find(|(name, _)| *name == probe.name) {
        return Some(close);
    }
    let Verdict::Leaked { evidence } = &probe.verdict else { return None };
    let is_at = |at: &str| {
        let rest = evidence.witness.strip_prefix(at);
        rest.is_some_and(|rest| rest.starts_with(' '))
    };
    CLOSE.iter().find(|(at, _)| is_at(at)).map(|(_, close)| *close)
}

/// What the sandbox itself says of the attempt that decided, if anything.
fn added(probe: &ProbeOutcome) -> String {
    let decided = probe.attempts.iter().find(|one| one.verdict == probe.verdict);
    let detail = decided.and_then(prose::detail);
    detail.map(|detail| format!("; the sandbox adds {detail}")).unwrap_or_default()
}

/// Reasons, each once, with the probes that it is given for.
fn grouped(
    run: &RunOutcome,
    why: impl Fn(&ProbeOutcome) -> Option<String>,
) -> Vec<(String, Option<String>)> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for probe in &run.probes {
        if let Some(why) = why(probe) {
            groups.entry(why).or_default().push(clean(&probe.name));
        }
    }
    groups.into_iter().map(|(why, names)| (why, Some(names.join(", ")))).collect()
}

fn list(
    page: &mut Page,
    hue: Hue,
    heading: &str,
    items: impl IntoIterator<Item = (String, Option<String>)>,
) {
    let mut items = items.into_iter().peekable();
    if items.peek().is_none() {
        return;
    }
    page.gap();
    page.line(0, 2, words(0, hue, heading));
    for (text, names) in items {
        let names = names.map(|names| format!(": {names}")).unwrap_or_default();
        page.line(2, 4, words(0, Hue::Plain, &format!("{text}{names}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn a_leak_has_its_evidence_and_hostile_text_stays_on_its_line() {
        let text = render(&samples::everything(), Style::default());
        assert!(text.starts_with("Not as it should be:"), "{text}");
        assert!(text.contains("Seen: ") && text.contains("Could not be judged:"), "{text}");
        assert_eq!(plain("the bottle's at @claude-bottle/x"), "the sandbox's at @claude-bottle/x");
        let hostile = render(&samples::hostile(), Style::default());
        assert!(!hostile.chars().any(|c| c.is_control() && c != '\n'), "{hostile}");
    }
}
