//! How what is printed looks.

use std::io::IsTerminal as _;

use clap::ValueEnum;

use crate::report::terminal::Style;

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Colour {
    /// Whether standard output gets colours.
    pub(super) fn on_stdout(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                !refused && std::io::stdout().is_terminal()
            }
        }
    }

    /// The style of a report on standard output.
    pub(super) fn style(self, verbose: u8) -> Style {
        let size = terminal_size::terminal_size_of(std::io::stdout());
        let width = size.map_or(0, |(width, _)| usize::from(width.0));
        Style { colour: self.on_stdout(), width, verbose }
    }
}
