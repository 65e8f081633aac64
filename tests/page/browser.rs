//! The page as it is shown.
use std::path::Path;
use std::process::Command;

use claude_bottle::backend;
use claude_bottle::host::Host;
use claude_bottle::report::html;
use claude_bottle::report::json::Report;
use claude_bottle::report::text::Untrusted;
use libtest_mimic::Trial;

use crate::trials::{skip, trials};

const HOSTILE: &str = "</title></style></svg>]]><script>console.log('owned')</script>\
    \"'><img src=x onerror=console.log('owned')><svg onload=console.log('owned')>\u{1b}[31m\u{202e}";

/// What the browser made of a page.
struct Shown {
    dom: String,
    console: Vec<String>,
}

/// Opens a page in Chromium, in a net namespace without so much as a loopback that is up.
fn browse(page: &Path, arguments: &[&str]) -> Shown {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("timeout")
        .args(["-k", "5", "90", "unshare", "--user", "--map-root-user", "--net", "chromium"])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--enable-logging=stderr"])
        .args(["--hide-scrollbars", "--virtual-time-budget=2000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .env("HOME", profile.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    // The browser's own pages complain too, of having no network.
    let is_ours = |line: &&str| line.contains("CONSOLE") && line.contains("source: file://");
    let console = said.lines().filter(is_ours).map(str::to_owned).collect();
    Shown { dom: String::from_utf8_lossy(&output.stdout).into_owned(), console }
}

/// The report of a real bottle with a hole, in a folder of its own. Ends the test as ignored where that cannot be had.
pub(crate) fn leaking() -> (tempfile::TempDir, Report) {
    let works = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let lacking = backend::lacking(&Host::detect(), "namespace")
        .or_else(|| (!works("chromium", &["--version"])).then(|| "no chromium here".to_owned()))
        .or_else(|| {
            let can = works("unshare", &["--user", "--map-root-user", "--net", "true"]);
            (!can).then(|| "cannot unshare the network".to_owned())
        });
    if let Some(why) = lacking {
        skip(why);
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_claude-bottle"))
        .args(["probe", "-q", "--breach", "link-to-host", "--json", "a.json", "--html", "a.html"])
        .current_dir(folder.path())
        .env_remove("GITHUB_STEP_SUMMARY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = Report::read(&std::fs::read(folder.path().join("a.json")).unwrap()).unwrap();
    (folder, report)
}

fn a_real_page_shows_in_both_schemes_and_nothing_complains() {
    let (folder, report) = leaking();
    let page = folder.path().join("a.html");
    let pictures = [("light", 1), ("dark", 0)].map(|(scheme, setting)| {
        let picture = folder.path().join(format!("{scheme}.png"));
        let shot = format!("--screenshot={}", picture.display());
        let preferred = format!("--blink-settings=preferredColorScheme={setting}");
        let shown = browse(&page, &[&shot, &preferred, "--window-size=1280,1600"]);
        assert_eq!(shown.console, Vec::<String>::new());
        std::fs::read(&picture).unwrap()
    });
    assert_ne!(pictures[0], pictures[1]);

    // What was to leak has leaked, and the page does not call that a leak.
    let text = std::fs::read_to_string(&page).unwrap();
    let title = text.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0;
    assert!(title.contains("noticed as declared") && !title.contains("leaked"), "{title}");

    // Whatever can be clicked leads somewhere, each leak from its arrow to its row.
    let dom = browse(&page, &[]).dom;
    let targets: Vec<_> =
        dom.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let leaks = report.tally.leaked.min(8);
    assert!(leaks > 0);
    assert_eq!(targets.len(), leaks);
    for target in targets {
        assert!(dom.contains(&format!("id=\"{target}\"")), "{target}");
    }
}

fn nothing_that_a_guest_says_becomes_markup() {
    let (folder, mut report) = leaking();
    let page = folder.path().join("b.html");
    for run in &mut report.runs {
        run.notes = vec![HOSTILE.to_owned()];
        run.made_of.insert(HOSTILE.to_owned(), HOSTILE.to_owned());
        for place in &mut run.wiring.places {
            place.addresses.push(HOSTILE.to_owned());
        }
        for outcome in run.probes.iter_mut().map(|probe| &mut probe.outcome) {
            HOSTILE.clone_into(&mut outcome.why);
            HOSTILE.clone_into(&mut outcome.title);
            for attempt in &mut outcome.attempts {
                HOSTILE.clone_into(&mut attempt.what);
                if let Some(said) = &mut attempt.said {
                    said.detail = Some(Untrusted::new(HOSTILE));
                }
            }
        }
    }
    let text = html::render(&report, None);
    std::fs::write(&page, &text).unwrap();
    let shown = browse(&page, &[]);
    assert_eq!(shown.console, Vec::<String>::new());
    assert!(!shown.dom.contains("<script") && !shown.dom.contains("<img"));
    assert!(shown.dom.contains("&lt;script&gt;"));
    assert!(!shown.dom.contains(['\u{202e}', '\u{1b}']));

    // The same without escaping, and without the policy: the browser would have told.
    let naked =
        text.replace("&lt;", "<").replace("&gt;", ">").replace("Content-Security-Policy", "x");
    std::fs::write(&page, naked).unwrap();
    let owned = browse(&page, &[]).console;
    assert!(owned.iter().any(|line| line.contains("owned")), "{owned:?}");
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        a_real_page_shows_in_both_schemes_and_nothing_complains,
        nothing_that_a_guest_says_becomes_markup
    ]
}
