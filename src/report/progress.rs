//! What a person sees until the report is there. On standard error only.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::prose::clean;

/// How fast the sign of life moves.
const TICK: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A line that changes in place.
    Bar {
        /// Whether it has colours.
        colour: bool,
    },
    /// A line per phase.
    Lines,
    /// Nothing.
    Quiet,
}

impl Mode {
    /// What suits standard error: a bar on a terminal that can move its cursor, coloured unless `NO_COLOR` is set
    /// (<https://no-color.org>), else lines.
    pub fn detect(quiet: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = set("TERM").is_none_or(|term| term == "dumb");
        Self::choose(quiet, io::stderr().is_terminal() && !is_dumb, set("NO_COLOR").is_some())
    }

    fn choose(quiet: bool, is_terminal: bool, no_colour: bool) -> Self {
        match (quiet, is_terminal) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Bar { colour: !no_colour },
            (false, false) => Self::Lines,
        }
    }
}

/// What is under way. Dropping it, also half-way, leaves a clean line behind.
pub struct Progress(Form);

enum Form {
    Bar { bar: ProgressBar, colour: bool },
    Lines(Mutex<Lines>),
    Quiet,
}

struct Lines {
    out: Box<dyn Write + Send>,
    phase: String,
}

impl Progress {
    /// Shows progress on standard error.
    pub fn new(mode: Mode) -> Self {
        match mode {
            Mode::Bar { colour } => Self::bar(ProgressDrawTarget::stderr(), colour),
            Mode::Lines => Self::lines(io::stderr()),
            Mode::Quiet => Self(Form::Quiet),
        }
    }

    fn bar(target: ProgressDrawTarget, colour: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(colour, false));
        Self(Form::Bar { bar, colour })
    }

    fn lines(out: impl Write + Send + 'static) -> Self {
        Self(Form::Lines(Mutex::new(Lines { out: Box::new(out), phase: String::new() })))
    }

    /// A phase begins, such as `launching a bottle`.
    pub fn phase(&self, name: &str) {
        let name = clean(name);
        match &self.0 {
            Form::Bar { bar, colour } => {
                bar.unset_length();
                bar.set_style(style(*colour, false));
                bar.set_message(name);
                bar.enable_steady_tick(TICK);
            }
            Form::Lines(lines) => lines.lock().unwrap_or_else(PoisonError::into_inner).phase(name),
            Form::Quiet => {}
        }
    }

    /// So many attempts of the phase have ended.
    pub fn attempts(&self, done: u64, total: u64) {
        match &self.0 {
            Form::Bar { bar, colour } => {
                let is_first = bar.length().is_none();
                if is_first {
                    bar.set_style(style(*colour, true));
                }
                bar.set_length(total);
                bar.set_position(done);
                // All others wait for the next tick.
                if is_first || done == total {
                    bar.force_draw();
                }
            }
            // A line per attempt would bury the report.
            Form::Lines(lines) if done == total => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).all_done(total);
            }
            Form::Lines(_) | Form::Quiet => {}
        }
    }

    /// For what has to be said meanwhile, from anywhere.
    pub fn aside(&self) -> Aside {
        Aside(match &self.0 {
            Form::Bar { bar, .. } => Some(bar.clone()),
            Form::Lines(_) | Form::Quiet => None,
        })
    }

    /// It is over; what was shown in place is gone.
    pub fn finish(self) {
        drop(self);
    }
}

/// Says things on standard error beside the progress, and leaves its line clean.
#[derive(Clone)]
pub struct Aside(Option<ProgressBar>);

impl Aside {
    /// Says `line`, also where no progress is shown. A standard error that is closed is no reason to fail.
    pub fn say(&self, line: &str) {
        let say = || {
            let _ = writeln!(io::stderr(), "{line}");
        };
        match &self.0 {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    /// Removes what is shown in place, for good.
    pub fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn phase(&mut self, name: String) {
        // Standard error may be closed: that is no reason to fail.
        let _ = writeln!(self.out, "{name}");
        self.phase = name;
    }

    fn all_done(&mut self, total: u64) {
        let _ = writeln!(self.out, "{}: {total}/{total}", self.phase);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Bar { bar, .. } = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(colour: bool, counted: bool) -> ProgressStyle {
    let template = match (colour, counted) {
        (false, false) => "{spinner} {msg}",
        (false, true) => "{spinner} {msg} {wide_bar} {pos}/{len}",
        (true, false) => "{spinner:.cyan} {msg}",
        (true, true) => "{spinner:.cyan} {msg} {wide_bar:.cyan} {pos}/{len}",
    };
    ProgressStyle::with_template(template)
        .expect("the template is one of ours")
        .progress_chars("━╸ ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use indicatif::{InMemoryTerm, TermLike as _};

    use super::*;

    #[test]
    fn the_mode_follows_from_the_terminal() {
        assert_eq!(Mode::choose(true, true, false), Mode::Quiet);
        assert_eq!(Mode::choose(true, false, false), Mode::Quiet);
        assert_eq!(Mode::choose(false, true, false), Mode::Bar { colour: true });
        assert_eq!(Mode::choose(false, true, true), Mode::Bar { colour: false });
        assert_eq!(Mode::choose(false, false, false), Mode::Lines);
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_gets_a_line_per_phase() {
        let out = Shared::default();
        let progress = Progress::lines(out.clone());
        progress.phase("launching \x1b[2Ja bottle");
        progress.phase("attempts");
        for done in 0..=187 {
            progress.attempts(done, 187);
        }
        progress.phase("tearing down");
        progress.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        insta::assert_snapshot!(text, @r#"
        launching \u{1b}[2Ja bottle
        attempts
        attempts: 187/187
        tearing down
        "#);
    }

    /// A bar on a terminal of 60 columns.
    fn on_terminal() -> (Progress, InMemoryTerm) {
        let terminal = InMemoryTerm::new(10, 60);
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        (Progress::bar(target, false), terminal)
    }

    #[test]
    fn a_terminal_gets_one_line_that_changes() {
        let (progress, terminal) = on_terminal();
        progress.phase("launching a bottle");
        let line = terminal.contents();
        assert!(line.ends_with(" launching a bottle") && line.lines().count() == 1, "{line}");

        progress.phase("attempts");
        progress.attempts(187, 187);
        let line = terminal.contents();
        assert!(line.contains(" attempts ━") && line.lines().count() == 1, "{line}");
        progress.finish();
        assert_eq!(terminal.contents(), "");
    }

    #[test]
    fn dropped_half_way_it_leaves_nothing() {
        let (progress, terminal) = on_terminal();
        progress.phase("attempts");
        progress.attempts(3, 187);
        assert_ne!(terminal.contents(), "");
        drop(progress);
        assert_eq!(terminal.contents(), "");
    }

    #[test]
    fn what_a_panic_says_starts_on_a_line_of_its_own() {
        let (progress, terminal) = on_terminal();
        progress.phase("attempts");
        progress.attempts(3, 187);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _progress = progress;
            std::panic::resume_unwind(Box::new("half-way"));
        }));
        assert!(panicked.is_err());
        terminal.write_str("panicked").unwrap();
        assert_eq!(terminal.contents().lines().last(), Some("panicked"));
    }
}
