//! Replay tokens: `wt1:<scenario>:<engine>:<sabotage>:<execution>`.
//!
//! A token names one execution of one scenario. The last part is the engine's own and is valid for
//! unchanged code only. Where an engine was told to use another memory model than its own choice,
//! the model follows the engine's name: `explorer@tso`.

use std::fmt;

use weft_backend_loom::engine::MemoryModel;
use weft_backend_loom::report::{Report, Request};
use weft_backend_loom::sabotage;
use weft_scenarios::sabotage::Sabotage;

use crate::arguments;
use crate::checkers::{self, Checker, NAMES};

const VERSION: &str = "wt1";
const FORM: &str = "wt1:<scenario>:<engine>:<sabotage>:<execution>";

/// One execution of one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The scenario.
    pub(crate) scenario: &'static str,
    /// The engine.
    pub(crate) checker: &'static Checker,
    /// The memory model.
    pub(crate) model: MemoryModel,
    /// How the world is broken.
    pub(crate) sabotage: Option<Sabotage>,
    /// The engine's token.
    pub(crate) execution: String,
}

impl Token {
    /// The token of a report's failure, if the engine can replay it.
    pub(crate) fn of(
        report: &Report,
        scenario: &'static str,
        checker: &'static Checker,
        model: MemoryModel,
    ) -> Option<Self> {
        let execution = report.failure.as_ref()?.token.clone()?;
        Some(Self { scenario, checker, model, sabotage: report.sabotage, execution })
    }

    /// Reads a token.
    ///
    /// # Errors
    ///
    /// One sentence that names the part that is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("malformed token {text:?}: a token has the form {FORM}");
        let parts: Vec<&str> = text.splitn(4, ':').collect();
        let [version, scenario, engine, rest] = parts[..] else { return Err(malformed()) };
        let (sabotage, execution) = divide(rest).ok_or_else(malformed)?;
        if version != VERSION {
            return Err(format!("malformed token {text:?}: it does not begin with {VERSION}:"));
        }
        let found = NAMES.iter().find(|name| **name == scenario).ok_or_else(|| {
            format!("the token names a scenario {scenario:?}, and there is none: see --list")
        })?;
        let (engine, model) = match engine.split_once('@') {
            Some((engine, model)) => (engine, model_of(text, model)?),
            None => (engine, MemoryModel::default()),
        };
        let checker = checkers::find(engine).ok_or_else(|| {
            let names = checkers::names().join(", ");
            format!("the token names an engine {engine:?}, and there are only {names}")
        })?;
        let sabotage = sabotage::decode(sabotage)
            .map_err(|error| format!("malformed token {text:?}: {error}"))?;
        if execution.is_empty() {
            return Err(format!("malformed token {text:?}: the part <execution> is empty"));
        }
        let execution = execution.to_owned();
        Ok(Self { scenario: found, checker, model, sabotage, execution })
    }

    /// What to ask of a child.
    pub(crate) fn request(&self) -> Request {
        Request {
            sabotage: self.sabotage,
            time: std::time::Duration::from_secs(60),
            memory_model: self.model,
            replay: Some(self.execution.clone()),
            ..Request::default()
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}:{}:{}", self.scenario, self.checker.name())?;
        if self.model != MemoryModel::default() {
            write!(f, "@{}", arguments::model_name(self.model))?;
        }
        write!(f, ":{}:{}", sabotage::encode(self.sabotage), self.execution)
    }
}

/// What follows the engine, as sabotage and execution. A sabotage of one line has a colon of its
/// own, before the line's number.
fn divide(rest: &str) -> Option<(&str, &str)> {
    let (first, after) = rest.split_once(':')?;
    if !first.contains('@') {
        return Some((first, after));
    }
    let (number, execution) = after.split_once(':')?;
    Some((&rest[..first.len() + 1 + number.len()], execution))
}

fn model_of(text: &str, name: &str) -> Result<MemoryModel, String> {
    arguments::memory_model(name).ok_or_else(|| {
        format!("malformed token {text:?}: there is no memory model {name:?}, only rc11, tso, sc")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back() {
        for text in [
            "wt1:lock_vs_lock:loom:-:e12",
            "wt1:lock_vs_detach:loom:LOCK_ACQUIRE:p3.e7",
            "wt1:lock_vs_detach:loom:LOCK_ACQUIRE@core/src/lock.rs:39:p3.e7",
            "wt1:lock_vs_lock:shuttle:freed-at-once:a12b3a",
            "wt1:lock_vs_lock:shuttle:forgotten-cpu-1:a:b",
            "wt1:lock_vs_lock:explorer@tso:torn-updates:e1",
        ] {
            assert_eq!(Token::parse(text).expect("well formed").to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_token_is_named() {
        for (text, part) in [
            ("", "a token has the form"),
            ("wt1:lock_vs_lock:loom:-", "a token has the form"),
            ("wt2:lock_vs_lock:loom:-:e1", "does not begin with wt1:"),
            ("wt1:nobody_vs_nobody:loom:-:e1", "a scenario \"nobody_vs_nobody\""),
            ("wt1:lock_vs_lock:genmc:-:e1", "an engine \"genmc\""),
            ("wt1:lock_vs_lock:loom:upside-down:e1", "unknown sabotage \"upside-down\""),
            ("wt1:lock_vs_lock:loom:lock-kept:e1", "use `just qemu --sabotage lock-kept`"),
            ("wt1:lock_vs_lock:loom:LOCK_ACQUIRE@lock.rs:1:e1", "is no line of the core"),
            ("wt1:lock_vs_lock:loom:LOCK_ACQUIRE@core/src/lock.rs:1", "a token has the form"),
            ("wt1:lock_vs_lock:explorer@arm:-:e1", "no memory model \"arm\""),
            ("wt1:lock_vs_lock:loom:-:", "<execution> is empty"),
        ] {
            let error = Token::parse(text).expect_err(text);
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
