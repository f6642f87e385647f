//! Chromium without a window, told what to do over a pair of pipes: the protocol of its developer
//! tools, messages of JSON that end with a zero byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    profile: PathBuf,
    session: String,
    sent: u64,
    /// Errors of scripts, and what was asked of a network.
    pub(crate) complaints: Vec<String>,
}

impl Browser {
    /// A browser, if one is installed; otherwise says which check is not made.
    pub(crate) fn open(check: &str) -> Option<Self> {
        const NAME: &str = "chromium";
        if let Err(error) = Command::new(NAME).arg("--version").output() {
            println!("NOT CHECKED: {check}: {NAME} is missing ({error}), install it");
            return None;
        }
        let profile = format!("chromium-{}-{}", std::process::id(), check.replace(' ', "-"));
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(profile);
        // It listens to file 3 and answers on file 4.
        let script = format!(
            "exec {NAME} --headless --no-sandbox --disable-gpu --hide-scrollbars \
             --remote-debugging-pipe --user-data-dir=\"$1\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"
        );
        let mut process = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(&profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let commands = process.stdin.take().expect("it is a pipe");
        let answers = BufReader::new(process.stdout.take().expect("it is a pipe"));
        let (session, complaints) = (String::new(), Vec::new());
        let mut browser =
            Self { process, commands, answers, profile, session, sent: 0, complaints };
        let target = browser.ask("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.ask("Target.attachToTarget", &attach);
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        browser.resize(1280, 800);
        Some(browser)
    }

    /// Sends a command, and gives back its result.
    pub(crate) fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.sent += 1;
        let id = self.sent;
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let sent = self.commands.write_all(format!("{command}\0").as_bytes());
        sent.expect("the browser listens");
        loop {
            let message = self.hear();
            if message["id"] == id {
                assert_eq!(message["error"], Value::Null, "{method} {parameters}");
                return message["result"].clone();
            }
        }
    }

    /// The next message. What is an error is kept.
    fn hear(&mut self) -> Value {
        let mut bytes = Vec::new();
        let count = self.answers.read_until(0, &mut bytes).expect("the browser answers");
        assert!(count > 0, "the browser has ended");
        bytes.pop();
        let message: Value = serde_json::from_slice(&bytes).expect("messages are JSON");
        let of = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(of["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") if of["entry"]["level"] == "error" => {
                self.complaints.push(of["entry"].to_string());
            }
            Some("Network.requestWillBeSent") => {
                let url = of["request"]["url"].as_str().unwrap_or_default();
                if !url.starts_with("file://") && !url.starts_with("data:") {
                    self.complaints.push(format!("asks for {url}"));
                }
            }
            _ => {}
        }
        message
    }

    /// Shows a page, and waits until it is there.
    pub(crate) fn show(&mut self, page: &Path) {
        self.ask("Page.navigate", &json!({ "url": format!("file://{}", page.display()) }));
        while self.hear()["method"] != "Page.loadEventFired" {}
    }

    /// Gives the window another size.
    pub(crate) fn resize(&mut self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Shows what is shown as on another medium, or with other colours.
    pub(crate) fn emulate(&mut self, medium: &str, colours: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": colours });
        let media = json!({ "media": medium, "features": [feature] });
        self.ask("Emulation.setEmulatedMedia", &media);
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let evaluate =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", &evaluate);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].clone()
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.ask("Input.dispatchKeyEvent", &json!({ "type": kind, "key": key }));
        }
    }

    /// What the window shows, as a PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let answer = self.ask("Page.captureScreenshot", &json!({ "format": "png" }));
        let data = answer["data"].as_str().expect("a picture");
        BASE64_STANDARD.decode(data).expect("pictures are base64")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}
