//! The control connection to QEMU, in its machine protocol (QMP).
//!
//! One JSON object a line. QEMU greets, wants to hear `qmp_capabilities`, and from then on answers
//! commands one at a time; in between it reports events, which are passed over here. The connection
//! is opened by the first command, since most runs need none.

use std::io::{BufRead as _, BufReader, Error, Result, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

/// How long QEMU may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Our end of the connection.
#[derive(Debug)]
pub(crate) struct Control {
    answers: BufReader<UnixStream>,
    is_open: bool,
}

impl Control {
    /// The connection on our end of a pair of sockets.
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { answers: BufReader::new(socket), is_open: false }
    }

    /// Interrupts every processor in a way that cannot be masked.
    pub(crate) fn interrupt_all(&mut self) -> Result<()> {
        self.command(&json!({ "execute": "inject-nmi" })).map(drop)
    }

    /// What QEMU's monitor for people prints for a command, looking at the first processor.
    pub(crate) fn monitor(&mut self, command: &str) -> Result<String> {
        let answer = self.command(&json!({
            "execute": "human-monitor-command",
            "arguments": { "command-line": command, "cpu-index": 0 },
        }))?;
        let text = answer.as_str().ok_or_else(|| Error::other("the answer is no text"))?;
        Ok(text.to_owned())
    }

    fn command(&mut self, command: &Value) -> Result<Value> {
        if !self.is_open {
            self.answers.get_ref().set_read_timeout(Some(PATIENCE))?;
            self.read(|message| message.get("QMP").cloned())?;
            self.is_open = true;
            self.command(&json!({ "execute": "qmp_capabilities" }))?;
        }
        writeln!(self.answers.get_ref(), "{command}")?;
        let answer = |message: &Value| match message.get("error") {
            Some(error) => Some(Err(Error::other(error.to_string()))),
            None => message.get("return").cloned().map(Ok),
        };
        self.read(answer)?
    }

    /// The first message that `wanted` makes something of.
    fn read<T>(&mut self, wanted: impl Fn(&Value) -> Option<T>) -> Result<T> {
        loop {
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(Error::other("the connection was closed"));
            }
            if let Some(found) = wanted(&serde_json::from_str(&line)?) {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn events_between_command_and_answer_are_passed_over() {
        let (ours, theirs) = UnixStream::pair().expect("there are sockets");
        let qemu = thread::spawn(move || {
            let mut commands = BufReader::new(theirs.try_clone().expect("there are sockets"));
            let mut heard = String::new();
            writeln!(&theirs, "{}", json!({ "QMP": {} })).expect("we listen");
            for answer in [json!({}), json!("printed"), json!("again")] {
                commands.read_line(&mut heard).expect("we speak");
                writeln!(&theirs, "{}", json!({ "event": "RESUME" })).expect("we listen");
                writeln!(&theirs, "{}", json!({ "return": answer })).expect("we listen");
            }
            commands.read_line(&mut heard).expect("we speak");
            writeln!(&theirs, "{}", json!({ "error": { "desc": "no" } })).expect("we listen");
            heard
        });
        let mut control = Control::new(ours);
        assert_eq!(control.monitor("info tlb").expect("an answer"), "printed");
        assert_eq!(control.monitor("info tlb").expect("an answer"), "again");
        assert!(control.interrupt_all().is_err());
        assert!(control.interrupt_all().is_err(), "nobody is there any more");
        let heard = qemu.join().expect("it ends");
        assert_eq!(heard.matches("qmp_capabilities").count(), 1);
    }
}
