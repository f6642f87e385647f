//! Web pages: one for each failure, as far as the machine tells, and an index of a run.
//!
//! A machine says what was broken, on which processor and where in the source; one that hangs says
//! where each processor is. The steps that led there are not known: where the models fail as well,
//! the page has what they say.

use std::path::Path;

use maud::{Markup, html};
use weft_shell::page::history::History;
use weft_shell::page::{Earlier, Excerpt, Folder, Run, Was, document, stem};
use weft_shell::text::{plural, thousands};

use crate::documents::judgement;
use crate::summary::{Row, Summary, Twin};
use crate::table;
use crate::verdict::{Count, Failure};

impl Run for Summary {
    const INDEX: &'static str = "qemu.html";

    fn has_failures(&self) -> bool {
        self.rows.iter().any(|row| row.verdict.failure.is_some())
    }

    fn write_failures(&mut self, folder: &Folder, root: Option<&Path>) -> Result<(), String> {
        for index in 0..self.rows.len() {
            let row = &self.rows[index];
            if let Some(page) = page(self, row, root) {
                let written = folder.write(&name(self, row), page)?;
                self.rows[index].page = Some(written);
            }
        }
        Ok(())
    }

    fn index(&self, earlier: Option<&Earlier>) -> Markup {
        index(self, earlier)
    }
}

/// The name of a failure's page.
fn name(summary: &Summary, row: &Row) -> String {
    let broken = summary.sabotage.map(|sabotage| format!("-{sabotage}")).unwrap_or_default();
    stem(&format!("qemu-{}{broken}", row.request.name)) + ".html"
}

/// The page of a row, if it failed.
fn page(summary: &Summary, row: &Row, root: Option<&Path>) -> Option<Markup> {
    let failure = row.verdict.failure.as_ref()?;
    let name = &row.request.name;
    let location = match failure {
        Failure::Violation { location, .. } => Some(location.as_str()),
        _ => None,
    };
    let excerpt = location.zip(root).and_then(|(at, root)| Excerpt::of(root, at));
    let message = failure.to_string();
    let history = History::of(&message);
    let said =
        if history.is_some() { message.split(':').next().unwrap_or_default() } else { &message };
    let models = summary.models.told(name);
    let body = html! {
        h1 {
            span .bad { (table::word(row)) " " } (name)
            small .soft {
                "QEMU " (summary.qemu) ", " (summary.accelerator.to_string()) ", "
                (plural(summary.cpus, "processor")) ", " (thousands(row.runs())) " runs"
            }
        }
        @if let Some(sabotage) = summary.sabotage {
            p .soft { "in a broken world: " code { (sabotage) } }
        }
        p .bad { (said) }
        @if row.boots.all > 1 { p { "in " (row.boots) ", with seed " (row.seed) " first" } }
        @if let Some(history) = history { (history.draw()) }
        h2 { "Processors" }
        (processors(summary.cpus, row, failure))
        @if let Some(at) = location.filter(|at| !at.is_empty()) {
            h2 { "Source " code { (at) } }
            @match &excerpt {
                Some(excerpt) => (excerpt.markup()),
                None => p .soft { "the source is not in this checkout" },
            }
        }
        p .soft { "again: " code { (row.again) } }
        @if !models.is_empty() {
            h2 { "The models" }
            pre { (models) }
        }
        (seen("Outcomes", &row.verdict.outcomes))
        (seen("Situations", &row.verdict.situations))
        details open[row.verdict.log.len() < 40] {
            summary { "The last that the kernel said" }
            pre { @for line in &row.verdict.log { (line) "\n" } }
        }
    };
    Some(document(&format!("{name} fails on a machine"), &body))
}

/// A box for each processor, with what is known of it.
fn processors(cpus: usize, row: &Row, failure: &Failure) -> Markup {
    let known = |cpu: usize| -> Vec<String> {
        let place = format!("processor {cpu}, ");
        let place = row.places.iter().find_map(|text| text.strip_prefix(&place));
        match failure {
            Failure::Violation { cpu: failed, .. } if *failed == cpu as u64 => {
                let at = row.places.iter().flat_map(|text| text.lines());
                std::iter::once("fails here").chain(at).map(str::to_owned).collect()
            }
            Failure::Hang(_) => {
                place.unwrap_or("does not answer").lines().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    };
    html! {
        div .processors {
            @for cpu in 0..cpus {
                @let lines = known(cpu);
                div .(if lines.is_empty() { "processor" } else { "processor bad-box" }) {
                    b { "processor " (cpu) }
                    @for line in &lines { div { code { (line.trim()) } } }
                }
            }
        }
    }
}

/// How often things were seen.
fn seen(what: &str, counts: &[Count]) -> Markup {
    html! {
        @if !counts.is_empty() {
            h2 { (what) }
            table {
                @for count in counts {
                    tr { td .number { (thousands(count.times)) } td { (count.name) } }
                }
            }
        }
    }
}

fn index(summary: &Summary, earlier: Option<&Earlier>) -> Markup {
    let conclusion = table::conclusion(summary);
    let (first, rest) = conclusion.split_once('\n').unwrap_or((&conclusion, ""));
    let is_good = first.starts_with("GOOD");
    let body = html! {
        h1 { "Races of the page table, on machines" }
        p .(if is_good { "good" } else { "bad" }) { (first) }
        @for line in rest.lines() { p .soft { (line) } }
        @if let Some(earlier) = earlier {
            (earlier.heading(summary.rows.iter().map(|row| (row.request.name.as_str(), ""))))
        }
        h2 { "Scenarios and self-tests" }
        table {
            tr {
                th { "name" } th { "verdict" } th .number { "runs" } th .number { "time" }
                @if earlier.is_some() { th { "earlier" } }
                th { "outcomes" }
            }
            @for row in &summary.rows { (index_row(summary, row, earlier)) }
        }
        @if !summary.twins.is_empty() {
            h2 { "Broken worlds that must be noticed" }
            table {
                tr { th { "name" } th { "broken" } th { "result" } }
                @for twin in &summary.twins { (index_twin(twin)) }
            }
        }
    };
    document("Weft: a run on machines", &body)
}

fn index_row(summary: &Summary, row: &Row, earlier: Option<&Earlier>) -> Markup {
    let verdict = judgement(summary.judge(row));
    let seconds = row.verdict.elapsed.as_secs_f64();
    let name = &row.request.name;
    html! {
        tr {
            td {
                @if row.verdict.failure.is_some() {
                    a href=(self::name(summary, row)) { (name) }
                } @else { (name) }
            }
            td .(if verdict == "good" { "" } else { "bad" }) { (verdict) }
            td .number { (thousands(row.runs())) }
            td .number { (format!("{seconds:.2} s")) }
            @if let Some(earlier) = earlier {
                @let now = Was { verdict: verdict.to_owned(), executions: row.runs(), seconds };
                td { (earlier.trend(name, "", &now)) }
            }
            td {
                @for count in row.verdict.outcomes.iter().filter(|count| count.times > 0) {
                    (count.name) " " span .soft { (thousands(count.times)) } " "
                }
            }
        }
    }
}

fn index_twin(twin: &Twin) -> Markup {
    html! {
        tr {
            td { (twin.name) }
            td { code { (twin.sabotage) } }
            td .(if twin.is_caught() { "good" } else { "bad" }) { (twin.fate()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{summary, verdict};
    use crate::verdict::Place;

    fn shown(failure: Failure, places: &[&str]) -> String {
        let mut summary = summary(vec![verdict(Some(failure), 1)]);
        summary.rows[0].places = places.iter().map(|place| (*place).to_owned()).collect();
        page(&summary, &summary.rows[0], None).expect("it has failed").into_string()
    }

    #[test]
    fn a_hang_shows_where_each_processor_is() {
        let place = Place { cpu: 1, rip: 7, interruptible: false };
        let places = ["processor 1, interrupts off: spin\n    in core/src/lock.rs:7"];
        let page = shown(Failure::Hang(vec![place]), &places);
        for part in ["HUNG", "interrupts off: spin", "in core/src/lock.rs:7", "does not answer"] {
            assert!(page.contains(part), "no {part:?} in {page}");
        }
        assert_eq!(page.matches("class=\"processor bad-box\"").count(), 4);
    }

    #[test]
    fn a_violation_shows_the_processor_the_place_and_the_operations() {
        let message = "history is not linearizable: CPU 0: unmap 0 = 1 frame; CPU 1: unmap 0 = 1 \
                       frame; at first 0 is #5, in the end nothing is mapped";
        let (message, location) = (message.to_owned(), "core/src/run.rs:7:9".to_owned());
        let page = shown(Failure::Violation { cpu: 2, message, location }, &["in note_fault"]);
        for part in ["FAILED", "fails here", "in note_fault", "core/src/run.rs:7:9", "<svg"] {
            assert!(page.contains(part), "no {part:?} in {page}");
        }
        assert!(page.contains("history is not linearizable<"), "the drawing says the rest");
        assert_eq!(page.matches("unmap 0 = 1 frame").count(), 2, "drawn once each");
    }
}
