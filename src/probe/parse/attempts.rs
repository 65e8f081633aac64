//! `[[attempt]]` tables, multiplied out.

use super::{raw, texts};
use crate::nearest::Suggestion;
use crate::probe::definition::{AttemptDefinition, Expect, HttpRequest, Method, Site, To};
use crate::probe::errors::Rule;
use crate::written::read::Written;
use crate::written::values::{OneOrMany, Port};
use crate::written::{At, Reader};

/// The most attempts that one probe may have. All of them run at the same time, each with a socket of its own.
const MOST: usize = 4096;

/// Every attempt of a probe, in the order of the file. Those that are wrong are left out.
pub(super) fn all(
    tables: Vec<At<raw::Attempt>>,
    referenced: bool,
    text: &str,
    reader: &mut Reader,
) -> Vec<AttemptDefinition> {
    let mut attempts = Vec::new();
    for At { value: table, span } in tables {
        if attempts.len().saturating_add(count(&table)) > MOST {
            reader.rule(&span, Rule::TooMany { most: MOST });
            break;
        }
        multiply_out(table, referenced, reader, &mut attempts);
    }
    check_duplicates(&attempts, text, reader);
    attempts.into_iter().map(|attempt| attempt.value).collect()
}

/// How many attempts come of a table.
fn count(table: &raw::Attempt) -> usize {
    fn length<T>(list: Option<&Written<OneOrMany<T>>>) -> usize {
        list.and_then(|list| list.0.as_ref()).map_or(1, |list| list.value.0.len())
    }
    let to = table.to.as_ref().and_then(|to| to.0.as_ref()).map(|to| &to.value);
    let destinations =
        to.map_or(1, |to| length(Some(&to.port)).saturating_mul(length(to.spelled.as_ref())));
    length(Some(&table.method)).saturating_mul(destinations)
}

/// Adds the attempts of one table: per method, per port, per spelling.
fn multiply_out(
    table: raw::Attempt,
    referenced: bool,
    reader: &mut Reader,
    attempts: &mut Vec<At<AttemptDefinition>>,
) {
    check_table(&table, referenced, reader);
    let raw::Attempt { method, to, request, headers, expect, how, only_on } = table;
    let destinations = match to {
        Some(Written(Some(to))) => destinations(to.value, reader).into_iter().map(Some).collect(),
        Some(Written(None)) => return,
        None => vec![None],
    };
    let (Some(methods), Some(expect)) = (method.0, expect.0) else {
        return;
    };
    let request = HttpRequest {
        line: request
            .and_then(|line| line.0)
            .map_or_else(|| HttpRequest::default().line, |line| line.value.0),
        headers: texts(headers, |header| header.0),
    };
    let how = words(how);
    let only_on: Vec<String> = words(only_on).iter().map(ToString::to_string).collect();
    for At { value: method, span } in methods.value.0 {
        for to in &destinations {
            let value = AttemptDefinition {
                method,
                to: to.clone(),
                request: (method == Method::Http).then(|| request.clone()),
                expect: expect.value,
                how: how.clone(),
                only_on: only_on.clone(),
            };
            attempts.push(At { value, span: span.clone() });
        }
    }
}

fn words<T>(list: Option<Written<OneOrMany<T>>>) -> Vec<T> {
    let words = list.and_then(|list| list.0).map(|list| list.value.0).unwrap_or_default();
    words.into_iter().map(|word| word.value).collect()
}

/// Checks what goes together in one table.
fn check_table(table: &raw::Attempt, referenced: bool, reader: &mut Reader) {
    let raw::Attempt { method, to, expect, how, .. } = table;
    for At { value: method, span } in method.0.iter().flat_map(|list| &list.value.0) {
        let method = *method;
        match to {
            None if method.needs_to() => reader.rule(span, Rule::NeedsTo { method }),
            Some(Written(Some(to))) if !method.needs_to() => {
                reader.rule(&to.span, Rule::GoesNowhere { method });
            }
            _ => {}
        }
        if let Some(expect) = &expect.0 {
            check_expect(method, expect, reader);
        }
        if let Some(Written(Some(At { value: raw::To { site, .. }, .. }))) = to
            && let Some(At { value: site, span }) = &site.0
            && method.needs_to()
            && method.asks_gateway() != (*site == Site::Proxied)
        {
            reader.rule(span, Rule::NotByGateway { method, site: *site });
        }
        if method != Method::Http && (table.request.is_some() || table.headers.is_some()) {
            reader.rule(span, Rule::AsksNothing { method });
        }
    }
    if let Some(Written(Some(At { value: raw::To { site, spelled: None, .. }, .. }))) = to
        && let Some(At { value: site @ Site::Proxied, span }) = &site.0
    {
        reader.rule(span, Rule::NotSpelled { site: *site });
    }
    let Some(At { value: expect, span }) = &expect.0 else {
        return;
    };
    if *expect == Expect::Leaks && !referenced {
        reader.rule(span, Rule::LeaksWithoutReference { key: "references" });
    }
    if let Some(Written(Some(how))) = how
        && *expect != Expect::Contained
    {
        reader.rule(&how.span, Rule::HowNotContained { expect: *expect });
    }
}

/// Notes an expectation that a method cannot have.
fn check_expect(method: Method, expect: &At<Expect>, reader: &mut Reader) {
    if !method.may_expect().contains(&expect.value) {
        reader.rule(&expect.span, Rule::CannotExpect { method, expect: expect.value });
    }
}

/// Checks what `[on.BACKEND]` expects against the methods that are tried there.
pub(super) fn check_expect_on(
    on: &raw::On,
    attempts: &[AttemptDefinition],
    backend: &str,
    reader: &mut Reader,
) {
    let Some(Written(Some(expect))) = &on.expect else {
        return;
    };
    let made = attempts.iter().filter(|attempt| attempt.is_made_on(backend));
    let mut methods: Vec<Method> = made.map(|attempt| attempt.method).collect();
    methods.sort_unstable();
    methods.dedup();
    for method in methods {
        check_expect(method, expect, reader);
    }
}

/// Every place that a `to` names: per port, per spelling.
fn destinations(to: raw::To, reader: &mut Reader) -> Vec<To> {
    let raw::To { site, port, spelled } = to;
    let (Some(At { value: site, .. }), Some(ports)) = (site.0, port.0) else {
        return Vec::new();
    };
    let spelled: Vec<Option<String>> = match spelled {
        None => vec![None],
        spelled => words(spelled).into_iter().map(|spelling| Some(spelling.0)).collect(),
    };
    let mut destinations = Vec::new();
    for At { value: Port(port), span } in ports.value.0 {
        if is_port(&port, site.port_names(), site.takes_numbers()) {
            let to = |spelled: &Option<String>| To {
                site,
                port: port.clone(),
                spelled: spelled.clone(),
            };
            destinations.extend(spelled.iter().map(to));
        } else {
            let suggestion = Suggestion::new(&port, site.port_names().iter().copied());
            reader.rule(&span, Rule::UnknownPort { site, port, suggestion });
        }
    }
    destinations
}

/// Whether a site with these names has such a port.
fn is_port(port: &str, names: &[&str], takes_numbers: bool) -> bool {
    // Only as it is usually written: `+80` and `080` would be other ports to whoever compares text.
    let is_number = || {
        let number = port.parse::<u16>();
        number.is_ok_and(|number| number > 0 && number.to_string() == port)
    };
    names.contains(&port) || (takes_numbers && is_number())
}

/// Notes every attempt that is made twice on any backend.
fn check_duplicates(attempts: &[At<AttemptDefinition>], text: &str, reader: &mut Reader) {
    let mut sorted: Vec<_> = attempts.iter().collect();
    // Stable: of those that are the same, the first in the file stays the first.
    sorted.sort_by_key(|attempt| attempt.value.destination());
    for same in sorted.chunk_by(|a, b| a.value.destination() == b.value.destination()) {
        for (at, attempt) in same.iter().enumerate() {
            if let Some(first) = same[..at].iter().find(|first| first.value.meets(&attempt.value)) {
                let line = text[..first.span.start].matches('\n').count() + 1;
                let what = attempt.value.to_string();
                reader.rule(&attempt.span, Rule::MadeTwice { what, line });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_names_and_where_the_site_takes_them_numbers() {
        let names = &["gateway"];
        assert!(is_port("gateway", names, false) && is_port("gateway", names, true));
        for number in ["1", "80", "65535"] {
            assert!(is_port(number, names, true), "{number}");
            assert!(!is_port(number, names, false), "{number}");
        }
        for wrong in ["0", "65536", "080", "+80", "-1", "", "egress", "8 0", "0x50"] {
            assert!(!is_port(wrong, names, true), "{wrong}");
        }
    }
}
