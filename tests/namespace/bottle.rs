//! A bottle that shows the host's programs.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use claude_bottle::backend::namespace::Namespace;
use claude_bottle::backend::{Arena, Backend as _};
use claude_bottle::bottle::{Command, Output};

use crate::trials::needs_user_namespaces;

/// How long anything may take before a test gives up: far longer than anything does.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bottle with a shell in it; the test is ignored where none can be launched.
pub(crate) async fn launch() -> Box<dyn Arena> {
    needs_user_namespaces();
    let backend = with_programs(Namespace::default());
    soon(backend.launch(None)).await.expect("a bottle")
}

/// Shows the host's programs in the bottles.
pub(crate) fn with_programs(mut backend: Namespace) -> Namespace {
    for folder in ["/bin", "/lib", "/lib64", "/sbin", "/usr"] {
        if Path::new(folder).exists() {
            backend = backend.showing(folder, folder);
        }
    }
    backend
}

pub(crate) fn sh(script: &str) -> Command {
    Command::new("sh").args(["-c", script])
}

/// Runs a command to its end.
pub(crate) async fn exec(arena: &dyn Arena, command: Command) -> Output {
    soon(arena.bottle().exec(command)).await.expect("an output")
}

/// What a script prints, without the end of the last line; it must succeed.
#[track_caller]
pub(crate) fn text(output: &Output) -> String {
    assert!(output.end.is_success(), "{output:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8").trim_end().to_owned()
}

/// Waits for something that comes, unless it is broken.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}
