//! A stack of undo steps: pushed the moment a thing exists, run in reverse whatever happens.
//!
//! What was made side by side is undone side by side.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use futures_util::future::join_all;
use thiserror::Error;

type Undo =
    Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Result<(), UndoError>> + Send>> + Send + Sync>;
/// Why one step could not be undone.
pub type UndoError = Box<dyn std::error::Error + Send + Sync>;

/// The steps to undo, in stages; the last one first.
#[derive(Default)]
pub struct Teardown {
    stages: Vec<Vec<(String, Undo)>>,
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
        self.next_stage();
        self.push_beside(step, undo);
    }

    /// What is pushed from here on is undone before what was pushed so far.
    pub fn next_stage(&mut self) {
        self.stages.push(Vec::new());
    }

    /// Pushes how to undo `step`, at the same time as the other steps of this stage.
    pub fn push_beside<F, E>(
        &mut self,
        step: impl Into<String>,
        undo: impl FnOnce() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<UndoError>,
    {
        let undo: Undo =
            Box::new(move || Box::pin(async move { undo().await.map_err(Into::into) }));
        let step = (step.into(), undo);
        match self.stages.last_mut() {
            Some(stage) => stage.push(step),
            None => self.stages.push(vec![step]),
        }
    }

    /// The names of the steps, in the order in which they would be undone.
    pub fn pending(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().rev().flatten().map(|(step, _)| step.as_str())
    }

    /// Undoes every step, the last stage first; one that fails does not keep the others from being undone.
    pub async fn run(&mut self) -> Result<(), TeardownError> {
        let mut failed = Vec::new();
        while let Some(stage) = self.stages.pop() {
            let undone = stage.into_iter().map(|(step, undo)| async { (step, undo().await) });
            let undone = join_all(undone).await;
            failed.extend(undone.into_iter().filter_map(|(step, done)| Some((step, done.err()?))));
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
        fn every_step_is_undone_once_in_reverse(
            steps in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..20),
        ) {
            let undone = Arc::new(Mutex::new(Vec::new()));
            let mut stack = Teardown::new();
            let mut stages: Vec<Vec<usize>> = Vec::new();
            for (step, (beside, fail)) in steps.iter().copied().enumerate() {
                let undone = Arc::clone(&undone);
                let undo = move || async move {
                    undone.lock().unwrap().push(step);
                    if fail { Err("refused") } else { Ok(()) }
                };
                match stages.last_mut().filter(|_| beside) {
                    Some(stage) => stage.push(step),
                    None => stages.push(vec![step]),
                }
                if beside {
                    stack.push_beside(step.to_string(), undo);
                } else {
                    stack.push(step.to_string(), undo);
                }
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let result = runtime.block_on(stack.run());
            let expected: Vec<_> = stages.into_iter().rev().flatten().collect();
            prop_assert_eq!(&*undone.lock().unwrap(), &expected);
            let failed: Vec<_> = expected.into_iter().filter(|step| steps[*step].1).map(|s| s.to_string()).collect();
            let told: Vec<String> = result.err().map_or_else(Vec::new, |TeardownError(all)| {
                all.into_iter().map(|(step, _)| step).collect()
            });
            prop_assert_eq!(told, failed);
            prop_assert!(runtime.block_on(stack.run()).is_ok(), "nothing is left to undo");
        }
    }

    #[tokio::test]
    async fn what_was_made_side_by_side_is_undone_at_the_same_time() {
        let both = Arc::new(tokio::sync::Barrier::new(2));
        let mut stack = Teardown::new();
        for _ in 0..2 {
            let both = Arc::clone(&both);
            stack.push_beside("one of two", move || async move {
                both.wait().await;
                Ok::<_, UndoError>(())
            });
        }
        let undone = tokio::time::timeout(std::time::Duration::from_secs(10), stack.run()).await;
        undone.expect("one does not wait for the other").unwrap();
    }
}
