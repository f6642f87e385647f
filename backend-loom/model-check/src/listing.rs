//! `--list`: what every scenario says about itself, and every site, without running anything.

use std::fmt::Write as _;

use comfy_table::Cell;
use serde_json::{Value, json};
use weft_backend_loom::harness::Plan;
use weft_core::sites::{AnySite, Evidence};
use weft_scenarios::scenario::Grade;
use weft_shell::text::{lines, plural, table};

use crate::checkers::{Bug, FILES, File, NAMES, TITLES};
use crate::source::Source;

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

fn ordering(site: AnySite) -> String {
    match site {
        AnySite::Access(site) => format!("{:?}", site.order),
        AnySite::Fence(site) => format!("fence {:?}", site.order),
    }
}

fn killers(site: AnySite) -> &'static [&'static str] {
    match site.row().evidence {
        Evidence::CaughtBy(named) => named,
        Evidence::Relaxed => &[],
    }
}

/// Where the core names a site.
fn places(source: &Source, site: AnySite) -> Vec<String> {
    let named = source.named.iter().filter(|(name, _)| name == site.row().name);
    named.map(|(_, line)| line.to_string()).collect()
}

/// The sites for people.
pub(crate) fn sites_text(sites: &[AnySite]) -> String {
    let source = Source::of_core();
    let mut table = table(&["site", "ordering", "weaker", "lines", "carries"], 2..4);
    for &site in sites {
        table.add_row(vec![
            Cell::new(site.row().name),
            Cell::new(ordering(site)),
            Cell::new(site.weakenings()),
            Cell::new(places(&source, site).len()),
            Cell::new(site.row().carries),
        ]);
    }
    lines(&table) + "\n" + &plural(sites.len(), "site") + "\n"
}

/// The sites for programs.
pub(crate) fn sites_json(sites: &[AnySite]) -> Value {
    let source = Source::of_core();
    let site = |site: &AnySite| {
        json!({
            "name": site.row().name,
            "ordering": ordering(*site),
            "weakenings": site.weakenings(),
            "lines": places(&source, *site),
            "carries": site.row().carries,
            "caught_by": killers(*site),
        })
    };
    json!({ "sites": sites.iter().map(site).collect::<Vec<_>>() })
}
