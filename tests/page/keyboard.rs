//! The page by keyboard alone: everything is reached by Tab, in the order of the page, and answers to Enter.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::browser::leaking;
use crate::trials::trials;

/// Whatever a person can do something with.
const ALL: &str = "[...document.querySelectorAll('a,summary,[tabindex],button,input')]";

/// A browser that is told what to do over a pipe, in a net namespace without so much as a loopback that is up.
struct Browser {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Option<String>,
    asked: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(page: &Path) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // It reads from descriptor 3 and writes to 4.
        let script = "exec 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null; exec \"$@\"";
        let mut child = Command::new("timeout")
            .args(["-k", "5", "90", "sh", "-c", script, "sh"])
            .args(["unshare", "--user", "--map-root-user", "--net", "chromium", "--headless"])
            .args(["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut browser = Self { child, input, output, session: None, asked: 0, _profile: profile };
        let url = format!("file://{}", page.display());
        let target = browser.ask("Target.createTarget", &json!({ "url": url }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.ask("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        assert!(browser.session.is_some(), "{attached}");
        // However long it takes: the browser has so many seconds in all.
        while browser.eval("document.readyState + location.protocol") != "completefile:" {}
        browser
    }

    /// Asks, and passes over whatever the browser tells meanwhile.
    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.asked += 1;
        let mut message = json!({ "id": self.asked, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut line = Vec::new();
            self.output.read_until(0, &mut line).unwrap();
            assert_eq!(line.pop(), Some(0), "the browser ended while asked for {method}");
            let answer: Value = serde_json::from_slice(&line).unwrap();
            if answer["id"] == self.asked {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression.
    fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let answer = self.ask("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    fn press(&mut self, key: &str, code: u32) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code,
            });
            self.ask("Input.dispatchKeyEvent", &event);
        }
    }

    /// Which of the elements has the focus; -1 for none.
    fn focus(&mut self) -> i64 {
        self.eval(&format!("{ALL}.indexOf(document.activeElement)")).as_i64().unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when it is told to; should it not, `timeout` ends it.
        let close = json!({ "id": 0, "method": "Browser.close" });
        let _ = self.input.write_all(format!("{close}\0").as_bytes());
        let _ = self.child.wait();
    }
}

fn everything_is_reached_by_keyboard() {
    let (folder, report) = leaking();
    let mut browser = Browser::open(&folder.path().join("a.html"));
    // Nothing that is in sight is left out, and nothing that is hidden is stopped at.
    let shown = browser
        .eval(&format!("{ALL}.map((e, i) => e.checkVisibility() ? i : -1).filter(i => i >= 0)"));
    let shown: Vec<i64> = serde_json::from_value(shown).unwrap();
    let summaries = browser.eval("document.querySelectorAll('summary').length");
    assert_eq!(summaries, report.runs[0].probes.len());
    let reached: Vec<i64> = shown
        .iter()
        .map(|_| {
            browser.press("Tab", 9);
            browser.focus()
        })
        .collect();
    assert_eq!(reached, shown);

    // Back at the last probe, Enter opens and closes it.
    let is_open = "document.activeElement.closest('details').open";
    browser.eval(&format!("{ALL}.filter(e => e.tagName === 'SUMMARY').at(-1).focus()"));
    let before = browser.eval(is_open);
    browser.press("Enter", 13);
    assert_ne!(browser.eval(is_open), before);
    // And at an arrow it leads to the row of its probe.
    browser.eval("document.querySelector('svg a').focus()");
    browser.press("Enter", 13);
    let target = browser.eval("document.querySelector(':target')?.tagName + location.hash");
    let wanted = browser.eval("'DETAILS' + document.querySelector('svg a').getAttribute('href')");
    assert_eq!(target, wanted);
}

pub(crate) fn trials() -> Vec<Trial> {
    trials![everything_is_reached_by_keyboard]
}
