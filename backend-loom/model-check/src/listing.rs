//! `--list`: what every scenario says about itself, without running anything.

use std::fmt::Write as _;

use serde_json::{Value, json};
use weft_backend_loom::harness::Plan;
use weft_scenarios::scenario::Grade;
use weft_shell::text::plural;

use crate::checkers::{NAMES, TITLES};

/// The title in the header of a scenario's file.
fn title(plan: &Plan) -> &'static str {
    NAMES.iter().position(|name| *name == plan.name).map_or("", |index| TITLES[index])
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
        writeln!(text, "{}: {}", plan.name, title(plan)).expect("memory");
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
            writeln!(text, "  twin         {}, caught with \"{message}\"", sabotage.described())
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
        let twins = plan.twins.iter().map(
            |(sabotage, message)| json!({ "sabotage": sabotage.to_string(), "message": message }),
        );
        json!({
            "name": plan.name,
            "title": title(plan),
            "roles": plan.roles,
            "outcomes": outcomes.collect::<Vec<_>>(),
            "situations": plan.reached.iter().map(|it| it.name).collect::<Vec<_>>(),
            "twins": twins.collect::<Vec<_>>(),
        })
    };
    json!({ "scenarios": plans.iter().map(scenario).collect::<Vec<_>>() })
}
