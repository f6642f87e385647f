//! The table of rows, the table of twins, and what is said below them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use comfy_table::{Cell, Color};
use weft_backend_loom::engine::{FailureKind, Verdict};
use weft_backend_loom::report::Report;
use weft_core::sites::AnySite;
use weft_scenarios::sabotage::{Sabotage, Weakening};
use weft_scenarios::scenario::Grade;
use weft_shell::text::{fold, lines, plural, table, thousands};
use weft_shell::{checkout, exit};

use crate::checkers::{self, NAMES};
use crate::columns::{self, Telling, short_model};
use crate::summary::{Fate, Row, Summary};

/// Everything, as text.
pub(crate) fn text(summary: &Summary, telling: Telling) -> String {
    let sections = [
        rows(summary, columns::is_wide()) + &assumptions(summary),
        twins(summary),
        counterexamples(summary, telling),
        complaints(summary),
        conclusion(summary),
    ];
    let sections: Vec<String> = sections.into_iter().filter(|it| !it.is_empty()).collect();
    sections.join("\n")
}

/// So many scenarios are named of those that must notice a broken world.
const NAMED_MAX: usize = 4;

/// The columns of the table of rows, and whether a narrow terminal has room for them.
const COLUMNS: [(&str, bool); 12] = [
    ("scenario", true),
    ("CPUs", true),
    ("engine", true),
    ("model", false),
    ("verdict", true),
    ("executions", true),
    ("per s", false),
    ("blocked", false),
    ("depth", false),
    ("time", true),
    ("outcomes", true),
    ("situations", false),
];

fn rows(summary: &Summary, wide: bool) -> String {
    if summary.rows.is_empty() {
        return String::new();
    }
    let header: Vec<&str> = COLUMNS.iter().filter(|it| wide || it.1).map(|it| it.0).collect();
    let first_number = header.iter().position(|head| *head == "executions").unwrap_or(0);
    let mut table = table(&header, first_number..header.len());
    for row in &summary.rows {
        let cells = match &row.result {
            Ok(report) => report_cells(row, report),
            Err(error) => died_cells(row, error),
        };
        let cells = cells.into_iter().zip(COLUMNS).filter(|(_, column)| wide || column.1);
        table.add_row(cells.map(|(cell, _)| cell));
    }
    let mut text = lines(&table);
    for row in &summary.rows {
        if let Err(error) = &row.result {
            let (scenario, engine) = (row.plan.name, row.checker.name());
            writeln!(text, "DIED {scenario} under {engine}: {error}").expect("memory");
        }
    }
    text
}

fn report_cells(row: &Row, report: &Report) -> Vec<Cell> {
    let colour = match report.verdict {
        Verdict::Exhausted => Color::Green,
        Verdict::Bounded(_) | Verdict::CutShort { .. } => Color::Yellow,
        Verdict::Sampled(_) => Color::Cyan,
        Verdict::Failed => Color::Red,
    };
    let allowed = |grade| grade != Grade::Forbidden;
    let listed = row.plan.outcomes.iter().filter(|outcome| allowed(outcome.grade)).count();
    let met = row.plan.reached.iter().filter(|it| report.reached.contains(it.name)).count();
    let seconds = report.elapsed.as_secs_f64();
    let rate = report.executions as f64 / seconds.max(0.000_001);
    vec![
        Cell::new(row.plan.name),
        Cell::new(report.cpus),
        Cell::new(row.checker.name()),
        Cell::new(short_model(&report.model)),
        Cell::new(report.verdict).fg(colour),
        Cell::new(thousands(report.executions)),
        Cell::new(thousands(rate as u64)),
        Cell::new(blocked(report)),
        Cell::new(report.depth),
        Cell::new(format!("{seconds:.2} s")),
        Cell::new(format!("{}/{listed}", report.outcomes.len())),
        Cell::new(format!("{met}/{}", row.plan.reached.len())),
    ]
}

fn died_cells(row: &Row, _error: &str) -> Vec<Cell> {
    let mut cells = vec![
        Cell::new(row.plan.name),
        Cell::new(row.plan.roles.len()),
        Cell::new(row.checker.name()),
        Cell::new(short_model(row.checker.traits().memory_model)),
        Cell::new("DIED").fg(Color::Red),
    ];
    cells.extend((0..7).map(|_| Cell::new("-")));
    cells
}

fn blocked(report: &Report) -> String {
    if report.blocked == 0 { "-".to_owned() } else { thousands(report.blocked) }
}

/// Whether weak memory shows at all: where every model has the same executions, it does not.
fn robustness(summary: &Summary) -> String {
    let reports = || summary.rows.iter().filter_map(|row| row.result.as_ref().ok());
    let compared: Vec<&Report> = reports().filter(|report| report.is_robust().is_some()).collect();
    if compared.is_empty() {
        return String::new();
    }
    let weak: Vec<&&Report> =
        compared.iter().filter(|report| report.is_robust() == Some(false)).collect();
    let mut text = format!(
        "robust: {} of {} scenarios have the same executions under RC11, TSO and SC\n",
        compared.len() - weak.len(),
        compared.len()
    );
    for report in weak {
        let others: Vec<String> =
            report.other_models.iter().map(|(model, count)| format!("{model} {count}")).collect();
        let Report { scenario, model, executions, .. } = report;
        text += &format!("  {scenario}: {model} {executions}, {}\n", others.join(", "));
    }
    text
}

/// The fine print of the memory models, and what reports say besides.
fn assumptions(summary: &Summary) -> String {
    let mut lines = BTreeSet::new();
    for row in &summary.rows {
        let Ok(report) = &row.result else { continue };
        if let Some((_, print)) = report.model.split_once(" (") {
            lines.insert(format!("{} assumes: {}", report.engine, print.trim_end_matches(')')));
        }
        for caveat in &report.caveats {
            let reports = summary.rows.iter().filter_map(|row| row.result.as_ref().ok());
            let mut same_engine = reports.filter(|other| other.engine == report.engine);
            lines.insert(if same_engine.all(|other| other.caveats.contains(caveat)) {
                format!("{}: {caveat}", report.engine)
            } else {
                format!("{} under {}: {caveat}", report.scenario, report.engine)
            });
        }
    }
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    let text = robustness(summary) + &text;
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// One line per twin, one column per engine.
fn twins(summary: &Summary) -> String {
    if summary.twins.is_empty() {
        return String::new();
    }
    let mut engines: Vec<&str> = Vec::new();
    for twin in &summary.twins {
        if !engines.contains(&twin.engine) {
            engines.push(twin.engine);
        }
    }
    let heads: Vec<String> =
        engines.iter().map(|engine| format!("caught by {engine} in")).collect();
    let mut header = vec!["scenario", "twin", "must be caught with"];
    header.extend(heads.iter().map(String::as_str));
    let mut table = table(&header, 3..header.len());
    for group in summary.twins.chunk_by(|a, b| (a.scenario, a.number) == (b.scenario, b.number)) {
        let twin = &group[0];
        let mut cells = vec![
            Cell::new(twin.scenario),
            Cell::new(twin.sabotage.described()),
            Cell::new(twin.message),
        ];
        for engine in &engines {
            let fate = group.iter().find(|twin| twin.engine == *engine).map(|twin| &twin.fate);
            cells.push(fate_cell(fate));
        }
        table.add_row(cells);
    }
    lines(&table)
}

fn fate_cell(fate: Option<&Fate>) -> Cell {
    match fate {
        None => Cell::new("-"),
        Some(Fate::Caught { executions }) => Cell::new(thousands(*executions)).fg(Color::Green),
        Some(Fate::CaughtOtherwise { .. }) => Cell::new("another message").fg(Color::Red),
        Some(Fate::Survived { .. }) => Cell::new("SURVIVED").fg(Color::Red),
        Some(Fate::Died(_)) => Cell::new("DIED").fg(Color::Red),
    }
}

/// The counterexamples. The same failure of one scenario is told once, however many engines have
/// found it.
fn counterexamples(summary: &Summary, telling: Telling) -> String {
    let mut text = String::new();
    let mut told: BTreeSet<(&str, &str)> = BTreeSet::new();
    for row in &summary.rows {
        let Ok(report) = &row.result else { continue };
        let Some(failure) = &report.failure else { continue };
        if !text.is_empty() {
            text.push('\n');
        }
        if told.insert((row.plan.name, &failure.message)) {
            text += &columns::counterexample(report, failure, columns::width(), telling);
        } else {
            let (scenario, engine) = (row.plan.name, row.checker.name());
            writeln!(text, "FAILED {scenario}   {engine}: the same").expect("memory");
        }
        text += &replay_line(row, failure.class);
        if let Some(page) = &row.page {
            writeln!(text, "  PAGE      {}", checkout::from_here(page).display())
                .expect("a string takes any text");
        }
    }
    text
}

fn replay_line(row: &Row, class: FailureKind) -> String {
    match &row.token {
        Some(token) => format!("  REPLAY    just replay {}\n", quoted(token)),
        None if class == FailureKind::Internal => String::new(),
        None => {
            format!("  REPLAY    {} cannot replay: see the other engines\n", row.checker.name())
        }
    }
}

/// A token as a shell takes it.
pub(crate) fn quoted(token: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:@".contains(c);
    if token.chars().all(is_plain) { token.to_owned() } else { format!("'{token}'") }
}

fn complaints(summary: &Summary) -> String {
    let mut text = String::new();
    let width = usize::from(columns::width());
    let mut say = |word: &str, sentence: &str| {
        let sentence = format!("{word} {sentence}");
        for (number, line) in fold(&sentence, width - 2).iter().enumerate() {
            let indent = if number == 0 { "" } else { "  " };
            writeln!(text, "{indent}{line}").expect("a string takes any text");
        }
    };
    for twin in &summary.twins {
        let (scenario, engine) = (twin.scenario, twin.engine);
        let number = twin.number + 1;
        let broken = checkers::described(scenario, twin.sabotage);
        let title = format!("{scenario} twin {number} ({broken}) under {engine}");
        let again =
            format!("just model-check {scenario} --engine {engine} --sabotage {}", twin.sabotage);
        match &twin.fate {
            Fate::Caught { .. } => {}
            Fate::CaughtOtherwise { message, .. } => say(
                "TWIN",
                &format!(
                    "{title} was caught with another message: \"{message}\" [{again}]; if that is \
                     the invariant's own, write {}",
                    to_write(twin.sabotage, message)
                ),
            ),
            Fate::Survived { verdict } => {
                say("TWIN", &format!("{title} SURVIVED: {verdict} [{again}]"));
            }
            Fate::Died(error) => say("TWIN", &format!("{title} DIED: {error}")),
        }
    }
    summary.disagreements.iter().for_each(|sentence| say("DISAGREEMENT", sentence));
    summary.missing.iter().for_each(|sentence| say("MISSING", sentence));
    if !summary.missing.is_empty() {
        say(
            "TRY",
            "a longer search, or one without a bound; after one that is EXHAUSTED, change the \
             roles: none gets there",
        );
    }
    survivals(summary).iter().for_each(|sentence| say("SURVIVED", sentence));
    summary.not_exhausted.iter().for_each(|sentence| say("NOT EXHAUSTED", sentence));
    summary.internal.iter().for_each(|sentence| say("INTERNAL", sentence));
    text
}

/// Which scenarios did not notice that the world is broken, and which must.
fn survivals(summary: &Summary) -> Vec<String> {
    let Some(sabotage) = summary.sabotage.filter(|_| summary.exit() == exit::MISSING) else {
        return Vec::new();
    };
    let plans = NAMES.iter().filter_map(|name| Some(checkers::prepare(name)?.plan));
    let mut must: Vec<&str> = plans
        .filter(|plan| plan.twins.iter().any(|(twin, _)| *twin == sabotage))
        .map(|plan| plan.name)
        .collect();
    let all = must.len();
    must.truncate(NAMED_MAX);
    let more =
        if all > NAMED_MAX { format!(" and {} more", all - NAMED_MAX) } else { String::new() };
    let hint = if must.is_empty() {
        "no scenario lists it as a twin".to_owned()
    } else {
        format!("scenarios that must notice it: {}{more}", must.join(", "))
    };
    let survivals = summary.rows.iter().filter_map(|row| {
        let report = row.result.as_ref().ok()?;
        let (scenario, engine, verdict) = (row.plan.name, row.checker.name(), report.verdict);
        Some(format!("{scenario} under {engine} ({verdict}): no execution fails; {hint}"))
    });
    survivals.collect()
}

/// What a scenario file says of a sabotage that must be caught with this message.
pub(crate) fn to_write(sabotage: Sabotage, message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    match sabotage {
        Sabotage::Weakened(Weakening { site: AnySite::Access(site), .. }) => {
            format!("weakened(&sites::{}, {message:?})", site.row.name)
        }
        Sabotage::Weakened(Weakening { site: AnySite::Fence(site), .. }) => {
            format!("weakened_fence(&sites::{}, {message:?})", site.row.name)
        }
        Sabotage::ForgottenCpu(cpu) => format!("forgotten_cpu({cpu}, {message:?})"),
        Sabotage::ForgottenHolder(cpu) => format!("forgotten_holder({cpu}, {message:?})"),
        Sabotage::Mistake(name) => format!("mistake({name:?}, .., {message:?})"),
        named => format!("{}({message:?})", named.to_string().replace('-', "_")),
    }
}

/// One line that says what all of it means.
pub(crate) fn conclusion(summary: &Summary) -> String {
    let count = |word| {
        let reports = summary.rows.iter().filter_map(|row| row.result.as_ref().ok());
        reports.filter(|report| report.verdict.word() == word).count()
    };
    let scenarios: BTreeSet<&str> = summary.rows.iter().map(|row| row.plan.name).collect();
    let caught = summary.twins.iter().filter(|it| matches!(it.fate, Fate::Caught { .. })).count();
    let word = match summary.exit() {
        exit::GOOD => "GOOD: no violation",
        exit::VIOLATION => "VIOLATION",
        exit::MISSING => "MISSING: something expected was never met, or a twin was not caught",
        exit::BOUNDED => "BOUNDED where exhaustion was demanded",
        exit::INTERRUPTED => "INTERRUPTED: this is what finished",
        _ => "INTERNAL ERROR",
    };
    let word = match (summary.exit(), summary.sabotage) {
        (exit::VIOLATION, Some(broken)) => {
            format!("CAUGHT in a broken world: {}", broken.described())
        }
        (exit::MISSING, Some(broken)) => {
            format!("SURVIVED in a broken world: {}", broken.described())
        }
        _ => word.to_owned(),
    };
    let mut text = format!("{word}; {}", plural(scenarios.len(), "scenario"));
    for word in Verdict::WORDS {
        if count(word) > 0 {
            write!(text, ", {} {word}", count(word)).expect("a string takes any text");
        }
    }
    if !summary.twins.is_empty() {
        write!(text, ", twins {caught}/{} caught", summary.twins.len()).expect("memory");
    }
    if summary.unfinished > 0 {
        write!(text, ", {} not finished", summary.unfinished).expect("a string takes any text");
    }
    format!("{text}, in {:.1} s\n", summary.elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scenario_has_to_say_is_its_own_text() {
        for (sabotage, written) in [
            ("LOCK_RELEASE", "weakened(&sites::LOCK_RELEASE, \"a \\\"b\\\"\")"),
            ("FLUSH_ORDER", "weakened_fence(&sites::FLUSH_ORDER, \"a \\\"b\\\"\")"),
            ("forgotten-holder-1", "forgotten_holder(1, \"a \\\"b\\\"\")"),
            ("forgotten-cpu-0", "forgotten_cpu(0, \"a \\\"b\\\"\")"),
            ("no-shootdown", "no_shootdown(\"a \\\"b\\\"\")"),
            ("mistake-frees-first", "mistake(\"frees-first\", .., \"a \\\"b\\\"\")"),
        ] {
            let sabotage: Sabotage = sabotage.parse().expect("it is one");
            assert_eq!(to_write(sabotage, "a \"b\"\nand more"), written);
        }
    }

    #[test]
    fn tokens_are_quoted_where_a_shell_would_stumble() {
        assert_eq!(quoted("wt2:00c0ffee:a_vs_b:loom:-:p3.e1"), "wt2:00c0ffee:a_vs_b:loom:-:p3.e1");
        assert_eq!(
            quoted("wt2:00c0ffee:a_vs_b:explorer:-:1<2"),
            "'wt2:00c0ffee:a_vs_b:explorer:-:1<2'"
        );
    }

    #[test]
    fn fine_print_is_left_out_of_the_table() {
        assert_eq!(short_model("C11 (no load buffering)"), "C11");
        assert_eq!(short_model("SC + happens-before"), "SC + happens-before");
    }
}
