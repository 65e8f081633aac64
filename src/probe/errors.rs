//! What can be wrong with definitions and with a selection of them.

use super::definition::{Expect, Method, Site};
use crate::nearest::{Suggestion, quote};

pub use crate::written::errors::{DefinitionError, DefinitionErrors};

/// What goes together in a definition, and what does not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// The method goes to a site, and none is named.
    #[error(
        "method `{method}` needs a destination, such as `to = {{ site = \"bundle\", port = \"gateway\" }}`"
    )]
    NeedsTo {
        /// The method.
        method: Method,
    },
    /// The method goes nowhere, and a site is named.
    #[error("method `{method}` goes nowhere, it has no `to`")]
    GoesNowhere {
        /// The method.
        method: Method,
    },
    /// The method sends no HTTP request.
    #[error("method `{method}` has no `request` and no `headers`, they go with `http`")]
    AsksNothing {
        /// The method.
        method: Method,
    },
    /// The method asks the gateway and goes elsewhere, or the other way round.
    #[error(
        "method `{method}` does not go to site `{site}`: `http-connect`, `http-get`, `foreign-sni`, `foreign-host` and \
             `smuggled-request` go to `proxied`, and nothing else does"
    )]
    NotByGateway {
        /// The method.
        method: Method,
        /// The site.
        site: Site,
    },
    /// A site without an address of its own, and nothing that is asked for.
    #[error(
        "site `{site}` is reached through the gateway: add `spelled`, what that one is asked for"
    )]
    NotSpelled {
        /// The site.
        site: Site,
    },
    /// The method cannot have this outcome.
    #[error("`expect` of method `{method}` cannot be `{expect}`, expected {}",
        .method.may_expect().iter().map(|expect| format!("`{expect}`")).collect::<Vec<_>>().join(" or "))]
    CannotExpect {
        /// The method.
        method: Method,
        /// What was expected of it.
        expect: Expect,
    },
    /// `how` demands a way to fail of what must not fail.
    #[error("`how` goes with `expect = \"contained\"`, not with `{expect}`")]
    HowNotContained {
        /// What was expected.
        expect: Expect,
    },
    /// A known leak has to be documented somewhere.
    #[error("`leaks` is for leaks that are documented, add the key `{key}`")]
    LeaksWithoutReference {
        /// The key that names the document.
        key: &'static str,
    },
    /// The site has no such port.
    #[error("unknown port {} of site `{site}`, {suggestion}{}", quote(port), numbers(*site))]
    UnknownPort {
        /// The site.
        site: Site,
        /// The port.
        port: String,
        /// What to write instead.
        suggestion: Suggestion,
    },
    /// The same attempt is made twice.
    #[error("attempt {} is made by line {line} already", quote(what))]
    MadeTwice {
        /// The attempt.
        what: String,
        /// The line of the first.
        line: usize,
    },
    /// More attempts than can be made at the same time.
    #[error("the probe has more than {most} attempts")]
    TooMany {
        /// How many it may have.
        most: usize,
    },
    /// A table of differences has none.
    #[error("nothing is different here, add `expect` or `skip = true`")]
    NothingDifferent,
    /// What is not run cannot be expected to do anything.
    #[error("`skip = true` and `expect` exclude each other")]
    SkippedAndExpected,
}

fn numbers(site: Site) -> &'static str {
    if site.takes_numbers() { " (or a number from 1 to 65535)" } else { "" }
}

/// A selection that selects nothing. Zero probes would be zero failures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// No probe has such a name.
    #[error("no probe is named {}, {suggestion}", quote(name))]
    NoSuchName {
        /// The name that was asked for.
        name: String,
        /// Names that exist.
        suggestion: Suggestion,
    },
    /// No probe has such a tag.
    #[error("no probe has the tag {}, {suggestion}", quote(tag))]
    NoSuchTag {
        /// The tag that was asked for.
        tag: String,
        /// Tags that exist.
        suggestion: Suggestion,
    },
    /// There are such names and such tags, but not together.
    #[error("no probe is left: {} none of them the tags asked for", named(names))]
    NothingLeft {
        /// The probes whose names were right.
        names: Vec<String>,
    },
}

fn named(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    format!("{} have one of the names, but", names.join(", "))
}
