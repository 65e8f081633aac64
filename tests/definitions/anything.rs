//! Any bytes at all: no panic, and either a probe that keeps its promises or errors that can be shown.

use claude_bottle::probe::errors::DefinitionError;
use proptest::prelude::*;

use crate::{discover, shipped_texts};

/// What any text comes to: a catalogue that keeps its promises, or errors that can be shown.
fn anything(content: &[u8]) -> Result<(), TestCaseError> {
    match discover(&[("x.toml", content)]) {
        Ok(catalogue) => {
            let probe = catalogue.get("x").unwrap();
            prop_assert!(!probe.attempts.is_empty() && !probe.proven_by.is_empty());
            for attempt in &probe.attempts {
                prop_assert_eq!(attempt.to.is_some(), attempt.method.needs_to());
            }
        }
        Err(errors) => {
            prop_assert!(errors.len() > 0);
            let lines = String::from_utf8_lossy(content).matches('\n').count() + 1;
            for error in errors.iter() {
                if let DefinitionError::Mistake(mistake) = error {
                    prop_assert!((1..=lines).contains(&mistake.line), "{mistake}");
                    prop_assert!((1..=content.len() + 1).contains(&mistake.column), "{mistake}");
                }
            }
            let told = errors.to_string();
            prop_assert!(told.contains("x.toml"));
            prop_assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_come_to_something(content in proptest::collection::vec(any::<u8>(), 0..200)) {
        anything(&content)?;
    }

    #[test]
    fn any_text_comes_to_something(content in r#"([a-z]{1,3} ?= ?|[\[\]{},."'\n\r\t#= ]|true|[0-9-]{1,4}|\PC){0,60}"#) {
        anything(content.as_bytes())?;
    }

    #[test]
    fn a_right_file_changed_anywhere_comes_to_something(
        which in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec(
            (any::<proptest::sample::Index>(), 0..12_usize, proptest::collection::vec(any::<u8>(), 0..4)),
            1..4,
        ),
    ) {
        let texts = shipped_texts();
        let mut content = which.get(&texts).1.clone().into_bytes();
        for (at, cut, put) in changes {
            let at = at.index(content.len() + 1);
            let end = (at + cut).min(content.len());
            content.splice(at..end, put);
        }
        anything(&content)?;
    }

    #[test]
    fn a_right_file_with_other_lines_and_words_comes_to_something(
        which in any::<proptest::sample::Index>(),
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
        word in prop::sample::select(vec!["tcp", "exec", "leaks", "reached", "bundle", "[]", "9", "x"]),
    ) {
        let texts = shipped_texts();
        let text = &which.get(&texts).1;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line = lines[from.index(lines.len())].clone();
        let at = to.index(lines.len());
        lines.insert(at, line);
        anything(lines.join("\n").as_bytes())?;
        lines.remove(at);
        let quoted: Vec<&str> = text.split('"').collect();
        let instead = from.index(quoted.len());
        let changed: Vec<&str> =
            quoted.iter().enumerate().map(|(n, part)| if n == instead { word } else { part }).collect();
        anything(changed.join("\"").as_bytes())?;
    }
}
