//! The index of a run: scenarios, verdicts, outcomes, twins, times, and what they were earlier.

use maud::{Markup, html};
use weft_backend_loom::report::Report;
use weft_shell::page::{Earlier, Was, document};
use weft_shell::text::thousands;

use crate::summary::{Fate, Row, Summary};
use crate::{checkers, columns, human};

/// The page.
pub(super) fn of(summary: &Summary, earlier: Option<&Earlier>) -> Markup {
    let conclusion = human::conclusion(summary);
    let is_good = conclusion.starts_with("GOOD");
    let body = html! {
        h1 { "Races of the page table" }
        p .(if is_good { "good" } else { "bad" }) { (conclusion) }
        @if let Some(earlier) = earlier {
            @let now = summary.rows.iter().map(|row| (row.plan.name, row.checker.name()));
            (earlier.heading(now))
        }
        h2 { "Scenarios" }
        table {
            tr {
                th { "scenario" } th { "engine" } th { "model" } th { "verdict" }
                th .number { "executions" } th .number { "time" }
                @if earlier.is_some() { th { "earlier" } }
                th { "outcomes" }
            }
            @for row in &summary.rows { (index_row(row, earlier)) }
        }
        @if !summary.twins.is_empty() {
            h2 { "Broken worlds that must be caught" }
            table {
                tr {
                    th { "scenario" } th { "broken" } th { "engine" } th { "result" }
                    th .number { "execution" }
                }
                @for twin in &summary.twins {
                    @let (word, executions) = fate(&twin.fate);
                    tr {
                        td { (twin.scenario) }
                        td { code { (checkers::described(twin.scenario, twin.sabotage)) } }
                        td { (twin.engine) }
                        td .(if word == "caught" { "good" } else { "bad" }) { (word) }
                        td .number {
                            @if let Some(executions) = executions { (thousands(executions)) }
                        }
                    }
                }
            }
        }
        @for (title, sentences) in [
            ("Engines disagree", &summary.disagreements),
            ("Never met", &summary.missing),
            ("Not exhausted", &summary.not_exhausted),
            ("Internal errors", &summary.internal),
        ] {
            @if !sentences.is_empty() {
                h2 { (title) }
                ul { @for sentence in sentences { li { (sentence) } } }
            }
        }
    };
    document("Weft: a run of the models", &body)
}

fn index_row(row: &Row, earlier: Option<&Earlier>) -> Markup {
    match &row.result {
        Ok(report) => html! {
            tr {
                td {
                    @match row.page.as_ref().and_then(|page| page.file_name()?.to_str()) {
                        Some(name) => a href=(name) { (row.plan.name) },
                        None => (row.plan.name),
                    }
                }
                td { (row.checker.name()) }
                td { (columns::short_model(&report.model)) }
                td .(if report.failure.is_some() { "bad" } else { "" }) { (report.verdict) }
                td .number { (thousands(report.executions)) }
                td .number { (format!("{:.2} s", report.elapsed.as_secs_f64())) }
                @if let Some(earlier) = earlier {
                    td { (earlier.trend(row.plan.name, row.checker.name(), &now(report))) }
                }
                td {
                    @for (name, count) in &report.outcomes {
                        (name) " " span .soft { (thousands(*count)) } " "
                    }
                }
            }
        },
        Err(error) => html! {
            tr {
                td { (row.plan.name) } td { (row.checker.name()) } td {}
                td .bad { "DIED" } td colspan="4" { (error) }
            }
        },
    }
}

fn fate(fate: &Fate) -> (&'static str, Option<u64>) {
    match fate {
        Fate::Caught { executions } => ("caught", Some(*executions)),
        Fate::CaughtOtherwise { executions, .. } => ("another message", Some(*executions)),
        Fate::Survived { .. } => ("SURVIVED", None),
        Fate::Died(_) => ("DIED", None),
    }
}

/// What a row is now, as it is compared.
fn now(report: &Report) -> Was {
    Was {
        verdict: report.verdict.to_string(),
        executions: report.executions,
        seconds: report.elapsed.as_secs_f64(),
    }
}
