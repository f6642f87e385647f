//! Web pages: one per failure, and an index of a run.
//!
//! A page is one file and needs no network. What it says is there without scripts, too: the drawing
//! of the steps that decide, the story, and the execution as text. A script steps through the
//! execution, and draws the page tables as they are after each step.

mod blocked;
mod index;
mod lanes;

use std::collections::BTreeMap;
use std::path::Path;

use maud::{Markup, PreEscaped, html};
use serde_json::json;
use weft_backend_loom::report::{Counterexample, Line, Report};
use weft_scenarios::sabotage::Sabotage;
use weft_shell::page::history::History;
use weft_shell::page::{Earlier, Excerpt, Folder, Run, document, stem};
use weft_shell::text::{plural, thousands};

use crate::columns::{self, Telling};
use crate::summary::{Row, Summary};
use crate::{checkers, explain, human};

/// So many steps at the end are in a page, and all that decide: it is to be read by people.
const STEPS_MAX: usize = 1_500;

impl Run for Summary {
    const INDEX: &'static str = "index.html";

    fn has_failures(&self) -> bool {
        let mut reports = self.rows.iter().filter_map(|row| row.result.as_ref().ok());
        reports.any(|report| report.failure.is_some())
    }

    fn write_failures(&mut self, folder: &Folder, root: Option<&Path>) -> Result<(), String> {
        for row in &mut self.rows {
            let Ok(report) = &row.result else { continue };
            let Some(failure) = &report.failure else { continue };
            let page = Page { root, row, report, failure }.markup();
            row.page = Some(folder.write(&format!("{}.html", name(report)), page)?);
        }
        Ok(())
    }

    fn index(&self, earlier: Option<&Earlier>) -> Markup {
        index::of(self, earlier)
    }
}

/// A failure, to be shown.
struct Page<'a> {
    /// The checkout that has the sources.
    root: Option<&'a Path>,
    row: &'a Row,
    report: &'a Report,
    failure: &'a Counterexample,
}

impl Page<'_> {
    fn markup(&self) -> Markup {
        let Self { report, failure, .. } = *self;
        let title = format!("{} fails under {}", report.scenario, report.engine);
        let text = columns::counterexample(
            report,
            failure,
            120,
            Telling { all_steps: failure.lines.len() <= STEPS_MAX, explained: false },
        );
        let above = self.above();
        // What is above the drawing takes so many lines, and each about so many pixels.
        let height = 62 + 23 * above.len();
        let body = html! {
            (self.heading())
            @for line in &above { (line) }
            @if !failure.blocked.is_empty() { (blocked::draw(failure)) }
            @if let Some(history) = History::of(&failure.message) { (history.draw()) }
            @if !failure.lines.is_empty() {
                div .columns {
                    div .lanes {
                        (lanes::draw(failure, &missing_label(report, failure), height))
                        (legend())
                    }
                    (state())
                }
            }
            (self.below())
            @if !failure.lines.is_empty() {
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
            @if !failure.lines.is_empty() { (self.execution()) }
        };
        document(&title, &body)
    }

    fn heading(&self) -> Markup {
        let Report { scenario, engine, model, executions, .. } = self.report;
        html! {
            h1 {
                span .bad { "FAILED " } (scenario)
                small .soft {
                    (engine) " (" (columns::short_model(model)) "), execution "
                    (thousands(*executions)) ", " (plural(self.failure.lines.len(), "step"))
                }
            }
        }
    }

    /// What is said above the drawing, each in a line or two.
    fn above(&self) -> Vec<Markup> {
        let Self { report, failure, .. } = *self;
        let mut lines = Vec::new();
        if let Some(sabotage) = report.sabotage {
            let broken = checkers::described(&report.scenario, sabotage);
            lines.push(html! { p .soft { "in a broken world: " code { (broken) } } });
        }
        let message = explain::message(failure);
        let (first, history) = message.split_once('\n').unwrap_or((&message, ""));
        lines.push(html! { p .bad { (first) } });
        if History::of(&failure.message).is_none() {
            lines.extend(history.lines().map(|line| html! { p .bad { (line) } }));
        }
        lines.extend(explain::why(report, failure).iter().map(|it| html! { p { (it) } }));
        lines.extend(explain::to_try(failure).map(|hint| html! { p { b { "Try: " } (hint) } }));
        lines
    }

    /// What is said below it.
    fn below(&self) -> Markup {
        html! {
            @if let Some(size) = explain::size(self.failure) { p .soft { (size) } }
            @if let Some(at) = explain::location(self.failure) { p .soft { "at " code { (at) } } }
            @if let Some(token) = &self.row.token {
                p .soft { "again: " code { "just replay " (human::quoted(token)) } }
            }
        }
    }

    /// What the script works on, and the script.
    fn execution(&self) -> Markup {
        let failure = self.failure;
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
            let source = self.root.and_then(|root| Excerpt::of(root, at));
            sources.extend(source.map(|source| (at.as_str(), source)));
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
}

/// The name of a failure's page, without its ending.
fn name(report: &Report) -> String {
    let name = format!("{}-{}", report.scenario, report.engine);
    match report.sabotage {
        Some(sabotage) => stem(&format!("{name}-{sabotage}")),
        None => name,
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

#[cfg(test)]
mod tests {

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
        let message = "a message with </script> in it";
        let failure = columns::tests::failure(["one", "other"], message, lines);
        let row = &crate::summary::tests::sampled(1).rows[0];
        let report = row.result.as_ref().expect("it was sampled");
        let page = Page { root: None, row, report, failure: &failure }.markup().into_string();
        assert!(page.len() < 1 << 20, "{}", page.len());
        assert_eq!(page.matches("<g class=\"box").count(), 10);
        assert!(page.contains("not in this page"));
        assert!(!page.contains("a message with </script>"));
    }
}
