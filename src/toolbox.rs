//! The guest programs: the toolbox, one static program for every role inside a bottle and its lab, and the gateway.

use std::borrow::Cow;
use std::path::PathBuf;

use thiserror::Error;

/// The variable that names a toolbox to use instead of the embedded one.
pub const VARIABLE: &str = "CLAUDE_BOTTLE_TOOLBOX";
/// The variable that names a gateway to use instead of the embedded one.
pub const GATEWAY_VARIABLE: &str = "CLAUDE_BOTTLE_GATEWAY";

#[cfg(embedded_guest)]
mod embedded {
    pub(super) const TOOLBOX: Option<&[u8]> =
        Some(include_bytes!(env!("CLAUDE_BOTTLE_EMBEDDED_TOOLBOX")));
    pub(super) const GATEWAY: Option<&[u8]> =
        Some(include_bytes!(env!("CLAUDE_BOTTLE_EMBEDDED_GATEWAY")));
}
#[cfg(not(embedded_guest))]
mod embedded {
    pub(super) const TOOLBOX: Option<&[u8]> = None;
    pub(super) const GATEWAY: Option<&[u8]> = None;
}

/// Why there is no toolbox, or no gateway.
#[derive(Debug, Error)]
pub enum ToolboxError {
    /// This build has none, since it was made for another system than Linux, by a toolchain without a target for that.
    #[error(
        "this build of claude-bottle embeds no guest programs: build it again after `rustup target add {}-unknown-linux-musl`, or set \
         {variable} to one built for Linux (cargo build -p {package} --profile guest)",
        std::env::consts::ARCH
    )]
    NotEmbedded {
        /// The variable.
        variable: &'static str,
        /// The package that it is of.
        package: &'static str,
    },
    /// The named one cannot be read.
    #[error("cannot read the guest program {path} that {variable} names")]
    Unreadable {
        /// The variable.
        variable: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The toolbox's bytes: those of the file that `CLAUDE_BOTTLE_TOOLBOX` names, else the embedded ones.
pub fn bytes() -> Result<Cow<'static, [u8]>, ToolboxError> {
    named_or(VARIABLE, embedded::TOOLBOX, "claude-bottle-guest")
}

/// The gateway's bytes: those of the file that `CLAUDE_BOTTLE_GATEWAY` names, else the embedded ones.
pub fn gateway_bytes() -> Result<Cow<'static, [u8]>, ToolboxError> {
    named_or(GATEWAY_VARIABLE, embedded::GATEWAY, "claude-bottle-gateway")
}

fn named_or(
    variable: &'static str,
    embedded: Option<&'static [u8]>,
    package: &'static str,
) -> Result<Cow<'static, [u8]>, ToolboxError> {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        return std::fs::read(&path).map(Into::into).map_err(|source| ToolboxError::Unreadable {
            variable,
            path,
            source,
        });
    }
    embedded.map(Into::into).ok_or(ToolboxError::NotEmbedded { variable, package })
}
