//! The runner of such tests, for whichever package they are of.
//!
//! A test is a function without arguments that panics if it fails. `trials!` lists those of one module; one that is
//! not listed is dead code, which the compiler tells.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Trial};

/// What a test unwinds with that cannot run here.
struct Lacking(String);

/// Ends the test that this is called from as ignored.
#[allow(dead_code, reason = "not every suite has such tests")]
pub(crate) fn skip(why: impl Display) -> ! {
    resume_unwind(Box::new(Lacking(why.to_string())))
}

/// The tests that are named, as trials; their names begin with that of the module, as with libtest.
macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$($crate::trials::trial(concat!(module_path!(), "::", stringify!($test)), $test)),*]
    };
}
pub(crate) use trials;

/// One test. `path` is its path in the crate of tests.
pub(crate) fn trial(path: &str, test: fn()) -> Trial {
    let name = path.split_once("::").map_or(path, |(_suite, name)| name);
    Trial::ignorable_test(name, move || match catch_unwind(AssertUnwindSafe(test)) {
        Ok(()) => Ok(Completion::Completed),
        Err(thrown) => match thrown.downcast::<Lacking>() {
            Ok(lacking) => Ok(Completion::ignored_with(lacking.0)),
            // The runner tells of a panic.
            Err(failed) => resume_unwind(failed),
        },
    })
}

/// The same trials, each ignored where this is not Linux.
#[allow(dead_code, reason = "not every suite needs Linux")]
pub(crate) fn on_linux<const N: usize>(modules: [Vec<Trial>; N]) -> [Vec<Trial>; N] {
    if cfg!(target_os = "linux") {
        return modules;
    }
    let ignored = |trial: Trial| {
        let why = format!("needs linux (this is {})", std::env::consts::OS);
        let name = trial.name().to_owned();
        Trial::ignorable_test(name, move || Ok(Completion::ignored_with(why)))
    };
    modules.map(|trials| trials.into_iter().map(ignored).collect())
}

/// Runs the trials of all modules that the command line selects.
pub(crate) fn run(modules: impl IntoIterator<Item = Vec<Trial>>) -> ExitCode {
    let trials = modules.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
