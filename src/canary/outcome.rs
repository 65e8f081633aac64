//! What came of a canary.

use std::time::Duration;

use super::definition::Canary;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Upstream is what it was.
    Unchanged {
        /// What was seen of it, such as `version 0.1.0`.
        seen: String,
    },
    /// Upstream is there and is not what it was.
    Changed {
        /// In which way.
        what: String,
    },
    /// Upstream could not be asked, so nothing is known of it.
    Unreachable {
        /// Why.
        why: String,
    },
    /// It was not tried.
    Skipped {
        /// Why.
        why: String,
    },
}

impl Finding {
    /// The one word for it; what somebody must look at is in capitals.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unchanged { .. } => "unchanged",
            Self::Changed { .. } => "CHANGED",
            Self::Unreachable { .. } => "UNREACHABLE",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// What there is to say besides the word.
    pub fn detail(&self) -> &str {
        match self {
            Self::Unchanged { seen: text }
            | Self::Changed { what: text }
            | Self::Unreachable { why: text }
            | Self::Skipped { why: text } => text,
        }
    }
}

/// A canary and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryOutcome {
    /// Its name.
    pub name: String,
    /// The kind of its check.
    pub kind: &'static str,
    /// What is true of upstream while it is unchanged.
    pub title: String,
    /// Why it matters.
    pub why: String,
    /// What came of it.
    pub finding: Finding,
    /// How long it took.
    pub took: Duration,
}

impl CanaryOutcome {
    /// `finding` about `canary`, which took no time.
    pub fn of(canary: &Canary, finding: Finding) -> Self {
        Self {
            name: canary.name.clone(),
            kind: canary.check.kind(),
            title: canary.title.clone(),
            why: canary.why.clone(),
            finding,
            took: Duration::ZERO,
        }
    }
}

/// 1: something has changed; 3: something could not be asked, or nothing was tried; 0: all is as it was.
pub fn exit_code(outcomes: &[CanaryOutcome]) -> u8 {
    let any = |is: fn(&Finding) -> bool| outcomes.iter().any(|outcome| is(&outcome.finding));
    if any(|finding| matches!(finding, Finding::Changed { .. })) {
        1
    } else if any(|finding| matches!(finding, Finding::Unreachable { .. }))
        || !any(|finding| matches!(finding, Finding::Unchanged { .. }))
    {
        3
    } else {
        0
    }
}
