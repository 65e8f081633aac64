//! The kind `toolbox`: a bottle is launched, and the toolbox in it says its version.

use std::error::Error;
use std::time::Duration;

use claude_bottle_protocol::VERSION;

use super::outcome::Finding;
use crate::backend::{Backend, LaunchError};
use crate::bottle::{Bottle, BottleError, Command};
use crate::error_chain;
use crate::nearest::quote;
use crate::report::text::Untrusted;

/// How long it may take to say so; it takes a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a wrong answer is told, in columns.
const TOLD: usize = 80;

/// Launches a bottle, asks its toolbox, and tears it down.
pub(super) async fn check(backend: &dyn Backend) -> Finding {
    let arena = match backend.launch(None).await {
        Ok(arena) => arena,
        Err(error) => return not_launched(&error),
    };
    let finding = ask(arena.bottle()).await;
    match arena.teardown().await {
        Err(error) if matches!(finding, Finding::Unchanged { .. }) => {
            Finding::Unreachable { why: error.to_string() }
        }
        Ok(()) | Err(_) => finding,
    }
}

/// A toolbox of another version is refused when it greets, before any command can be run.
fn not_launched(error: &LaunchError) -> Finding {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(BottleError::Version { theirs, .. }) = error.downcast_ref() {
            return says(theirs.as_str());
        }
        cause = error.source();
    }
    Finding::Unreachable { why: error_chain(error) }
}

async fn ask(bottle: &dyn Bottle) -> Finding {
    let command = Command::new(bottle.toolbox()).arg("version").timeout(PATIENCE);
    match bottle.exec(command).await {
        Ok(output) if output.end.is_success() => {
            says(String::from_utf8_lossy(&output.stdout).trim_end())
        }
        Ok(output) => Finding::Changed { what: format!("`toolbox version` {}", output.end) },
        Err(error) => Finding::Unreachable { why: error_chain(&error) },
    }
}

/// What a version that the toolbox says of itself means.
fn says(version: &str) -> Finding {
    if version == VERSION {
        return Finding::Unchanged { seen: format!("version {VERSION}") };
    }
    let version = Untrusted::new(version).one_line(TOLD);
    let (said, ours) = (quote(&version), quote(VERSION));
    Finding::Changed { what: format!("the toolbox is of version {said}, not {ours}") }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::backend::Arena;
    use crate::breach::Breach;

    /// A backend that cannot launch anything, for a reason of its own.
    struct Failing(fn() -> BottleError);

    #[async_trait]
    impl Backend for Failing {
        fn name(&self) -> &'static str {
            "namespace"
        }

        fn breaches(&self) -> &'static [Breach] {
            &[]
        }

        async fn launch(&self, _: Option<Breach>) -> Result<Box<dyn Arena>, LaunchError> {
            let (step, source) = ("the bottle does not answer".to_owned(), self.0().into());
            Err(LaunchError { backend: self.name(), step, source })
        }
    }

    #[test]
    fn only_this_version_will_do() {
        assert_eq!(says(VERSION), Finding::Unchanged { seen: format!("version {VERSION}") });
        for other in ["", "0.0.0", "99.0.0\nmore", &format!("{VERSION}-dirty")] {
            assert!(matches!(says(other), Finding::Changed { .. }), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_toolbox_that_is_refused_for_its_version_has_changed() {
        let refused =
            Failing(|| BottleError::Version { theirs: Untrusted::new("9.8.7"), ours: VERSION });
        let what = format!("the toolbox is of version `9.8.7`, not `{VERSION}`");
        assert_eq!(check(&refused).await, Finding::Changed { what });
    }

    #[tokio::test]
    async fn a_bottle_that_does_not_come_up_says_nothing_of_the_toolbox() {
        let silent = Failing(|| BottleError::Silent { patience: Duration::from_secs(1) });
        let finding = check(&silent).await;
        assert!(matches!(finding, Finding::Unreachable { .. }), "{finding:?}");
        assert!(finding.detail().contains("the bottle does not answer"), "{finding:?}");
    }
}
