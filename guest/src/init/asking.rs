//! `supervise status`: asks the init.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use claude_bottle_protocol::supervise::{DEFAULT_RUN_DIR, MAX_STATUS, RUN_DIR, SOCKET, Status};
use thiserror::Error;

/// How long the init may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
enum AskError {
    #[error("usage: supervise status")]
    Usage,
    #[error("no init answers at {path}")]
    NoInit { path: PathBuf, source: io::Error },
    #[error("the init's answer at {path} makes no sense")]
    Nonsense { path: PathBuf, source: serde_json::Error },
    #[error("cannot write the answer")]
    Write(#[source] io::Error),
}

/// Prints the daemons' states as JSON. 0: all run; 1: some do not; 2: there is no init to ask.
pub(crate) fn supervise(arguments: &[String]) -> ExitCode {
    let outcome = match arguments {
        [word] if word == "status" => status(std::env::var_os(RUN_DIR)),
        _ => Err(AskError::Usage),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            super::complain("supervise", &error);
            ExitCode::from(2)
        }
    }
}

fn status(folder: Option<OsString>) -> Result<bool, AskError> {
    let folder = folder.filter(|folder| !folder.is_empty());
    let path = Path::new(&folder.unwrap_or_else(|| DEFAULT_RUN_DIR.into())).join(SOCKET);
    let answer = ask(&path).map_err(|source| AskError::NoInit { path: path.clone(), source })?;
    let nonsense = |source| AskError::Nonsense { path: path.clone(), source };
    let status: Status = serde_json::from_slice(&answer).map_err(&nonsense)?;
    let mut text = serde_json::to_string_pretty(&status).map_err(nonsense)?;
    text.push('\n');
    io::stdout().write_all(text.as_bytes()).map_err(AskError::Write)?;
    Ok(status.all_run())
}

fn ask(path: &Path) -> io::Result<Vec<u8>> {
    let init = UnixStream::connect(path)?;
    init.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    init.take(MAX_STATUS as u64).read_to_end(&mut answer)?;
    Ok(answer)
}
