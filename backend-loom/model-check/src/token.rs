//! Replay tokens: `wt2:<state>:<scenario>:<engine>:<sabotage>:<execution>`.
//!
//! A token names one execution of one scenario. The last part is the engine's own, and may mean
//! another execution or none when the code has changed: so the token holds the [state](STATE) of
//! the code that it was made from. It often outlives changes; where it does not, it is said to
//! belong to another state. Where an engine was told to use another memory model than its own
//! choice, the model follows the engine's name: `explorer@tso`.

use std::fmt;

use weft_backend_loom::engine::MemoryModel;
use weft_backend_loom::report::{Report, Request};
use weft_backend_loom::sabotage;
use weft_scenarios::sabotage::Sabotage;
use weft_shell::select::did_you_mean;

use crate::arguments;
use crate::checkers::{self, Checker, NAMES};
use crate::record::Unfit;
use crate::state::STATE;

const VERSION: &str = "wt2";
const FORM: &str = "wt2:<state>:<scenario>:<engine>:<sabotage>:<execution>";

/// One execution of one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The state of the code that it was made from.
    pub(crate) state: String,
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
        let state = STATE.to_owned();
        Some(Self { state, scenario, checker, model, sabotage: report.sabotage, execution })
    }

    /// Reads a token.
    ///
    /// # Errors
    ///
    /// One sentence that names the part that is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, Unfit> {
        let malformed = || format!("malformed token {text:?}: a token has the form {FORM}");
        let (version, rest) = text.split_once(':').ok_or_else(malformed)?;
        let number = version.strip_prefix("wt").filter(|it| it.parse::<u32>().is_ok());
        if version != VERSION && number.is_some() {
            return Err(Unfit::AnotherState(format!(
                "the token begins with {version}:, and this command reads {VERSION}: tokens: use \
                 the command that wrote it, or explore again"
            )));
        }
        let parts: Vec<&str> = rest.splitn(4, ':').collect();
        let [state, scenario, engine, rest] = parts[..] else {
            return Err(Unfit::Broken(malformed()));
        };
        let is_state = state.len() == 8 && state.chars().all(|digit| digit.is_ascii_hexdigit());
        if version != VERSION || !is_state {
            return Err(Unfit::Broken(malformed()));
        }
        let token = Self::named(text, state, scenario, engine, rest);
        token.map_err(|sentence| match state == STATE {
            true => Unfit::Broken(sentence),
            // What it names may be there in that state.
            false => Unfit::AnotherState(foreign(state, &sentence)),
        })
    }

    fn named(
        text: &str,
        state: &str,
        scenario: &str,
        engine: &str,
        rest: &str,
    ) -> Result<Self, String> {
        let (sabotage, execution) = divide(rest)
            .ok_or_else(|| format!("malformed token {text:?}: a token has the form {FORM}"))?;
        let scenario = NAMES.iter().find(|name| **name == scenario).ok_or_else(|| {
            let similar = did_you_mean(scenario, NAMES);
            format!(
                "the token names a scenario {scenario:?}, and there is none{similar}: see --list"
            )
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
        let (state, execution) = (state.to_owned(), execution.to_owned());
        Ok(Self { state, scenario, checker, model, sabotage, execution })
    }

    /// What to say where it leads nowhere, if it was made from other code: what to do instead.
    pub(crate) fn of_another_state(&self) -> Option<String> {
        let Self { state, scenario, checker, sabotage, .. } = self;
        let engine = checker.name();
        let broken = sabotage.map(|it| format!(" --sabotage {it}")).unwrap_or_default();
        let again = format!("just model-check {scenario} --engine {engine}{broken}");
        (state != STATE).then(|| foreign(state, &format!("explore again by `{again}`")))
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
        write!(f, "{VERSION}:{}:{}:{}", self.state, self.scenario, self.checker.name())?;
        if self.model != MemoryModel::default() {
            write!(f, "@{}", arguments::model_name(self.model))?;
        }
        write!(f, ":{}:{}", sabotage::encode(self.sabotage), self.execution)
    }
}

fn foreign(state: &str, more: &str) -> String {
    format!("the token belongs to another state of the code ({state}, this is {STATE}): {more}")
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
            "wt2:00c0ffee:lock_vs_lock:loom:-:e12",
            "wt2:00c0ffee:lock_vs_detach:loom:LOCK_ACQUIRE:p3.e7",
            "wt2:00c0ffee:lock_vs_detach:loom:LOCK_ACQUIRE@core/src/lock.rs:39:p3.e7",
            "wt2:00c0ffee:lock_vs_lock:shuttle:freed-at-once:a12b3a",
            "wt2:00c0ffee:lock_vs_lock:shuttle:forgotten-cpu-1:a:b",
            "wt2:00c0ffee:lock_vs_lock:explorer@tso:torn-updates:e1",
        ] {
            assert_eq!(Token::parse(text).expect("well formed").to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_a_token_is_named() {
        for (rest, part) in [
            ("lock_vs_lock:loom:-", "a token has the form"),
            ("nobody_vs_nobody:loom:-:e1", "a scenario \"nobody_vs_nobody\""),
            ("walk_vs_mop:loom:-:e1", "(a similar one is walk_vs_map)"),
            ("lock_vs_lock:genmc:-:e1", "an engine \"genmc\""),
            ("lock_vs_lock:loom:upside-down:e1", "unknown sabotage \"upside-down\""),
            ("lock_vs_lock:loom:lock-kept:e1", "use `just qemu --sabotage lock-kept`"),
            ("lock_vs_lock:loom:LOCK_ACQUIRE@lock.rs:1:e1", "is no line of the core"),
            ("lock_vs_lock:loom:LOCK_ACQUIRE@core/src/lock.rs:1", "a token has the form"),
            ("lock_vs_lock:explorer@arm:-:e1", "no memory model \"arm\""),
            ("lock_vs_lock:loom:-:", "<execution> is empty"),
        ] {
            let text = format!("wt2:{STATE}:{rest}");
            let Err(Unfit::Broken(error)) = Token::parse(&text) else { panic!("{text}") };
            assert!(error.contains(part), "{text:?}: {error}");
        }
        for text in ["", "what", "wt2", "wt2:lock_vs_lock:loom:-:e1", "xy2:00c0ffee:a_vs_b:l:-:e"] {
            let Err(Unfit::Broken(error)) = Token::parse(text) else { panic!("{text}") };
            assert!(error.contains("a token has the form wt2:"), "{text:?}: {error}");
        }
    }

    #[test]
    fn tokens_of_other_code_are_told_apart_from_bad_ones() {
        for (text, part) in [
            ("wt1:lock_vs_lock:loom:-:e1", "begins with wt1:, and this command reads wt2:"),
            (
                "wt2:00c0ffee:gone_vs_gone:loom:-:e1",
                "another state of the code (00c0ffee, this is ",
            ),
        ] {
            let Err(Unfit::AnotherState(error)) = Token::parse(text) else { panic!("{text}") };
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
