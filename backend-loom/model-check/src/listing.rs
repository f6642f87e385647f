//! `--list`: what every scenario says about itself, without running anything.

use std::fmt::Write as _;

use serde_json::{Value, json};
use weft_backend_loom::harness::Plan;
use weft_scenarios::scenario::Grade;
use weft_shell::text::plural;

use crate::checkers::{Bug, FILES, File, NAMES, TITLES};

/// The title in the header of a scenario's file, and what else the file says about itself.
fn file(plan: &Plan) -> (&'static str, &'static File) {
    let index = NAMES.iter().position(|name| *name == plan.name).expect("plans are of files");
    (TITLES[index], &FILES[index])
}

fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::Acceptable => "acceptable",
        Grade::Interesting => "interesting",
        Grade::Forbidden => "forbidden",
    }
}

/// For people.
pub(crate) fn text(plans: &[Plan]) -> String {
    let mut text = String::new();
    for plan in plans {
        let (title, file) = file(plan);
        writeln!(text, "{}: {title}", plan.name).expect("memory");
        for (cpu, role) in plan.roles.iter().enumerate() {
            writeln!(text, "  CPU {cpu}        {role}").expect("memory");
        }
        for outcome in plan.outcomes {
            let grade = grade(outcome.grade);
            writeln!(text, "  {grade:<12} {}: {}", outcome.name, outcome.reason).expect("memory");
        }
        for situation in plan.reached {
            writeln!(text, "  demanded     {}", situation.name).expect("memory");
        }
        for (sabotage, message) in &plan.twins {
            let broken = plan.described(*sabotage);
            writeln!(text, "  twin         {broken}, caught with \"{message}\"").expect("memory");
        }
        for Bug { row, references, what, hows } in file.bugs {
            let (references, hows) = (references.join(", "), hows.join(", "));
            writeln!(text, "  history      {row} ({references}): {what}; here {hows}")
                .expect("memory");
        }
        text.push('\n');
    }
    writeln!(text, "{}", plural(plans.len(), "scenario")).expect("memory");
    text
}

/// For programs.
pub(crate) fn json(plans: &[Plan]) -> Value {
    let scenario = |plan: &Plan| {
        let outcomes = plan.outcomes.iter().map(|outcome| {
            let grade = grade(outcome.grade);
            json!({ "name": outcome.name, "grade": grade, "reason": outcome.reason })
        });
        let twins = plan.twins.iter().map(|(sabotage, message)| {
            let broken = plan.described(*sabotage);
            json!({ "sabotage": sabotage.to_string(), "broken": broken, "message": message })
        });
        let (title, file) = file(plan);
        let bugs = file.bugs.iter().map(|Bug { row, references, what, hows }| {
            json!({ "row": row, "references": references, "what": what, "hows": hows })
        });
        let header = file.header.iter().map(|(key, text)| {
            (key.trim_end_matches(':').to_lowercase().replace(' ', "_"), json!(text))
        });
        json!({
            "name": plan.name,
            "title": title,
            "header": Value::Object(header.collect()),
            "lines": file.lines,
            "roles": plan.roles,
            "outcomes": outcomes.collect::<Vec<_>>(),
            "situations": plan.reached.iter().map(|it| it.name).collect::<Vec<_>>(),
            "twins": twins.collect::<Vec<_>>(),
            "history": bugs.collect::<Vec<_>>(),
        })
    };
    json!({ "scenarios": plans.iter().map(scenario).collect::<Vec<_>>() })
}
