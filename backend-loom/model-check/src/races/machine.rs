//! Looking for races on machines: the command behind `just qemu`, one broken world at a time.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use weft_scenarios::sabotage::{Sabotage, Side};
use weft_scenarios::scenario::Grade;
use weft_shell::interruption;

use crate::checkers;

use super::found::{Column, Finding, Found};
use super::rows::{How, Race};

/// How often a scenario is repeated in its broken world, until it fails.
const REPEAT: u64 = 5_000;

/// What a frame that is used after it was freed shows there: its poison, as contents or as an
/// entry.
const POISON: [&str; 2] = ["use after free", "corrupt entry"];

/// Boots the broken world of every race at these positions that a machine can carry out.
///
/// # Errors
///
/// One sentence, if a machine cannot be booted.
pub(crate) fn run(
    root: &Path,
    races: &[Race],
    findings: &mut [Finding],
    selected: &[usize],
) -> Result<(), String> {
    for &index in selected {
        let race = &races[index];
        let How::World(sabotage, message) = race.how else { continue };
        let found = if sabotage.is_for(Side::Machine) {
            weft_shell::complain(&format!("boots {} with {sabotage}", race.scenario));
            boot(root, race.scenario, sabotage, message)?
        } else {
            Found::Cannot
        };
        if interruption::is_here() {
            return Ok(());
        }
        findings[index].found.insert(Column::Machine, found);
    }
    Ok(())
}

/// Boots one broken world.
fn boot(root: &Path, name: &str, sabotage: Sabotage, message: &str) -> Result<Found, String> {
    let mut command = Command::new("cargo");
    command.args(["run", "--quiet", "--package", "weft-qemu-runner", "--", name]);
    command.args(["--sabotage", &sabotage.to_string(), "--repeat", &REPEAT.to_string()]);
    command.args(["--no-models", "--format", "json"]);
    let output = command.current_dir(root).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot start cargo: {error}"))?;
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("it says nothing");
        format!("no machine for {name} with {sabotage}: {last}")
    })?;
    Ok(judge(&answer["rows"][0]["failure"], &messages(name, message)))
}

/// The messages that count: the race's own, and what the machine says of the same. It knows no
/// unordered accesses: a translation that was taken away leads to a forbidden outcome, or to
/// poison.
fn messages(name: &str, message: &str) -> Vec<String> {
    let plan = checkers::prepare(name).expect("a collected scenario exists").plan;
    let forbidden = plan.outcomes.iter().filter(|outcome| outcome.grade == Grade::Forbidden);
    let own = POISON.into_iter().chain([message]).map(str::to_owned);
    own.chain(forbidden.map(|outcome| outcome.reason.to_owned())).collect()
}

/// What a failure of the machine, or that there is none, means.
fn judge(failure: &Value, messages: &[String]) -> Found {
    let said = failure["message"].as_str().unwrap_or_default();
    let is_deadlock = messages.iter().any(|message| message.starts_with("deadlock"));
    match failure["kind"].as_str() {
        None => Found::NotIn(REPEAT),
        Some("violation") if messages.iter().any(|part| said.contains(part.as_str())) => {
            Found::Within(REPEAT)
        }
        Some("hang") if is_deadlock => Found::Within(REPEAT),
        Some(_) => Found::Otherwise(REPEAT),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_machine_finds_a_race_with_its_own_messages() {
        let messages = messages("copy_vs_writes", "data race on");
        for (failure, found) in [
            (json!(null), Found::NotIn(REPEAT)),
            (
                json!({ "kind": "violation", "message": "a page is written after it was copied" }),
                Found::Within(REPEAT),
            ),
            (json!({ "kind": "violation", "message": "a leak" }), Found::Otherwise(REPEAT)),
            (json!({ "kind": "hang", "message": "processors wait" }), Found::Otherwise(REPEAT)),
        ] {
            assert_eq!(judge(&failure, &messages), found, "{failure}");
        }
        let deadlock = ["deadlock: CPU 0".to_owned()];
        assert_eq!(judge(&json!({ "kind": "hang" }), &deadlock), Found::Within(REPEAT));
    }
}
