//! Deletes a machine that nobody has torn down.

use super::smolvm::Smolvm;

/// Deletes the machine when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Guard(Option<(Smolvm, String)>);

impl Guard {
    /// Of the machine of this name; of none where that one ends with this process anyway.
    pub(super) fn new(smolvm: &Smolvm, name: &str) -> Self {
        Self((!smolvm.ends_with_us()).then(|| (smolvm.clone(), name.to_owned())))
    }

    /// There is nothing left to delete.
    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some((smolvm, name)) = self.0.take() else { return };
        // A runtime of its own: that of the one who drops this may be about to end.
        let sweeping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            let _ = runtime.block_on(smolvm.delete(&name));
        });
        let _ = sweeping.join();
    }
}
