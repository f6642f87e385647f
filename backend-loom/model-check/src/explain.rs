//! Why an execution fails, in sentences made from the execution alone.

use weft_backend_loom::report::{Counterexample, Line, Report, Size};
use weft_core::sites::ALL;
use weft_scenarios::detector::{
    DATA_RACE, DEADLOCK, LEAK, NOT_LINEARIZABLE, USE_AFTER_FREE, USE_BEFORE_ALLOCATION,
};
use weft_scenarios::sabotage::{Sabotage, Weakening};
use weft_shell::text::{plural, thousands};

/// What is missing, and what says that it should be there.
pub(crate) fn why(report: &Report, failure: &Counterexample) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(detail) = &failure.detail {
        sentences.push(detail.clone());
    } else if let Some(missing) = &failure.missing {
        let [from, to] = [missing.from, missing.to].map(|index| &failure.lines[index]);
        sentences.push(if to.missed.is_some() {
            format!(
                "step {} of CPU {} uses an old value of {}: it misses step {} of CPU {}",
                missing.to + 1,
                to.cpu,
                place(to),
                missing.from + 1,
                from.cpu
            )
        } else {
            format!(
                "step {} of CPU {} comes behind step {} of CPU {}",
                missing.to + 1,
                to.cpu,
                missing.from + 1,
                from.cpu
            )
        });
    }
    if let Some(Sabotage::Weakened(weakening)) = report.sabotage {
        sentences.push(argument(weakening));
    }
    sentences
}

/// What to try where a detector says this.
const TO_TRY: [(&str, &str); 7] = [
    (
        USE_AFTER_FREE,
        "retire the frame instead of freeing it, and read what leads to it inside of a section",
    ),
    (
        USE_BEFORE_ALLOCATION,
        "write all of it before it is published, with Release, and read what leads to it with \
         Acquire",
    ),
    (
        DATA_RACE,
        "take the same lock on both CPUs, or let one of them read with Acquire what the other has \
         stored with Release in between",
    ),
    (
        DEADLOCK,
        "take locks in one order, parents first, and wait for no answer while interrupts are \
         masked",
    ),
    (LEAK, "see who has the last reference, and whether what is retired is handed over"),
    (
        NOT_LINEARIZABLE,
        "look for a value that is read before another CPU changes it and used behind that: both \
         belong under one lock",
    ),
    // Whatever a scenario calls it.
    ("is lost", "change what others change too by one read-modify-write, and keep what it returns"),
];

/// What to try against a failure of this kind.
pub(crate) fn to_try(failure: &Counterexample) -> Option<&'static str> {
    let of_hardware =
        |line: &Line| line.missed.is_some() && line.site.as_deref() == Some("hardware");
    if failure.lines.iter().any(of_hardware) {
        return Some(
            "flush the page before its frame or its rights are used, and ask every CPU that may \
             hold it",
        );
    }
    let said = TO_TRY.iter().find(|(says, _)| failure.message.contains(says));
    said.map(|(_, hint)| *hint)
}

/// Where it failed: the place that failed, or, where the models found it out themselves, that of
/// the step.
pub(crate) fn location(failure: &Counterexample) -> Option<&str> {
    let step = failure.lines.iter().rfind(|line| line.fails).map(|line| line.at.as_str());
    let is_ours = |at: &&str| !at.starts_with("backend-loom/src/");
    failure.location.as_deref().filter(is_ours).or(step.filter(is_ours))
}

/// A message in lines: what a history is made of has a line each.
pub(crate) fn message(failure: &Counterexample) -> String {
    match failure.message.split_once(NOT_LINEARIZABLE) {
        Some(("", history)) => {
            let history = history.replacen(": ", "\n", 1).replace("; ", "\n");
            format!("{NOT_LINEARIZABLE}{}", history.replacen(", in the end ", "\nin the end ", 1))
        }
        _ => failure.message.clone(),
    }
}

/// How small the execution is, and what that is worth.
pub(crate) fn size(failure: &Counterexample) -> Option<String> {
    let Size { switches, searched, is_smallest } = failure.size?;
    let switches = match switches {
        1 => "1 switch".to_owned(),
        _ => format!("{switches} switches"),
    };
    let steps = plural(failure.lines.len(), "step");
    let worth = if is_smallest {
        "the smallest that fails with this message".to_owned()
    } else {
        format!("the smallest of those in {} that were tried", thousands(searched))
    };
    Some(format!("{switches} of CPU, {steps}: {worth}"))
}

/// The argument of the site that is weaker.
fn argument(weakening: Weakening) -> String {
    let row = weakening.site.row();
    let partners = row.partners.join(", ");
    format!("{} is weaker; with {partners} it carries: {}", row.name, row.carries)
}

/// What a step is about.
fn place(line: &Line) -> &str {
    line.text.split([' ', ':']).next().unwrap_or_default()
}

/// The steps that decide, each as a sentence with its number.
pub(crate) fn story(failure: &Counterexample) -> Vec<(usize, String)> {
    let lines = failure.lines.iter().enumerate().filter(|(_, line)| line.decides);
    lines.map(|(index, line)| (index + 1, sentence(failure, line))).collect()
}

fn sentence(failure: &Counterexample, line: &Line) -> String {
    let cpus = failure.roles.len();
    let actor = match failure.roles.get(line.cpu) {
        Some(role) => format!("CPU {} ({role})", line.cpu),
        None => format!("When the race is over, CPU {}", cpus - 1),
    };
    let mut text = format!("{actor} {}", done(&line.text));
    if let Some(missed) = line.missed {
        let by = failure.lines[missed].cpu;
        text += &format!(", an old value: CPU {by} had written a newer one in step {}", missed + 1);
    } else if let Some(from) = line.reads_from
        && failure.lines[from].cpu != line.cpu
    {
        text += &format!(", as CPU {} wrote it in step {}", failure.lines[from].cpu, from + 1);
    }
    if let Some(site) =
        line.site.as_deref().filter(|site| ALL.iter().any(|it| it.row().name == *site))
    {
        let order = line.order.as_deref().map_or(String::new(), |order| format!(", {order}"));
        text += &format!(" ({site}{order})");
    } else if line.site.as_deref() == Some("hardware") {
        text += " (paging hardware)";
    }
    if line.fails {
        text += ", and there the execution fails";
    }
    text.push('.');
    if !line.state.is_empty() {
        text += &format!(" Then: {}.", line.state);
    }
    text
}

/// An operation as a verb and its object.
fn done(text: &str) -> String {
    if let Some((place, value)) = text.split_once(" -> ") {
        return format!("reads {place} and finds {value}");
    }
    if let Some((place, value)) = text.split_once(" := ") {
        return format!("writes {value} to {place}");
    }
    if let Some((place, values)) = text.split_once(": ")
        && let Some((before, after)) = values.split_once(" => ")
    {
        return format!("changes {place} from {before} to {after}");
    }
    for (verb, said) in [
        ("lock ", "locks "),
        ("unlock ", "unlocks "),
        ("allocate ", "allocates "),
        ("free ", "frees "),
        ("fence", "passes a fence"),
    ] {
        if let Some(object) = text.strip_prefix(verb) {
            return format!("{said}{object}");
        }
    }
    if text.is_empty() { "goes on".to_owned() } else { text.to_owned() }
}
