//! Results for programs: JSON (`docs/results.md` tells its fields), JUnit's XML, and annotations.

use serde_json::{Value, json};
use weft_backend_loom::report::Report;
use weft_backend_loom::sabotage;
use weft_shell::github::{self, Annotation};
use weft_shell::junit::{self, TestCase, TestSuite, case};

use crate::columns::Telling;
use crate::record::VERSION;
use crate::state::STATE;
use crate::summary::{Fate, Row, Summary, Twin};
use crate::{checkers, columns, human};

/// Everything in one document.
pub(crate) fn json(summary: &Summary) -> Value {
    json!({
        "version": VERSION,
        "state": STATE,
        "provenance": summary.head.as_ref().map(|head| &head.provenance),
        "options": summary.head.as_ref().map(|head| &head.options),
        "exit": summary.exit(),
        "elapsed_seconds": summary.elapsed.as_secs_f64(),
        "unfinished": summary.unfinished,
        "sabotage": sabotage::encode(summary.sabotage),
        "rows": summary.rows.iter().map(json_row).collect::<Vec<_>>(),
        "twins": summary.twins.iter().map(json_twin).collect::<Vec<_>>(),
        "disagreements": summary.disagreements,
        "missing": summary.missing,
        "not_exhausted": summary.not_exhausted,
        "internal": summary.internal,
    })
}

fn json_row(row: &Row) -> Value {
    let report = match &row.result {
        Ok(report) => report,
        Err(error) => {
            return json!({
                "scenario": row.plan.name,
                "engine": row.checker.name(),
                "model": row.checker.traits().memory_model,
                "cpus": row.plan.roles.len(),
                "verdict": "DIED",
                "error": error,
            });
        }
    };
    let mut value = serde_json::to_value(report).expect("reports are plain data");
    let fields = value.as_object_mut().expect("a report is an object");
    // A matter of all scenarios together, for which there is a command.
    fields.remove("coverage");
    fields.insert("token".to_owned(), json!(row.token));
    value
}

fn json_twin(twin: &Twin) -> Value {
    let (result, executions, detail) = match &twin.fate {
        Fate::Caught { executions } => ("caught", Some(*executions), None),
        Fate::CaughtOtherwise { executions, message } => {
            ("caught-otherwise", Some(*executions), Some(message))
        }
        Fate::Survived { verdict } => ("survived", None, Some(verdict)),
        Fate::Died(error) => ("died", None, Some(error)),
    };
    json!({
        "scenario": twin.scenario,
        "engine": twin.engine,
        "sabotage": twin.sabotage.to_string(),
        "broken": checkers::described(twin.scenario, twin.sabotage),
        "message": twin.message,
        "result": result,
        "executions": executions,
        "detail": detail,
    })
}

/// An annotation for everything that is wrong, and the conclusion.
pub(crate) fn github(summary: &Summary) -> String {
    let file = |scenario: &str| Some(format!("scenarios/tests/{scenario}.rs"));
    let mut all = Vec::new();
    let mut say = |title: String, message: &str, at| {
        all.push(Annotation { title, message: message.to_owned(), at });
    };
    for row in &summary.rows {
        let title = format!("{} under {}", row.plan.name, row.checker.name());
        match &row.result {
            Ok(report) => {
                if let Some(failure) = &report.failure {
                    let at = failure.location.clone().or_else(|| file(row.plan.name));
                    say(title, &failed(row, report), at);
                }
            }
            Err(error) => say(title, &format!("DIED: {error}"), file(row.plan.name)),
        }
    }
    for twin in &summary.twins {
        let complaint = twin_complaint(twin);
        if !complaint.is_empty() {
            let broken = twin.sabotage.described();
            let title = format!("{} twin ({broken}) under {}", twin.scenario, twin.engine);
            say(title, &complaint, file(twin.scenario));
        }
    }
    for (title, sentences) in [
        ("engines disagree", &summary.disagreements),
        ("expected and never met", &summary.missing),
        ("not exhausted", &summary.not_exhausted),
        ("internal error", &summary.internal),
    ] {
        sentences.iter().for_each(|sentence| say(title.to_owned(), sentence, None));
    }
    github::text(&all) + &human::conclusion(summary)
}

/// A suite per scenario, a case per row and per twin, and one suite for what concerns them all.
pub(crate) fn junit(summary: &Summary) -> String {
    let mut suites = Vec::new();
    for rows in summary.rows.chunk_by(|a, b| a.plan.name == b.plan.name) {
        let scenario = rows[0].plan.name;
        let mut suite = TestSuite::new(scenario);
        suite.add_test_cases(rows.iter().map(row_case));
        let twins = summary.twins.iter().filter(|twin| twin.scenario == scenario);
        suite.add_test_cases(twins.map(twin_case));
        suites.push(suite);
    }
    let mut suite = TestSuite::new("model-check");
    for (name, sentences) in [
        ("engines agree", &summary.disagreements),
        ("everything expected is met", &summary.missing),
        ("exhausted where demanded", &summary.not_exhausted),
        ("no internal error", &summary.internal),
    ] {
        suite.add_test_case(case(name, "model-check", &sentences.join("\n"), ""));
    }
    suites.push(suite);
    junit::document("model-check", summary.elapsed, suites)
}

fn row_case(row: &Row) -> TestCase {
    let (scenario, engine) = (row.plan.name, row.checker.name());
    let complaint = match &row.result {
        Ok(report) => failed(row, report),
        Err(error) => format!("DIED: {error}"),
    };
    let mut case = case(engine, scenario, &complaint, "");
    if let Ok(report) = &row.result {
        case.set_time(report.elapsed);
        let Report { verdict, executions, model, .. } = report;
        case.set_system_out(format!("{verdict}, {executions} executions, {model}"));
    }
    case
}

fn failed(row: &Row, report: &Report) -> String {
    let Some(failure) = &report.failure else { return String::new() };
    let mut text = format!("{}\n", failure.message);
    text += &columns::counterexample(report, failure, 120, Telling::default());
    if let Some(token) = &row.token {
        text += &format!("  REPLAY    just replay {}\n", human::quoted(token));
    }
    text
}

fn twin_case(twin: &Twin) -> TestCase {
    let broken = checkers::described(twin.scenario, twin.sabotage);
    let name = format!("twin {} ({broken}) {}", twin.number + 1, twin.engine);
    case(&name, twin.scenario, &twin_complaint(twin), "")
}

fn twin_complaint(twin: &Twin) -> String {
    match &twin.fate {
        Fate::Caught { .. } => String::new(),
        Fate::CaughtOtherwise { message, .. } => {
            format!("caught with another message than \"{}\": {message}", twin.message)
        }
        Fate::Survived { verdict } => format!("SURVIVED: {verdict}"),
        Fate::Died(error) => format!("DIED: {error}"),
    }
}
