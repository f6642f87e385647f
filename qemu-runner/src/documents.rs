//! Results for programs: JSON (`docs/results.md` tells its fields), JUnit's XML, and annotations.

use serde_json::{Map, Value, json};
use weft_shell::github::{self, Annotation};
use weft_shell::junit::{self, TestSuite};
use weft_shell::provenance::Provenance;

use crate::models::{Models, Search};
use crate::summary::{Judgement, Row, Summary, Twin};
use crate::table;
use crate::verdict::{Count, Failure};

/// The version of the form.
pub const VERSION: u32 = 2;

/// What provenance calls this command.
pub const TOOL: &str = "qemu";

/// What results of this process belong to.
pub fn provenance() -> Provenance {
    Provenance::here(TOOL, env!("CARGO_PKG_VERSION"))
}

/// Everything in one document.
pub fn json(summary: &Summary) -> Value {
    json!({
        "version": VERSION,
        "provenance": provenance(),
        "exit": summary.exit(),
        "qemu": summary.qemu,
        "accelerator": summary.accelerator.to_string(),
        "cpus": summary.cpus,
        "seed": summary.seed,
        "sabotage": summary.sabotage.map(|sabotage| sabotage.to_string()),
        "fingerprint": format!("{:016x}", summary.fingerprint()),
        "elapsed_seconds": summary.elapsed.as_secs_f64(),
        "unfinished": summary.unfinished,
        "models": json_models(&summary.models),
        "twins": summary.twins.iter().map(json_twin).collect::<Vec<_>>(),
        "rows": summary.rows.iter().map(|row| json_row(summary, row)).collect::<Vec<_>>(),
    })
}

fn json_models(models: &Models) -> Value {
    let by_name = models.by_name.iter().map(|(name, model)| {
        let said = json!({
            "verdict": model.verdict,
            "memory_model": model.memory_model,
            "outcomes": model.outcomes,
            "situations": model.situations,
        });
        (name.clone(), said)
    });
    let searches = models.searches.iter().map(|(name, search)| {
        let (result, text) = match search {
            Search::Found(text) => ("found", text),
            Search::Nothing(text) => ("nothing", text),
            Search::Impossible(sentence) => ("impossible", sentence),
        };
        (name.clone(), json!({ "result": result, "text": text }))
    });
    json!({
        "by_name": by_name.collect::<Map<_, _>>(),
        "searches": searches.collect::<Map<_, _>>(),
        "error": models.error,
    })
}

fn json_row(summary: &Summary, row: &Row) -> Value {
    let verdict = &row.verdict;
    json!({
        "name": row.request.name,
        "self_test": row.self_test,
        "judgement": judgement(summary.judge(row)),
        "cpus": verdict.cpus,
        "repetitions": row.request.repetitions,
        "boots": row.boots.all,
        "boots_failed": row.boots.wrong,
        "seed": row.seed,
        "outcomes": json_counts(&verdict.outcomes),
        "situations": json_counts(&verdict.situations),
        "metrics": verdict.metrics.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "missing": verdict.missing().collect::<Vec<_>>(),
        "failure": verdict.failure.as_ref().map(json_failure),
        "places": row.places,
        "again": row.again,
        "fingerprint": format!("{:016x}", verdict.fingerprint),
        "elapsed_seconds": verdict.elapsed.as_secs_f64(),
    })
}

fn json_twin(twin: &Twin) -> Value {
    json!({
        "name": twin.name,
        "sabotage": twin.sabotage,
        "messages": twin.messages,
        "caught": twin.is_caught(),
        "boots": twin.boots.all,
        "boots_caught": twin.boots.wrong,
        "seed": twin.seed,
        "fate": twin.fate(),
        "again": twin.again,
        "elapsed_seconds": twin.verdict.elapsed.as_secs_f64(),
    })
}

pub(crate) fn judgement(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Good => "good",
        Judgement::Missing => "missing",
        Judgement::Bad => "bad",
        Judgement::Internal => "internal",
    }
}

/// How often things were seen, by their names.
pub fn json_counts(counts: &[Count]) -> Map<String, Value> {
    counts.iter().map(|count| (count.name.clone(), json!(count.times))).collect()
}

/// What went wrong.
pub fn json_failure(failure: &Failure) -> Value {
    let kind = match failure {
        Failure::Violation { .. } => "violation",
        Failure::Hang(_) => "hang",
        Failure::Reset => "reset",
        Failure::Incomplete(_) => "incomplete",
        Failure::Internal(_) => "internal",
    };
    let mut value = json!({ "kind": kind, "message": failure.to_string() });
    if let Failure::Violation { cpu, location, .. } = failure {
        value["cpu"] = json!(cpu);
        value["location"] = json!(location);
    }
    value
}

/// What is wrong with a row, if anything is.
fn complaint(summary: &Summary, row: &Row) -> String {
    let verdict = &row.verdict;
    match (&verdict.failure, summary.judge(row)) {
        (Some(failure), _) if row.boots.all > 1 => {
            format!("{}; seed {}: {failure}", row.boots, row.seed)
        }
        (Some(failure), _) => failure.to_string(),
        (None, Judgement::Missing) => {
            format!("not seen: {}", verdict.missing().collect::<Vec<_>>().join("; "))
        }
        (None, _) => String::new(),
    }
}

/// An annotation for everything that is wrong.
pub fn github(summary: &Summary) -> String {
    let mut all = Vec::new();
    let mut say = |title: String, complaint: &str, again: &str, at: String| {
        if !complaint.is_empty() {
            let message = format!("{complaint}\nagain: {again}");
            all.push(Annotation { title, message, at: Some(at) });
        }
    };
    let file = |name: &str, self_test: bool| match self_test {
        true => "backend-baremetal/kernel/src/tests/selftest.rs".to_owned(),
        false => format!("scenarios/tests/{name}.rs"),
    };
    for row in &summary.rows {
        let name = &row.request.name;
        let at = match &row.verdict.failure {
            Some(Failure::Violation { location, .. }) if location.contains(".rs:") => {
                location.clone()
            }
            _ => file(name, row.self_test),
        };
        say(format!("{name} on a machine"), &complaint(summary, row), &row.again, at);
    }
    for twin in summary.twins.iter().filter(|twin| !twin.is_caught()) {
        let title = format!("{} with {}", twin.name, twin.sabotage);
        say(title, &twin.fate(), &twin.again, file(&twin.name, false));
    }
    if let Some(error) = &summary.models.error {
        let title = "no comparison with the models".to_owned();
        all.push(Annotation { title, message: error.clone(), at: None });
    }
    github::text(&all) + &table::conclusion(summary)
}

/// One suite, a case per row.
pub fn junit(summary: &Summary) -> String {
    let mut suite = TestSuite::new("qemu");
    for row in &summary.rows {
        let verdict = &row.verdict;
        let log = verdict.log.join("\n");
        let mut case = junit::case(&row.request.name, "qemu", &complaint(summary, row), &log);
        case.set_time(verdict.elapsed);
        suite.add_test_case(case);
    }
    for twin in &summary.twins {
        let complaint = if twin.is_caught() { String::new() } else { twin.fate() };
        let (name, log) =
            (format!("{} with {}", twin.name, twin.sabotage), twin.verdict.log.join("\n"));
        let mut case = junit::case(&name, "twins", &complaint, &log);
        case.set_time(twin.verdict.elapsed);
        suite.add_test_case(case);
    }
    junit::document("qemu", summary.elapsed, [suite])
}
