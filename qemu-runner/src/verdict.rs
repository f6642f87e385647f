//! What a run means.
//!
//! Where the kernel has its tables compared, the comparison must have been made, and agree.
//!
//! A pass needs four things that agree: the announced number of scenarios, the line that says that
//! ours passed, as often as asked for, the closing line, and the exit status. A panic or an answer
//! to the question where everybody is can never be part of a pass. What is missing decides what
//! the failure is called.

use std::fmt;
use std::time::Duration;

use crate::machine::{Ending, Run};
use crate::protocol::Line;
use crate::walker::{self, Comparison};

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The name of the scenario or self-test.
    pub name: String,
    /// How often it was to be repeated.
    pub repetitions: u64,
}

/// Where a processor was when it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which processor.
    pub cpu: u64,
    /// The address of its next instruction.
    pub rip: u64,
    /// Whether it could be interrupted.
    pub interruptible: bool,
}

/// What went wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// A condition was broken: the kernel says which.
    Violation {
        /// On which processor.
        cpu: u64,
        /// The condition.
        message: String,
        /// Where in the source.
        location: String,
    },
    /// Nothing came of it until the deadline.
    Hang(Vec<Place>),
    /// The machine was reset by a fault that nobody handled.
    Reset,
    /// The kernel ended without having said all that belongs to a pass.
    Incomplete(String),
    /// QEMU did not do its part.
    Internal(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation { message, .. } => f.write_str(message),
            Self::Hang(places) if places.is_empty() => f.write_str("hang: no processor answers"),
            Self::Hang(places) => write!(f, "hang: {} processors answered", places.len()),
            Self::Reset => f.write_str("the machine was reset by a fault that nobody handled"),
            Self::Incomplete(what) => write!(f, "the kernel did not finish: {what}"),
            Self::Internal(what) => f.write_str(what),
        }
    }
}

/// How often something was seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Count {
    /// What.
    pub name: String,
    /// How often.
    pub times: u64,
    /// Whether a search that tries the race sees it.
    pub expected: bool,
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
    /// How many processors there were.
    pub cpus: u64,
    /// The outcomes that the scenario lists, forbidden ones left out.
    pub outcomes: Vec<Count>,
    /// The situations that the scenario lists.
    pub situations: Vec<Count>,
    /// What else was counted.
    pub metrics: Vec<(String, u64)>,
    /// How long it took.
    pub elapsed: Duration,
    /// What the kernel wrote, as a number.
    pub fingerprint: u64,
    /// The end of what the kernel said besides.
    pub log: Vec<String>,
}

impl Verdict {
    /// The verdict where there was no run.
    pub fn without_run(sentence: String) -> Self {
        Self {
            failure: Some(Failure::Internal(sentence)),
            cpus: 0,
            outcomes: Vec::new(),
            situations: Vec::new(),
            metrics: Vec::new(),
            elapsed: Duration::ZERO,
            fingerprint: 0,
            log: Vec::new(),
        }
    }

    /// The verdict of several boots for the same, which are at least one. The first failure is
    /// told; what was counted is added up over the others.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn of_all(verdicts: Vec<Self>) -> Self {
        let elapsed = verdicts.iter().map(|verdict| verdict.elapsed).sum();
        let prints = verdicts.iter().map(|verdict| verdict.fingerprint);
        let fingerprint = prints.reduce(fold_prints).expect("there is a boot");
        let (failed, passed): (Vec<_>, Vec<_>) =
            verdicts.into_iter().partition(|verdict| verdict.failure.is_some());
        let passed = passed.into_iter().reduce(Self::with_counts_of);
        let first = failed.into_iter().next();
        let verdict = match (first, passed) {
            (Some(Self { failure, log, .. }), Some(passed)) => Self { failure, log, ..passed },
            (first, passed) => first.or(passed).expect("there is a boot"),
        };
        Self { elapsed, fingerprint, ..verdict }
    }

    /// Adds what another boot of the same has counted.
    fn with_counts_of(mut self, other: Self) -> Self {
        let pairs = self.outcomes.iter_mut().zip(other.outcomes);
        for (own, more) in pairs.chain(self.situations.iter_mut().zip(other.situations)) {
            own.times += more.times;
        }
        for (name, more) in other.metrics {
            match self.metrics.iter_mut().find(|(known, _)| *known == name) {
                Some((_, value)) => *value += more,
                None => self.metrics.push((name, more)),
            }
        }
        self
    }

    /// Whether it failed with a message that has one of these parts. A hang or a reset has none.
    pub fn fails_with(&self, parts: &[String]) -> bool {
        match &self.failure {
            Some(Failure::Violation { message, .. }) => {
                parts.iter().any(|part| message.contains(part))
            }
            _ => false,
        }
    }

    /// The metric called `name`; 0 if it was not reported.
    pub fn metric(&self, name: &str) -> u64 {
        self.metrics.iter().find(|(known, _)| known == name).map_or(0, |(_, value)| *value)
    }

    /// What should have been seen and was not.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        let counts = self.outcomes.iter().chain(&self.situations);
        counts.filter(|count| count.expected && count.times == 0).map(|count| count.name.as_str())
    }
}

/// Of two fingerprints the one of both, in this order.
pub(crate) fn fold_prints(all: u64, one: u64) -> u64 {
    all.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ one
}

/// The verdict on a run.
pub fn of(request: &Request, run: &Run) -> Verdict {
    let mut verdict = Verdict {
        failure: failure(request, run),
        cpus: 0,
        outcomes: Vec::new(),
        situations: Vec::new(),
        metrics: Vec::new(),
        elapsed: run.elapsed,
        fingerprint: run.fingerprint,
        log: run.log.clone(),
    };
    for line in &run.lines {
        match line {
            Line::Boot { cpus, .. } => verdict.cpus = *cpus,
            Line::Outcome { name, grade, times } if grade != "forbidden" => {
                let expected = grade == "interesting";
                verdict.outcomes.push(Count { name: name.clone(), times: *times, expected });
            }
            Line::Situation { name, times } => {
                let count = Count { name: name.clone(), times: *times, expected: true };
                verdict.situations.push(count);
            }
            Line::Ready {} => {
                if let Some(Comparison::Agreed(pages)) = comparison(run) {
                    verdict.metrics.push((walker::AGREED.to_owned(), pages));
                }
            }
            Line::Metric { name, value } => verdict.metrics.push((name.clone(), *value)),
            _ => {}
        }
    }
    verdict
}

/// What came of the comparison of two walks, if the kernel has printed its own.
fn comparison(run: &Run) -> Option<Comparison> {
    let has_pages = run.lines.iter().any(|line| matches!(line, Line::Pages { .. }));
    match &run.walk {
        Some(walk) => {
            let walk = walk.as_ref().map(String::as_str).map_err(String::as_str);
            Some(walker::compare(&run.lines, walk))
        }
        None if has_pages => {
            let sentence = "pages were printed and nobody was asked to compare them";
            Some(Comparison::Impossible(sentence.to_owned()))
        }
        None => None,
    }
}

fn failure(request: &Request, run: &Run) -> Option<Failure> {
    let violation = run.lines.iter().find_map(|line| match line {
        Line::Panic { cpu, message, location } => Some(Failure::Violation {
            cpu: *cpu,
            message: message.clone(),
            location: location.clone(),
        }),
        _ => None,
    });
    if violation.is_some() {
        return violation;
    }
    match run.ending {
        Ending::Hung => Some(Failure::Hang(places(run))),
        Ending::Reset => Some(Failure::Reset),
        Ending::Qemu(Some(status)) => {
            let words = run.last_words();
            Some(Failure::Internal(format!("QEMU ended with status {status}: {words}")))
        }
        Ending::Qemu(None) => {
            Some(Failure::Internal(format!("QEMU was killed: {}", run.last_words())))
        }
        Ending::Bad => Some(Failure::Incomplete("it failed and did not say why".to_owned())),
        Ending::Good => match comparison(run) {
            Some(Comparison::Differ(message)) => {
                let location = format!("the monitor's {}", walker::COMMAND);
                Some(Failure::Violation { cpu: 0, message, location })
            }
            Some(Comparison::Impossible(sentence)) => Some(Failure::Incomplete(sentence)),
            Some(Comparison::Agreed(_)) | None => {
                incompleteness(request, run).map(Failure::Incomplete)
            }
        },
    }
}

fn places(run: &Run) -> Vec<Place> {
    let mut places: Vec<Place> = run
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Hang { cpu, rip, interruptible } => {
                Some(Place { cpu: *cpu, rip: *rip, interruptible: *interruptible != 0 })
            }
            _ => None,
        })
        .collect();
    places.sort_by_key(|place| place.cpu);
    places
}

/// What a run that ended well did not say.
fn incompleteness(request: &Request, run: &Run) -> Option<String> {
    let announced: Vec<u64> = run
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Announce { count } => Some(*count),
            _ => None,
        })
        .collect();
    if announced != [1] {
        return Some(format!("it announced {announced:?} scenarios instead of one"));
    }
    let passed = run.lines.iter().any(|line| {
        matches!(line, Line::Passed { name, repetitions }
            if *name == request.name && *repetitions == request.repetitions)
    });
    if !passed {
        let Request { name, repetitions } = request;
        return Some(format!("it did not say that {name} passed {repetitions} times"));
    }
    match run.lines.last() {
        Some(Line::Done { passed: 1 }) => None,
        _ => Some("its closing line is missing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request { name: "lock_vs_lock".to_owned(), repetitions: 7 }
    }

    fn run(ending: Ending, lines: &[&str]) -> Run {
        Run {
            ending,
            lines: lines.iter().map(|line| Line::parse(line).expect("a line")).collect(),
            log: Vec::new(),
            complaints: vec!["no such device".to_owned()],
            walk: None,
            fingerprint: 0,
            elapsed: Duration::ZERO,
        }
    }

    const PASS: [&str; 4] =
        ["@boot\t4\t100", "@announce\t1", "@passed\tlock_vs_lock\t7", "@done\t1"];

    fn said(ending: Ending, lines: &[&str]) -> String {
        let failure = of(&request(), &run(ending, lines)).failure;
        failure.map_or("passed".to_owned(), |failure| failure.to_string())
    }

    #[test]
    fn a_pass_needs_all_four() {
        assert_eq!(said(Ending::Good, &PASS), "passed");
        for left_out in PASS.into_iter().skip(1) {
            let lines: Vec<&str> = PASS.into_iter().filter(|line| *line != left_out).collect();
            assert_ne!(said(Ending::Good, &lines), "passed", "without {left_out:?}");
        }
        for ending in [Ending::Bad, Ending::Reset, Ending::Hung, Ending::Qemu(Some(1))] {
            assert_ne!(said(ending, &PASS), "passed", "{ending:?}");
        }
    }

    #[test]
    fn numbers_and_names_have_to_agree() {
        for (index, other) in [
            (1, "@announce\t2"),
            (2, "@passed\tlock_vs_lock\t6"),
            (2, "@passed\twalk_vs_map\t7"),
            (3, "@done\t2"),
        ] {
            let mut lines = PASS.to_vec();
            lines[index] = other;
            assert_ne!(said(Ending::Good, &lines), "passed", "with {other:?}");
        }
    }

    #[test]
    fn a_panic_outweighs_an_exit_that_looks_good() {
        let mut lines = PASS.to_vec();
        lines.insert(2, "@panic\t1\tleak: 1 frame\tsrc/a.rs:1");
        assert_eq!(said(Ending::Good, &lines), "leak: 1 frame");
    }

    #[test]
    fn pages_that_are_printed_have_to_be_compared() {
        let mut lines = PASS.to_vec();
        lines.insert(2, "@pages\t8192\t4096\t1\t2\t0\t1");
        assert!(said(Ending::Good, &lines).contains("nobody was asked"));
        let said = |walk: Result<&str, &str>| {
            let mut run = run(Ending::Good, &lines);
            run.walk = Some(walk.map(str::to_owned).map_err(str::to_owned));
            of(&request(), &run).failure.map(|failure| failure.to_string())
        };
        assert_eq!(said(Ok("2000: 1000 ---------")), None);
        let other = said(Ok("2000: 3000 ---------")).expect("a failure");
        assert!(other.contains("disagrees with the core's at 1 of 1 pages; at 0x2000"), "{other}");
        assert_eq!(said(Err("away")).as_deref(), Some("the kernel did not finish: away"));
    }

    #[test]
    fn boots_that_pass_are_added_up_and_the_first_that_fails_is_told() {
        let boot = |failure: Option<&str>, print| {
            let lines = ["@outcome\ta\tacceptable\t3", "@metric\tpage faults\t2"];
            let mut verdict = of(&request(), &run(Ending::Good, &lines));
            let violation = |message: &str| Failure::Violation {
                cpu: 1,
                message: message.to_owned(),
                location: String::new(),
            };
            verdict.failure = failure.map(violation);
            Verdict { elapsed: Duration::from_secs(1), fingerprint: print, ..verdict }
        };
        let alone = Verdict::of_all(vec![boot(Some("leak"), 7)]);
        assert_eq!((alone.fingerprint, alone.outcomes[0].times), (7, 3));
        let all = [None, Some("use after free"), None, Some("leak")];
        let verdicts = all.iter().zip(0..).map(|(failure, print)| boot(*failure, print));
        let verdict = Verdict::of_all(verdicts.collect());
        assert!(verdict.fails_with(&["after free".to_owned()]));
        assert!(!verdict.fails_with(&["leak".to_owned()]), "the first one is told");
        assert_eq!((verdict.outcomes[0].times, verdict.metric("page faults")), (6, 4));
        assert_eq!(verdict.elapsed, Duration::from_secs(4));
        let other = [1, 0, 2, 3].map(|print| boot(None, print));
        assert_ne!(Verdict::of_all(other.into()).fingerprint, verdict.fingerprint);
    }

    #[test]
    fn what_qemu_says_is_passed_on() {
        let said = said(Ending::Qemu(Some(1)), &[]);
        assert_eq!(said, "QEMU ended with status 1: no such device");
    }

    #[test]
    fn garbage_is_cut_to_what_fits_into_a_sentence() {
        let mut run = run(Ending::Qemu(None), &[]);
        run.complaints = vec!["\u{1}\u{fffd}".repeat(1000); 50];
        let failure = of(&request(), &run).failure.expect("it was killed").to_string();
        assert!(failure.starts_with("QEMU was killed: "), "{failure}");
        assert!(failure.chars().count() < 600, "{failure}");
        assert!(!failure.contains(char::is_control), "{failure:?}");
        run.complaints.clear();
        let failure = of(&request(), &run).failure.expect("it was killed").to_string();
        assert_eq!(failure, "QEMU was killed: it said nothing");
    }

    #[test]
    fn expected_things_that_were_not_seen_are_missing() {
        let lines = [
            "@outcome\ta\tinteresting\t0",
            "@outcome\tb\tacceptable\t0",
            "@outcome\tc\tforbidden\t0",
            "@situation\td\t0",
            "@situation\te\t3",
        ];
        let verdict = of(&request(), &run(Ending::Good, &lines));
        assert_eq!(verdict.missing().collect::<Vec<_>>(), ["a", "d"]);
    }
}
