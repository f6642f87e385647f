//! What there is to run: the kernel says, and filters select.

use weft_qemu_runner::machine::{Ending, Run};
use weft_qemu_runner::protocol::Line;
use weft_shell::select;

/// Self-tests whose names begin so are to pass.
const GOOD: &str = "good-";

/// Something to run.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The name of the scenario's file, or of the self-test.
    pub(crate) name: String,
    /// What it is about.
    pub(crate) title: String,
    /// How many processors it needs.
    pub(crate) roles: u64,
    /// Whether it is a test of the kernel itself.
    pub(crate) self_test: bool,
    /// The broken worlds that it must notice.
    pub(crate) twins: Vec<KnownTwin>,
    /// The mistakes of callers that it can be run with, as sabotages.
    pub(crate) mistakes: Vec<String>,
}

/// A broken world.
#[derive(Clone, Debug)]
pub(crate) struct KnownTwin {
    /// How the world is broken.
    pub(crate) sabotage: String,
    /// Parts of messages, one of which it must be noticed with.
    pub(crate) messages: Vec<String>,
}

/// What the kernel says there is, asked for a list.
///
/// # Errors
///
/// One sentence, if the answer is not complete.
pub(crate) fn of(run: Run) -> Result<Vec<Known>, String> {
    let complete =
        run.ending == Ending::Good && matches!(run.lines.last(), Some(Line::Done { .. }));
    if !complete {
        return Err(format!(
            "the kernel does not list its scenarios, {}: {}",
            run.ending,
            run.last_words()
        ));
    }
    let mut all: Vec<Known> = Vec::new();
    for line in run.lines {
        match line {
            Line::Scenario { name, title, roles } => {
                let (twins, mistakes) = (Vec::new(), Vec::new());
                all.push(Known { name, title, roles, self_test: false, twins, mistakes });
            }
            Line::SelfTest { name } => {
                let title = "the kernel itself".to_owned();
                let (twins, mistakes) = (Vec::new(), Vec::new());
                all.push(Known { name, title, roles: 1, self_test: true, twins, mistakes });
            }
            Line::Mistake { name, sabotage } => of_name(&mut all, &name)?.mistakes.push(sabotage),
            Line::Twin { name, sabotage, messages } => {
                let known = of_name(&mut all, &name)?;
                let messages = messages.split('|').map(str::to_owned).collect();
                known.twins.push(KnownTwin { sabotage, messages });
            }
            _ => {}
        }
    }
    Ok(all)
}

fn of_name<'a>(all: &'a mut [Known], name: &str) -> Result<&'a mut Known, String> {
    let known = all.iter_mut().find(|known| known.name == name);
    known.ok_or_else(|| format!("the kernel lists a twin of {name} before {name}"))
}

/// What `filters` select and `skip` does not. Tests that go wrong on purpose have to be named.
///
/// # Errors
///
/// One sentence, for a filter that hits nothing, and if nothing is left.
pub(crate) fn select(
    known: &[Known],
    filters: &[String],
    skip: &[String],
) -> Result<Vec<Known>, String> {
    let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
    let by_name = |name: &str| {
        known.iter().any(|it| it.name == name && it.self_test && !name.starts_with(GOOD))
    };
    let selected = select::select("scenario", "--list", &names, (filters, skip), by_name)?;
    let pairs = known.iter().zip(selected);
    Ok(pairs.filter(|(_, selected)| *selected).map(|(known, _)| known.clone()).collect())
}

/// Those that can be run with a mistake of a caller.
///
/// # Errors
///
/// One sentence, if none of them can.
pub(crate) fn with_mistake(selected: &[Known], mistake: &str) -> Result<Vec<Known>, String> {
    let has = |known: &&Known| known.mistakes.iter().any(|known| known == mistake);
    let able: Vec<Known> = selected.iter().filter(has).cloned().collect();
    if able.is_empty() {
        let all: Vec<&str> =
            selected.iter().flat_map(|known| &known.mistakes).map(String::as_str).collect();
        let similar = select::did_you_mean(mistake, &all);
        return Err(format!("no selected scenario has {mistake:?}{similar}; --list shows them"));
    }
    Ok(able)
}

/// The list for people.
pub(crate) fn text(known: &[Known]) -> String {
    let line = |known: &Known| {
        let Known { name, title, roles, self_test, twins, mistakes } = known;
        let roles = if *self_test { String::new() } else { format!(", {roles} CPUs") };
        let twins = twins.iter().map(|twin| &twin.sabotage).chain(mistakes);
        let twins: String = twins.map(|twin| format!(", not {twin}")).collect();
        format!("{name:<24} {title}{roles}{twins}\n")
    };
    known.iter().map(line).collect()
}

/// The list for programs.
pub(crate) fn json(known: &[Known]) -> serde_json::Value {
    let names = known.iter().map(|known| {
        serde_json::json!({
            "name": known.name,
            "title": known.title,
            "roles": known.roles,
            "self_test": known.self_test,
            "twins": known.twins.iter().map(|twin| &twin.sabotage).collect::<Vec<_>>(),
            "mistakes": known.mistakes,
        })
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, mistakes: &[&str]) -> Known {
        Known {
            name: name.to_owned(),
            title: String::new(),
            roles: 2,
            self_test: false,
            twins: Vec::new(),
            mistakes: mistakes.iter().map(|mistake| (*mistake).to_owned()).collect(),
        }
    }

    #[test]
    fn a_mistake_selects_the_scenarios_that_have_it() {
        let all = [known("a_vs_b", &["mistake-frees-first"]), known("c_vs_d", &[])];
        let able = with_mistake(&all, "mistake-frees-first").expect("one has it");
        assert_eq!(able.iter().map(|known| &known.name).collect::<Vec<_>>(), ["a_vs_b"]);
        let refused = with_mistake(&all, "mistake-free-first").expect_err("none has it");
        assert!(refused.contains("(a similar one is mistake-frees-first)"), "{refused}");
    }
}
