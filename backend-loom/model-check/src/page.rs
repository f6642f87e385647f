//! Web pages: one per failure, and an index of a run.
//!
//! A page is one file and needs no network. What it says is there without scripts, too: the drawing
//! of the steps that decide, the story, and the execution as text. A script steps through the
//! execution, and draws the page tables as they are after each step.

mod lanes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::json;
use weft_backend_loom::report::{Counterexample, Line, Report};
use weft_scenarios::sabotage::Sabotage;
use weft_shell::checkout;
use weft_shell::text::{plural, thousands};

use crate::columns::{self, Telling};
use crate::summary::{Fate, Row, Summary};
use crate::{checkers, explain, human};

/// So many steps at the end are in a page, and all that decide: it is to be read by people.
const STEPS_MAX: usize = 1_500;

/// Lines of source around the one of a step.
const AROUND: usize = 4;

/// Writes the pages of failures, and, where a folder for them is named, the index of the run.
///
/// # Errors
///
/// One sentence, if they cannot be written.
pub(crate) fn of(summary: &mut Summary, folder: Option<&Path>) -> Result<Option<PathBuf>, String> {
    let root = checkout::root().ok();
    let directory = match (folder, &root) {
        (Some(folder), _) => folder.to_owned(),
        (None, Some(root)) if summary.has_failures() => root.join(Pages::DEFAULT),
        (None, _) => return Ok(None),
    };
    let pages = Pages::new(directory, root)?;
    pages.write_failures(summary)?;
    folder.map(|_| pages.write_index(summary)).transpose()
}

/// Where pages go, and where sources are found.
#[derive(Clone, Debug)]
pub(crate) struct Pages {
    directory: PathBuf,
    root: Option<PathBuf>,
}

impl Pages {
    /// Where pages go if no folder is named, seen from the checkout.
    pub(crate) const DEFAULT: &str = "target/report";

    /// Pages in a directory, which is made if it is missing; `root` is the checkout.
    ///
    /// # Errors
    ///
    /// One sentence, if the directory cannot be made.
    pub(crate) fn new(directory: PathBuf, root: Option<PathBuf>) -> Result<Self, String> {
        let failed = |error| refusal(&directory, &error);
        fs::create_dir_all(&directory).map_err(failed)?;
        Ok(Self { directory, root })
    }

    /// Writes a page for every failure, and notes in the rows where each is.
    ///
    /// # Errors
    ///
    /// One sentence, if a file cannot be written.
    pub(crate) fn write_failures(&self, summary: &mut Summary) -> Result<(), String> {
        for row in &mut summary.rows {
            let Ok(report) = &row.result else { continue };
            let Some(failure) = &report.failure else { continue };
            let text = self.failure(row, report, failure).into_string();
            row.page = Some(self.write(&format!("{}.html", stem(report)), &text)?);
        }
        Ok(())
    }

    /// Writes the index of a run, whose failures have their pages, and says where it is.
    ///
    /// # Errors
    ///
    /// One sentence, if the file cannot be written.
    pub(crate) fn write_index(&self, summary: &Summary) -> Result<PathBuf, String> {
        self.write("index.html", &index(summary).into_string())
    }

    /// Writes a file at once: a reader sees the old one or the new one.
    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let path = self.directory.join(name);
        let part = self.directory.join(format!(".{name}.{}", std::process::id()));
        let written = fs::write(&part, text).and_then(|()| fs::rename(&part, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&part);
            return Err(refusal(&path, &error));
        }
        Ok(path)
    }

    fn failure(&self, row: &Row, report: &Report, failure: &Counterexample) -> Markup {
        let title = format!("{} fails under {}", report.scenario, report.engine);
        let text = columns::counterexample(
            report,
            failure,
            120,
            Telling { all_steps: failure.lines.len() <= STEPS_MAX, explained: false },
        );
        let body = html! {
            (heading(row, report, failure))
            @if !failure.lines.is_empty() {
                div .columns {
                    div .lanes {
                        (lanes::draw(failure, &missing_label(report, failure)))
                        (legend())
                    }
                    (state())
                }
                h2 { "What happens" }
                table {
                    @for (number, sentence) in explain::story(failure) {
                        tr data-step=(number - 1) {
                            td .number { (number) }
                            td { (sentence) }
                        }
                    }
                }
            }
            details {
                summary { "The execution as text, all of it" }
                pre { (text) }
            }
            @if !failure.lines.is_empty() { (self.execution(failure)) }
        };
        document(&title, &body)
    }

    /// What the script works on, and the script.
    fn execution(&self, failure: &Counterexample) -> Markup {
        let is_told =
            |index: usize, line: &Line| line.decides || index + STEPS_MAX >= failure.lines.len();
        let mut sources = BTreeMap::new();
        let mut lines = Vec::new();
        for (index, line) in failure.lines.iter().enumerate() {
            let Line { cpu, text, state, at, decides, changes, .. } = line;
            if !is_told(index, line) {
                let left_out = "not in this page";
                lines.push(json!({ "cpu": cpu, "text": left_out, "at": "", "changes": changes }));
                continue;
            }
            sources.extend(self.source(line).map(|source| (at.as_str(), source)));
            lines.push(json!({
                "cpu": cpu,
                "text": text,
                "state": state,
                "at": at,
                "decides": decides,
                "changes": changes,
            }));
        }
        let cpus = failure.roles.len();
        let data =
            json!({ "cpus": cpus, "before": failure.before, "lines": lines, "sources": sources });
        // So that no text ends the element.
        let data = data.to_string().replace('<', "\\u003c");
        html! {
            script #execution type="application/json" { (PreEscaped(data)) }
            script { (PreEscaped(include_str!("page/steps.js"))) }
        }
    }

    /// The lines around the place of a step, if its file is in the checkout.
    fn source(&self, line: &Line) -> Option<serde_json::Value> {
        let (file, number) = line.at.rsplit_once(':')?;
        let here: usize = number.parse().ok()?;
        let text = fs::read_to_string(self.root.as_ref()?.join(file)).ok()?;
        let first = here.saturating_sub(AROUND).max(1);
        let lines: Vec<&str> =
            text.lines().skip(first - 1).take(here + AROUND + 1 - first).collect();
        Some(json!({ "first": first, "here": here, "lines": lines }))
    }
}

fn refusal(path: &Path, error: &io::Error) -> String {
    format!("cannot write the report to {}: {error}: give another folder", path.display())
}

/// The name of a failure's page, without its ending.
fn stem(report: &Report) -> String {
    let mut stem = format!("{}-{}", report.scenario, report.engine);
    if let Some(sabotage) = report.sabotage {
        stem +=
            &format!("-{sabotage}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    }
    stem
}

fn document(title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(include_str!("page/style.css"))) }
            }
            body { (body) }
        }
    }
}

fn heading(row: &Row, report: &Report, failure: &Counterexample) -> Markup {
    let Report { scenario, engine, model, executions, .. } = report;
    html! {
        h1 { span .bad { "FAILED " } (scenario) }
        p .soft {
            (engine) " (" (columns::short_model(model)) "), execution " (thousands(*executions))
            ", "
            (plural(failure.lines.len(), "step"))
            @if let Some(sabotage) = report.sabotage {
                ", in a broken world: " code { (checkers::described(scenario, sabotage)) }
            }
        }
        p .bad { (failure.message) }
        @for sentence in explain::why(report, failure) { p { (sentence) } }
        @if let Some(size) = explain::size(failure) { p .soft { (size) } }
        @if let Some(at) = &failure.location { p .soft { "at " code { (at) } } }
        @if let Some(token) = &row.token {
            p .soft { "again: " code { "just replay " (human::quoted(token)) } }
        }
    }
}

/// What the arrow says between two steps that should be ordered.
fn missing_label(report: &Report, failure: &Counterexample) -> String {
    let is_old = failure.missing.as_ref().is_some_and(|it| failure.lines[it.to].missed.is_some());
    match report.sabotage {
        Some(Sabotage::Weakened(weakening)) => format!("{} is weaker", weakening.site.row().name),
        Some(sabotage) => sabotage.to_string(),
        None if is_old => "not seen".to_owned(),
        None => "nothing orders these".to_owned(),
    }
}

fn legend() -> Markup {
    html! {
        p .legend {
            span { i .reads {} "reads what was written" }
            span { i .orders {} "and is ordered by it" }
            span { i .missing {} "an order that is missing, a write that was not seen" }
        }
    }
}

/// The part of the page that the script fills.
fn state() -> Markup {
    html! {
        div .state.needs-script {
            p .controls {
                button #first title="Home" { "first" } " "
                button #back title="left arrow" { "back" } " "
                button #on title="right arrow" { "on" } " "
                button #last title="End" { "last" } " "
                label { input #all type="checkbox"; " every step" }
            }
            p { span #step {} }
            h2 { "The tables then" }
            div #tree .tree {}
            h2 { "Source " code #place {} }
            div #source .source {}
        }
    }
}

fn index(summary: &Summary) -> Markup {
    let conclusion = human::conclusion(summary);
    let is_good = conclusion.starts_with("GOOD");
    let body = html! {
        h1 { "Races of the page table" }
        p .(if is_good { "good" } else { "bad" }) { (conclusion) }
        h2 { "Scenarios" }
        table {
            tr {
                th { "scenario" } th { "engine" } th { "model" } th { "verdict" }
                th .number { "executions" } th .number { "time" } th { "outcomes" }
            }
            @for row in &summary.rows { (index_row(row)) }
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

fn index_row(row: &Row) -> Markup {
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
                td .bad { "DIED" } td colspan="3" { (error) }
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

#[cfg(test)]
mod tests {
    use weft_backend_loom::engine::FailureKind;

    use super::*;

    #[test]
    fn ten_thousand_steps_are_a_page_below_a_megabyte() {
        let lines = (0..10_000).map(|step| Line {
            cpu: step % 2,
            text: "N5[1] -> F6 rw-u+A+D".to_owned(),
            site: Some("ENTRY_UNDER_LOCK".to_owned()),
            at: format!("core/src/range_lock.rs:{}", step % 400),
            decides: step % 1_000 == 0,
            ..Line::default()
        });
        let failure = Counterexample {
            message: "a message with </script> in it".to_owned(),
            detail: None,
            class: FailureKind::Violation,
            location: None,
            roles: ["one", "other"].map(str::to_owned).to_vec(),
            before: Vec::new(),
            lines: lines.collect(),
            missing: None,
            waiting: Vec::new(),
            size: None,
            token: None,
        };
        let pages = Pages { directory: PathBuf::new(), root: None };
        let text = pages.execution(&failure).into_string();
        let drawn = lanes::draw(&failure, "missing").into_string();
        assert!(text.len() + drawn.len() < 1 << 20, "{} and {}", text.len(), drawn.len());
        assert_eq!(drawn.matches("data-step").count(), 10);
        assert!(text.contains("not in this page"));
    }
}
