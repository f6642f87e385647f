//! The table for people: `scenarios/RACES.md`, the summary in the README, and what a terminal
//! shows.

use std::fmt::Write as _;

use comfy_table::Cell;
use weft_shell::text::{self, plural, thousands};

use super::found::{Column, Finding, Found, count};
use super::rows::{How, NotExpressed, Race};
use super::trials::{EXECUTIONS, PREEMPTIONS};

/// Where the table is, seen from the root of the workspace.
pub(crate) const TABLE: &str = "scenarios/RACES.md";

/// The table, as a document.
pub(crate) fn markdown(races: &[Race], findings: &[Finding], not: &[NotExpressed]) -> String {
    let mut text = format!(
        "# Races that shipped\n\n\
         Written by `just races`, from the headers of the scenario files and from what the \
         checkers find.\nNothing here is written by hand.\n\n\
         Each row is a bug that was in a real system, as a scenario: the core passes it, and the \
         historical\nmistake, made again, must fail with the message of the invariant that it \
         breaks. A number is the\nexecution that fails. Loom is bounded to {PREEMPTIONS} \
         preemptions first; it, shuttle and threads of the host\nare given {} executions. \
         *Cannot* is what a checker cannot show: hardware keeps no translations\nunder loom and on \
         threads, and shuttle has one order of all accesses. `-` was not tried.\n\n{}\n",
        thousands(EXECUTIONS),
        summary(races, findings, not)
    );
    text += "| # | race | made again as | CPUs | executions |";
    for column in Column::ALL {
        write!(text, " {} |", column.title()).expect("memory");
    }
    text += " lines |\n|---|---|---|--:|--:|";
    text += &"--:|".repeat(Column::ALL.len() + 1);
    text.push('\n');
    for (race, finding) in races.iter().zip(findings) {
        let what = if race.is_first { race.bug.what } else { "the same" };
        write!(
            text,
            "| {} | [{what}](tests/{}.rs) | `{}` | {} | {} |",
            race.bug.row,
            race.scenario,
            race.how,
            race.cpus(),
            executions(finding),
        )
        .expect("memory");
        for column in Column::ALL {
            write!(text, " {} |", finding.of(column)).expect("memory");
        }
        writeln!(text, " {} |", race.file.lines).expect("memory");
    }
    text += "\n*Executions* are those of the right core, all of them unless the row says \
             otherwise; *lines* are what an\nengineer has to write: the whole file, its header \
             included.\n\n\
             ## What must hold\n\n| # | scenario | shipped in | must never happen | invariant | \
             bounds |\n|---|---|---|---|---|---|\n";
    for race in races.iter().filter(|race| race.is_first) {
        let never = race.header("Result:").trim_start_matches("Never. ");
        writeln!(
            text,
            "| {} | `{}` | {} | {never} | {} | {} |",
            race.bug.row,
            race.scenario,
            race.bug.references.join(", "),
            race.header("Invariant:"),
            race.header("Bounds:"),
        )
        .expect("memory");
    }
    if !not.is_empty() {
        text += "\n## What cannot be expressed\n\n| # | shipped in | race | why not, and what \
                 would be needed |\n|---|---|---|---|\n";
        for NotExpressed { row, references, what, reason } in not {
            writeln!(text, "| {row} | {references} | {what} | {reason} |").expect("memory");
        }
    }
    text
}

fn executions(finding: &Finding) -> String {
    let count = thousands(finding.executions);
    match finding.verdict.as_str() {
        "EXHAUSTED" => count,
        "" => "-".to_owned(),
        verdict => format!("{count}, {verdict}"),
    }
}

impl Race {
    /// How many CPUs the scenario has.
    pub(crate) fn cpus(&self) -> usize {
        crate::checkers::prepare(self.scenario).map_or(0, |it| it.plan.roles.len())
    }
}

/// One line for each checker, and who was sooner than the explorer.
pub(crate) fn summary(races: &[Race], findings: &[Finding], not: &[NotExpressed]) -> String {
    let bugs = races.iter().filter(|race| race.is_first).count();
    let all = plural(bugs + not.len(), "historical race");
    let mut text = format!("Of {all}, scenarios re-create {bugs}: ");
    let mut parts = Vec::new();
    let mut sooner = Vec::new();
    for column in Column::ALL {
        let (found, tried, before) = count(races, findings, column);
        if tried > 0 {
            let finds = if column == Column::Explorer { " finds" } else { "" };
            parts.push(format!("{}{finds} {found} of {tried}", column.title()));
        }
        if before > 0 && column != Column::Tso {
            sooner.push(format!("{} for {before}", column.title()));
        }
    }
    text += &parts.join(", ");
    if !sooner.is_empty() {
        write!(text, "; sooner than the explorer: {}", sooner.join(", ")).expect("memory");
    }
    text + ".\n"
}

/// The table on a terminal, and the summary.
pub(crate) fn terminal(races: &[Race], findings: &[Finding], not: &[NotExpressed]) -> String {
    let mut header = vec!["#", "scenario", "made again as", "executions"];
    header.extend(Column::ALL.map(Column::title));
    header.push("lines");
    let mut table = text::table(&header, 3..header.len());
    for (race, finding) in races.iter().zip(findings) {
        let mut cells = vec![
            Cell::new(race.bug.row),
            Cell::new(race.scenario),
            Cell::new(&race.how),
            Cell::new(executions(finding)),
        ];
        cells.extend(Column::ALL.map(|column| Cell::new(finding.of(column))));
        cells.push(Cell::new(race.file.lines));
        table.add_row(cells);
    }
    let mut text = text::lines(&table);
    for NotExpressed { row, what, reason, .. } in not {
        writeln!(text, "not expressed: {row}, {what}: {reason}").expect("memory");
    }
    text + "\n" + &summary(races, findings, not)
}

/// What is wrong with the findings: the explorer has to find every race with its own message.
pub(crate) fn complaints(races: &[Race], findings: &[Finding]) -> Vec<String> {
    let pairs = races.iter().zip(findings);
    let missed = pairs.filter_map(|(race, finding)| {
        let found = finding.of(Column::Explorer);
        if found.is_found() {
            return None;
        }
        let (scenario, how) = (race.scenario, &race.how);
        let again = match how {
            How::World(..) => format!("just model-check {scenario} --sabotage {how}"),
            How::Mutant(name) => format!("just mutants {name}"),
        };
        Some(match found {
            Found::NotIn(count) => {
                format!("{scenario}: {how} SURVIVED {} executions [{again}]", thousands(count))
            }
            Found::Survived => format!("{scenario}: {how} SURVIVED [{again}]"),
            Found::Otherwise(_) => {
                format!("{scenario}: {how} is caught with another message [{again}]")
            }
            _ => {
                let option = if matches!(how, How::Mutant(_)) { " --mutants" } else { "" };
                format!("{scenario}: {how} was never tried: run just races{option}")
            }
        })
    });
    missed.collect()
}
