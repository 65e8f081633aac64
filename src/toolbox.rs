//! The guest toolbox: one static program for every role inside a bottle and its lab.

use std::path::PathBuf;

use thiserror::Error;

/// The variable that names a toolbox to use instead of the embedded one.
pub const VARIABLE: &str = "CLAUDE_BOTTLE_TOOLBOX";

#[cfg(embedded_toolbox)]
const EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("CLAUDE_BOTTLE_EMBEDDED_TOOLBOX")));
#[cfg(not(embedded_toolbox))]
const EMBEDDED: Option<&[u8]> = None;

/// Why there is no toolbox.
#[derive(Debug, Error)]
pub enum ToolboxError {
    /// This build has none, since it was not made on Linux.
    #[error(
        "this build of claude-bottle embeds no guest toolbox: set {VARIABLE} to one built for Linux \
         (cargo build -p claude-bottle-guest --profile guest --target x86_64-unknown-linux-gnu)"
    )]
    NotEmbedded,
    /// The named one cannot be read.
    #[error("cannot read the guest toolbox {path} that {VARIABLE} names")]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The toolbox's bytes: those of the file that `CLAUDE_BOTTLE_TOOLBOX` names, else the embedded ones.
pub fn bytes() -> Result<std::borrow::Cow<'static, [u8]>, ToolboxError> {
    if let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) {
        return std::fs::read(&path)
            .map(Into::into)
            .map_err(|source| ToolboxError::Unreadable { path, source });
    }
    EMBEDDED.map(Into::into).ok_or(ToolboxError::NotEmbedded)
}
