//! A stack of undo steps: pushed the moment a thing exists, run in reverse whatever happens.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use thiserror::Error;

type Undo =
    Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), UndoError>> + Send>> + Send + Sync>;
/// Why one step could not be undone.
pub type UndoError = Box<dyn std::error::Error + Send + Sync>;

/// The steps to undo, last one first.
#[derive(Default)]
pub struct Teardown {
    steps: Vec<(String, Undo)>,
}

/// Some steps could not be undone. All of them were tried.
#[derive(Debug, Error)]
#[error("cannot undo {}", .0.iter().map(|(step, why)| format!("{step}: {why}")).collect::<Vec<_>>().join("; "))]
pub struct TeardownError(pub Vec<(String, UndoError)>);

impl Teardown {
    /// An empty stack.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pushes how to undo `step`. Undoing must be idempotent: what is missing is undone.
    pub fn push<F, E>(
        &mut self,
        step: impl Into<String>,
        undo: impl FnOnce() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<UndoError>,
    {
        let undo: Undo =
            Box::new(move || Box::pin(async move { undo().await.map_err(Into::into) }));
        self.steps.push((step.into(), undo));
    }

    /// The names of the steps, in the order in which they would be undone.
    pub fn pending(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().rev().map(|(step, _)| step.as_str())
    }

    /// Undoes every step, last one first; one that fails does not keep the others from being undone.
    pub async fn run(&mut self) -> Result<(), TeardownError> {
        let mut failed = Vec::new();
        while let Some((step, undo)) = self.steps.pop() {
            if let Err(why) = undo().await {
                failed.push((step, why));
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(TeardownError(failed)) }
    }
}

impl fmt::Debug for Teardown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pending()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_step_is_undone_once_in_reverse(fails in proptest::collection::vec(any::<bool>(), 0..20)) {
            let undone = Arc::new(Mutex::new(Vec::new()));
            let mut stack = Teardown::new();
            for (step, fail) in fails.iter().copied().enumerate() {
                let undone = Arc::clone(&undone);
                stack.push(step.to_string(), move || async move {
                    undone.lock().unwrap().push(step);
                    if fail { Err("refused") } else { Ok(()) }
                });
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let result = runtime.block_on(stack.run());
            let expected: Vec<_> = (0..fails.len()).rev().collect();
            prop_assert_eq!(&*undone.lock().unwrap(), &expected);
            let failed: Vec<_> = expected.into_iter().filter(|step| fails[*step]).map(|s| s.to_string()).collect();
            let told: Vec<String> = result.err().map_or_else(Vec::new, |TeardownError(all)| {
                all.into_iter().map(|(step, _)| step).collect()
            });
            prop_assert_eq!(told, failed);
            prop_assert!(runtime.block_on(stack.run()).is_ok(), "nothing is left to undo");
        }
    }
}
