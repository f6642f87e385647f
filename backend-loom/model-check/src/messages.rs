//! The table of what detectors say: which messages there are, and what is caught with each.

use std::fmt::Write as _;

use weft_scenarios::detector::{ALL, By, Detector};

use crate::checkers::{self, NAMES};
use crate::mutants::catalogue::{Catalogue, Claim, Mutant};

/// The table, for a document.
pub(crate) fn table(catalogue: &Catalogue) -> String {
    let mut text = "| the message contains | by | it means | caught with it |\n\
                    |---|---|---|---|\n"
        .to_owned();
    for detector in ALL {
        let Detector { says, by, means } = detector;
        let by = match by {
            By::Models => "models",
            By::Machine => "machine",
            By::Both => "both",
        };
        let says = says.trim_end();
        writeln!(text, "| `{says}` | {by} | {means} | {} |", evidence(detector, catalogue))
            .expect("memory");
    }
    text
}

/// What is expected with a message: a scenario's twin or mistake, and a mutant on file. What has
/// neither is seen in a test.
fn evidence(detector: &Detector, catalogue: &Catalogue) -> String {
    // A twin may name less than all of the beginning.
    let says = detector.says.trim_end_matches([' ', ':']);
    let in_twin = |name: &&&str| {
        let plan = checkers::prepare(name).expect("a collected scenario exists").plan;
        plan.twins.iter().any(|(_, message)| message.contains(says))
    };
    let in_mutant = |mutant: &&Mutant| match &mutant.claim {
        Claim::Killed(checks) => checks.values().any(|message| message.contains(says)),
        Claim::Survives(_) | Claim::Equivalent(_) => false,
    };
    let twin = NAMES.iter().find(in_twin).map(|name| format!("a twin of `{name}`"));
    let mutant = catalogue.mutants.iter().find(in_mutant);
    let mutant = mutant.map(|mutant| format!("the mutant `{}`", mutant.name));
    let found: Vec<String> = twin.into_iter().chain(mutant).collect();
    if found.is_empty() { IN_TESTS.to_owned() } else { found.join(", ") }
}

/// What stands in the table where no scenario and no mutant is caught with a message.
const IN_TESTS: &str = "tests only";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proc_macro2::{Delimiter, TokenStream, TokenTree};

    use super::*;
    use crate::scratch::Workspace;

    /// Where conditions are checked that a race may break. What else panics is about the checkers
    /// themselves, or refuses a caller.
    const DETECTORS: [&str; 17] = [
        "backend-baremetal/kernel/src/machine/trap.rs",
        "backend-baremetal/kernel/src/services/frames.rs",
        "backend-baremetal/kernel/src/services/metal.rs",
        "backend-baremetal/kernel/src/services/shootdown.rs",
        "backend-baremetal/kernel/src/tests/harness.rs",
        "backend-loom/src/clocks.rs",
        "backend-loom/src/counterexample.rs",
        "backend-loom/src/ghost.rs",
        "backend-loom/src/harness.rs",
        "backend-loom/src/memory.rs",
        "backend-loom/src/mmu.rs",
        "backend-loom/src/model.rs",
        "backend-loom/src/schedule.rs",
        "backend-loom/src/waiting.rs",
        "backend-loom/src/words.rs",
        "scenarios/src/linearize.rs",
        "scenarios/src/metal.rs",
    ];

    /// What these files say besides: of the harness, its limits, and what it is asked for.
    const OF_THE_HARNESS: [&str; 14] = [
        "was given out, or given back, twice",
        "two senders with interrupts off wait for good",
        "{}",
        "{defect}: N{}",
        "a race has at most",
        "a kernel stack overflowed",
        "trap {number} error",
        "two processors play one CPU",
        "users live in the lower half",
        "there is no scenario called",
        "processors",
        "the kernel runs on its only table",
        "a deadlock is found before the last CPU waits",
        "it has ended",
    ];

    fn workspace() -> (Workspace, Catalogue) {
        let workspace = Workspace::read().expect("tests run in the workspace");
        let catalogue = Catalogue::read(&workspace).expect("every file is well formed");
        (workspace, catalogue)
    }

    /// What follows `panic!` and the conditions of asserts: the first text among the arguments.
    fn said(tokens: TokenStream, all: &mut Vec<String>) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let TokenTree::Group(group) = token else { continue };
            let before: Vec<String> =
                tokens[index.saturating_sub(2)..index].iter().map(ToString::to_string).collect();
            let is_test = before.first().is_some_and(|word| word == "mod")
                && before.last().is_some_and(|name| name == "tests");
            let is_check = before.last().is_some_and(|mark| mark == "!")
                && before.first().is_some_and(|name| name == "panic" || name.contains("assert"));
            if is_check && group.delimiter() == Delimiter::Parenthesis {
                let texts = group.stream().into_iter().filter_map(|token| match token {
                    TokenTree::Literal(text) => Some(text.to_string()),
                    _ => None,
                });
                all.extend(texts.filter(|text| text.starts_with('"')));
            }
            if !is_test {
                said(group.stream(), all);
            }
        }
    }

    #[test]
    fn detectors_say_what_is_listed() {
        let (workspace, _) = workspace();
        let mut found = 0;
        let mut unknown = Vec::new();
        for file in DETECTORS {
            let text = workspace.text(Path::new(file)).expect("the detector exists");
            let mut all = Vec::new();
            said(text.parse().expect("it is Rust"), &mut all);
            for text in all {
                let listed = listed_names().any(|name| text.contains(&format!("{{{name}}}")));
                let ours = OF_THE_HARNESS.iter().any(|part| text.trim_matches('"').contains(part));
                found += usize::from(listed);
                if !listed && !ours {
                    unknown.push(format!("{file}: {text}"));
                }
            }
        }
        assert!(unknown.is_empty(), "list these in scenarios/src/detector.rs:\n{unknown:#?}");
        assert!(found > 15, "only {found} messages are found");
    }

    /// The names of the constants, in the list's own text.
    fn listed_names() -> impl Iterator<Item = &'static str> {
        let text = include_str!("../../../scenarios/src/detector.rs");
        let (_, list) = text.split_once("\ndetectors! {").expect("the list is there");
        list.lines()
            .filter_map(|line| line.strip_prefix("    ")?.split_once(" = \""))
            .map(|(name, _)| name)
    }

    #[test]
    fn what_is_listed_is_said_once() {
        let (workspace, _) = workspace();
        assert_eq!(listed_names().count(), ALL.len());
        for (name, Detector { says, .. }) in listed_names().zip(ALL) {
            let is_said = |below: &str, text: &str| {
                workspace.files().any(|file| {
                    let name = file.to_string_lossy();
                    let is_source = name.starts_with(below) && name.ends_with(".rs");
                    let is_list = name == "scenarios/src/detector.rs";
                    is_source && !is_list && workspace.text(file).is_ok_and(|it| it.contains(text))
                })
            };
            let by_name = is_said("", &format!("{{{name}}}"));
            let by_core = is_said("core/src/", &format!("\"{says}"));
            assert!(by_name || by_core, "no detector says {name}: remove it from the list");
        }
    }

    /// A detector that cannot fire is a defect.
    #[test]
    fn what_is_listed_is_seen() {
        let (workspace, catalogue) = workspace();
        for detector in ALL {
            if evidence(detector, &catalogue) != IN_TESTS {
                continue;
            }
            let says = detector.says.trim_end_matches([' ', ':']);
            let is_test = |file: &&Path| {
                let name = file.to_string_lossy();
                name.ends_with(".rs") && name != "scenarios/src/detector.rs"
            };
            let expected = |file: &Path| {
                workspace.text(file).is_ok_and(|text| {
                    let spelled = text.match_indices(says).map(|(at, _)| &text[..at]);
                    let in_tests = file.to_string_lossy().contains("/tests/");
                    spelled.into_iter().any(|before| in_tests || before.contains("#[test]"))
                })
            };
            let is_seen = workspace.files().filter(is_test).any(expected);
            assert!(is_seen, "no twin, mutant or test is caught with \"{says}\"");
        }
    }

    /// Every message that a scenario expects is listed, or stands in its own file.
    #[test]
    fn twins_expect_what_is_said() {
        let (workspace, _) = workspace();
        for name in NAMES {
            let plan = checkers::prepare(name).expect("a collected scenario exists").plan;
            let path = format!("scenarios/tests/{name}.rs");
            let text = workspace.text(Path::new(&path)).expect("the file is there");
            for (sabotage, message) in &plan.twins {
                let listed = ALL.iter().any(|one| {
                    let says = one.says.trim_end_matches([' ', ':']);
                    message.contains(says) || says.contains(message)
                });
                let is_own = plan.outcomes.iter().any(|one| one.reason.contains(message))
                    || text.matches(*message).count() > 1;
                assert!(listed || is_own, "{name}: {sabotage} expects \"{message}\", said nowhere");
            }
        }
    }
}
