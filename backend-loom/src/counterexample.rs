//! A failing execution, told with names instead of addresses.
//!
//! An engine says what failed and where; the ghost state knows what every CPU did. Together they
//! give one line per step: who, what, what that changed, which write a read saw or missed, and
//! whether the failure hangs on it. Steps that only serve the checks (the life cells of frames) are
//! left out, except for the one that failed.
//!
//! An engine reports an unordered pair of plain accesses without knowing what the cells mean. The
//! message names the invariant instead: a race on a frame's `died` cell is a use after free, on
//! its `born` cell a use before allocation.

mod deciding;
mod names;
mod tables;

use std::collections::{BTreeMap, BTreeSet};

use weft_core::address::Paddr;
use weft_core::sync::Event;
use weft_scenarios::detector::{DATA_RACE, DEADLOCK, LEAK, USE_AFTER_FREE, USE_BEFORE_ALLOCATION};
use weft_scenarios::sabotage::Sabotage;

use self::deciding::Candidate;
use self::names::Names;
use crate::engine::{Action, Arrangement, Failure, FailureKind, Operation};
use crate::ghost::{Ghost, Label, Record, Step};
use crate::report::{Blocked, Counterexample, Line, MissingOrder};

/// The counterexample of a failure; without ghost state it has no lines.
pub(crate) fn of(
    failure: &Failure,
    roles: Vec<String>,
    ghost: Option<&Ghost>,
    sabotage: Option<Sabotage>,
) -> Counterexample {
    let told = ghost.map(|ghost| {
        let teller = Teller::new(ghost, roles.len(), failure.arrangement.as_deref());
        teller.tell_all(failure, sabotage)
    });
    let told = told.unwrap_or_default();
    let blamed = ghost.and_then(Ghost::blamed).map(ToString::to_string);
    Counterexample {
        message: told.message.unwrap_or_else(|| failure.message.clone()),
        detail: told.detail,
        class: failure.kind,
        location: blamed.or_else(|| failure.location.clone()),
        roles,
        before: told.before,
        lines: told.lines,
        missing: told.missing,
        waiting: told.waiting,
        blocked: told.blocked,
        size: failure.size,
        token: failure.token.clone(),
    }
}

/// What is told of a failing execution.
#[derive(Default)]
struct Story {
    message: Option<String>,
    detail: Option<String>,
    before: Vec<crate::report::Change>,
    lines: Vec<Line>,
    missing: Option<MissingOrder>,
    waiting: Vec<String>,
    blocked: Vec<Blocked>,
}

/// A step that is told, and what the core says that it led to.
struct Told<'a> {
    record: Record,
    /// What the engine knows of it.
    operation: Option<&'a Operation>,
    events: Vec<Step>,
    /// It was not reached: what the text says happens instead.
    instead: Option<String>,
    fails: bool,
}

/// Tells records.
struct Teller<'a> {
    records: Vec<Record>,
    pending: Vec<Option<Record>>,
    held: Vec<(usize, Label)>,
    labels: BTreeMap<u32, Label>,
    operations: &'a [Operation],
    names: Names,
    cpus: usize,
}

impl<'a> Teller<'a> {
    fn new(ghost: &Ghost, cpus: usize, arrangement: Option<&'a Arrangement>) -> Self {
        let (records, labels) = (ghost.records(), ghost.names());
        let operations = arrangement.map_or(&[][..], |it| &it.operations);
        let names = Names::new(&records, &labels, operations);
        let (pending, held) = (ghost.pending(), ghost.held());
        Self { records, pending, held, labels, operations, names, cpus }
    }

    fn tell_all(&self, failure: &Failure, sabotage: Option<Sabotage>) -> Story {
        let records =
            if self.operations.is_empty() { self.records.clone() } else { self.arranged() };
        let race = records.iter().position(|record| record.cpu < self.cpus);
        let (set_up, race) = records.split_at(race.unwrap_or(records.len()));
        let mut told = self.steps(race);
        self.ends(failure, &mut told);
        let sources = self.sources(&told);
        let candidates: Vec<Candidate<'_>> = told
            .iter()
            .zip(&sources)
            .map(|(step, (reads_from, missed))| Candidate {
                record: &step.record,
                events: &step.events,
                reads_from: *reads_from,
                missed: *missed,
                fails: step.fails,
            })
            .collect();
        let weaker = match sabotage {
            Some(Sabotage::Weakened(weakening)) => Some(weakening.site.row()),
            _ => None,
        };
        let is_leak = failure.message.starts_with(LEAK);
        let lost = if is_leak { names::frames_in(&failure.message) } else { Vec::new() };
        let decides = deciding::choose(&candidates, &self.names, self.cpus, weaker, &lost);
        let missing = missing(&candidates, failure.kind);
        let (message, detail) = self.message(failure, &candidates, missing.as_ref());
        let lines = told.iter().zip(&sources).zip(&decides).map(|((step, sources), decides)| {
            Line { reads_from: sources.0, missed: sources.1, decides: *decides, ..self.line(step) }
        });
        let is_deadlock = failure.kind == FailureKind::Deadlock;
        Story {
            message,
            detail,
            before: tables::before(set_up, &self.names),
            lines: lines.collect(),
            missing,
            waiting: if is_deadlock { self.waiting() } else { Vec::new() },
            blocked: if is_deadlock { self.blocked() } else { Vec::new() },
        }
    }

    /// The violated condition, and what the engine said if that is something else.
    fn message(
        &self,
        failure: &Failure,
        steps: &[Candidate<'_>],
        missing: Option<&MissingOrder>,
    ) -> (Option<String>, Option<String>) {
        if failure.kind == FailureKind::Deadlock {
            let waiting = self.waiting();
            let told = (!waiting.is_empty()).then(|| format!("{DEADLOCK}{}", waiting.join("; ")));
            return (told, None);
        }
        let is_race =
            failure.kind == FailureKind::Violation && failure.message.starts_with(DATA_RACE);
        let Some(label) = is_race.then(|| self.racing(failure.cpu)).flatten() else {
            return (Some(self.names.in_message(&failure.message)), None);
        };
        let detail = missing.map(|missing| {
            let [one, other] = [missing.from, missing.to].map(|index| steps[index].record);
            format!(
                "CPU {} at {}:{} and CPU {} at {}:{}: nothing orders the two accesses",
                one.cpu,
                one.at.file(),
                one.at.line(),
                other.cpu,
                other.at.file(),
                other.at.line()
            )
        });
        (Some(self.race_on(label)), detail)
    }

    fn race_on(&self, label: Label) -> String {
        match (label.name, label.frame) {
            ("born", Some(frame)) => {
                format!("{USE_BEFORE_ALLOCATION}: {}", self.names.frame(frame))
            }
            ("died", Some(frame)) => format!("{USE_AFTER_FREE}: {}", self.names.frame(frame)),
            ("lock", Some(_)) => format!("{DATA_RACE} on {}.lock", self.names.place(label)),
            _ => format!("{DATA_RACE} on {}", self.names.place(label)),
        }
    }

    /// What the failing CPU was in the middle of.
    fn failing(&self, cpu: Option<usize>) -> Option<Record> {
        let after_the_race = self.pending[self.cpus];
        after_the_race.or_else(|| cpu.and_then(|cpu| self.pending[cpu]))
    }

    fn racing(&self, cpu: Option<usize>) -> Option<Label> {
        let alone = || self.pending.iter().flatten().next().copied();
        self.failing(cpu).or_else(alone).map(|record| record.label)
    }

    fn waits(&self) -> impl Iterator<Item = &Record> {
        self.pending.iter().flatten().filter(|record| record.step == Step::Wait)
    }

    fn waits_for(&self, label: Label) -> String {
        let place = self.names.place(label);
        match self.holder(label) {
            Some(_) if label.answers().is_some() => {
                format!("waits for {place}, which masks interrupts")
            }
            Some(cpu) => format!("waits for {place}, held by CPU {cpu}"),
            None => format!("waits for {place}, not held"),
        }
    }

    /// The CPU without which a wait for `label` does not end.
    fn holder(&self, label: Label) -> Option<usize> {
        let holds = || self.held.iter().find(|(_, held)| *held == label).map(|(cpu, _)| *cpu);
        label.answers().or_else(holds)
    }

    fn blocked(&self) -> Vec<Blocked> {
        let blocked = |record: &Record| Blocked {
            cpu: record.cpu,
            place: self.names.place(record.label),
            by: self.holder(record.label),
        };
        self.waits().map(blocked).collect()
    }

    /// One sentence per CPU that waits.
    fn waiting(&self) -> Vec<String> {
        let sentence =
            |record: &Record| format!("CPU {} {}", record.cpu, self.waits_for(record.label));
        self.waits().map(sentence).collect()
    }

    /// The records in the order that the engine gives. A CPU that comes later in the engine's own
    /// order has not run again when another one fails, so it has no records: what the engine
    /// remembers of it stands in for them.
    fn arranged(&self) -> Vec<Record> {
        let race = self.records.iter().position(|record| record.cpu < self.cpus);
        let (before, of_race) = self.records.split_at(race.unwrap_or(self.records.len()));
        let mut left: Vec<&Record> = of_race.iter().collect();
        let thread = |position: u64| position >> 32;
        let ran: BTreeSet<u64> = self.records.iter().map(|it| thread(it.position)).collect();
        let mut arranged = before.to_vec();
        for operation in self.operations {
            // What its thread did before is no operation on memory, and has its place here.
            let is_due = |it: &&Record| {
                thread(it.position) == thread(operation.position)
                    && it.position <= operation.position
            };
            let (now, later): (Vec<&Record>, _) = left.into_iter().partition(is_due);
            left = later;
            if !ran.contains(&thread(operation.position)) {
                arranged.push(self.remembered(operation));
            }
            arranged.extend(now.into_iter().copied());
        }
        arranged.extend(left.into_iter().copied());
        arranged
    }

    /// A record made of what the engine remembers.
    fn remembered(&self, operation: &Operation) -> Record {
        let Operation { position, cpu, word, action, at, .. } = operation;
        let unnamed = Label { frame: None, name: "fence", index: None };
        let label = word.and_then(|word| self.labels.get(&word)).copied().unwrap_or(unnamed);
        let step = match *action {
            Action::Load(value) => Step::Load(value),
            Action::Store(value) => Step::Store(value),
            Action::Update(before, after) => Step::Update(before, after),
            Action::Failed(value) => Step::Failed(value),
            Action::Get(value) => Step::Get(value),
            Action::Set(value) => Step::Set(value),
            Action::Fence => Step::Fence,
        };
        Record { cpu: *cpu, position: *position, label, step, site: None, at }
    }

    /// The steps that are told of these records.
    fn steps(&self, records: &[Record]) -> Vec<Told<'a>> {
        let mut steps: Vec<Told<'a>> = Vec::new();
        for record in records {
            let new = |events: Vec<Step>| Told {
                record: *record,
                operation: self.operations.iter().find(|it| it.position == record.position),
                events,
                instead: None,
                fails: false,
            };
            if self.state(record.step).is_some() {
                match steps.last_mut() {
                    Some(last) if last.record.cpu == record.cpu && last.events.is_empty() => {
                        last.events.push(record.step);
                    }
                    _ => steps.push(new(vec![record.step])),
                }
            } else if !is_bookkeeping(record.label) && !matches!(record.step, Step::Event(_)) {
                steps.push(new(Vec::new()));
            }
        }
        steps
    }

    /// Adds where the execution ends: at the step that fails, or where CPUs wait.
    fn ends(&self, failure: &Failure, steps: &mut Vec<Told<'a>>) {
        let end = |record: Record, instead| Told {
            record,
            operation: None,
            events: Vec::new(),
            instead,
            fails: true,
        };
        if failure.kind == FailureKind::Deadlock {
            let wait = |record: &Record| end(*record, Some(self.waits_for(record.label)));
            steps.extend(self.waits().map(wait));
        } else if let Some(record) = self.failing(failure.cpu).filter(|it| it.step != Step::Wait) {
            let place = self.names.place(record.label);
            // Said by the step that fails.
            let says_it = |event: &Step| match event {
                Step::Allocate(it, _) | Step::Free(it) => {
                    Some(it.frame_number()) == record.label.frame
                }
                _ => false,
            };
            if is_bookkeeping(record.label) && matches!(record.step, Step::Set(_)) {
                steps.retain(|it| it.record.cpu != record.cpu || !it.events.iter().any(says_it));
            }
            let instead = match (record.label.frame, record.step) {
                (Some(frame), step) if is_bookkeeping(record.label) => {
                    let verb = match (record.label.name, step) {
                        ("died", Step::Set(_)) => "frees",
                        ("born", Step::Set(_)) => "allocates",
                        _ => "uses",
                    };
                    Some(format!("{verb} {}", self.names.frame(frame)))
                }
                // The value is not known: the engine gave none.
                (_, Step::Load(_) | Step::Get(_)) => Some(format!("reads {place}")),
                _ => None,
            };
            steps.push(end(record, instead));
        }
    }

    /// For each step, the one that wrote what it read, and the one that it missed.
    fn sources(&self, steps: &[Told<'_>]) -> Vec<(Option<usize>, Option<usize>)> {
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        for (index, step) in steps.iter().enumerate() {
            if step.operation.is_some() {
                places.insert(step.record.position, index);
            }
        }
        let place = |position: Option<u64>| position.and_then(|it| places.get(&it).copied());
        let source = |(index, step): (usize, &Told<'_>)| match step.operation {
            Some(operation) => (place(operation.reads_from), place(operation.missed)),
            None if self.operations.is_empty() => {
                // Every read has seen the newest write.
                let is_source = |other: &Told<'_>| {
                    other.record.label == step.record.label && deciding::changes(other.record.step)
                };
                let is_read = deciding::found(step.record.step).is_some();
                let source = steps[..index].iter().rposition(is_source);
                (source.filter(|_| is_read), None)
            }
            None => (None, None),
        };
        steps.iter().enumerate().map(source).collect()
    }

    fn line(&self, step: &Told<'_>) -> Line {
        let Record { cpu, at, site, .. } = step.record;
        let states: Vec<String> =
            step.events.iter().filter_map(|event| self.state(*event)).collect();
        let mut changes = tables::of_step(&step.record, &self.names);
        for event in &step.events {
            changes.extend(tables::of_step(&Record { step: *event, ..step.record }, &self.names));
        }
        Line {
            cpu,
            text: step.instead.clone().unwrap_or_else(|| self.operation(&step.record)),
            site: site.map(str::to_owned),
            order: step.operation.and_then(|it| it.order).map(|order| format!("{order:?}")),
            state: states.join("; "),
            at: format!("{}:{}", at.file(), at.line()),
            fails: step.fails,
            changes: if step.fails { Vec::new() } else { changes },
            ..Line::default()
        }
    }

    /// What an event changed.
    fn state(&self, step: Step) -> Option<String> {
        let frame = |frame: Paddr| self.names.frame(frame.frame_number());
        Some(match step {
            Step::Allocate(it, _) => format!("{} allocated", frame(it)),
            Step::Free(it) => format!("{} FREED", frame(it)),
            Step::Situation(name) => format!("met: {name}"),
            Step::Event(event) => match event {
                Event::StrayMet(it) => format!("finds {} stray", frame(it)),
                Event::StartedOver => "starts over at the root".to_owned(),
                Event::GrowthLost => "another CPU has grown it".to_owned(),
                Event::Flushed(_) => "translations flushed".to_owned(),
                Event::Detached(it) => format!("{} detached", frame(it)),
                Event::MarkedStray(it) => format!("{} STRAY", frame(it)),
                Event::Retired(it) => format!("{} waits for a grace period", frame(it)),
                Event::RetiredDuringGracePeriod => "waits for the next one".to_owned(),
                Event::GracePeriodEnded => "the grace period has ended".to_owned(),
                Event::LastReference(it) => format!("{} has no references", frame(it)),
                Event::Activated { root, keeps: false } => format!("runs on {}", frame(root)),
                Event::Activated { root, keeps: true } => {
                    format!("runs on {}, with what it has cached", frame(root))
                }
                Event::LockContended => return None,
            },
            _ => return None,
        })
    }

    fn operation(&self, record: &Record) -> String {
        let name = self.names.place(record.label);
        let value = |value: u64| self.names.value(record.label, value);
        match (record.label.name, record.step) {
            ("lock" | "monitor", Step::Update(0, 1)) => format!("lock {name}"),
            ("lock" | "monitor", Step::Store(0)) => format!("unlock {name}"),
            ("lock" | "monitor", Step::Failed(_)) => format!("lock {name}: taken"),
            (_, Step::Wait) => format!("wait for {name}"),
            (_, Step::Load(it) | Step::Get(it)) => format!("{name} -> {}", value(it)),
            (_, Step::Store(it) | Step::Set(it)) => format!("{name} := {}", value(it)),
            (_, Step::Update(before, after)) => {
                format!("{name}: {} => {}", value(before), value(after))
            }
            (_, Step::Failed(it)) => format!("{name} is {}, not as expected", value(it)),
            (_, Step::Fence) => "fence".to_owned(),
            (_, Step::Allocate(..) | Step::Free(_) | Step::Event(_) | Step::Situation(_)) => {
                String::new()
            }
        }
    }
}

/// Between which steps an order is missing: where two accesses race, or an old value was read.
fn missing(steps: &[Candidate<'_>], kind: FailureKind) -> Option<MissingOrder> {
    if kind == FailureKind::Deadlock {
        return None;
    }
    let raced = steps
        .iter()
        .position(|step| step.fails)
        .and_then(|to| Some(MissingOrder { from: deciding::collision(steps, to)?, to }));
    let old = || {
        let to = steps.iter().rposition(|step| step.missed.is_some())?;
        Some(MissingOrder { from: steps[to].missed?, to })
    };
    raced.or_else(old)
}

/// Cells that serve the checks, or that only say in numbers what an event says in words.
fn is_bookkeeping(label: Label) -> bool {
    let of_frames = ["born", "died", "link", "kind", "level", "attached"];
    let of_the_monitor =
        ["online", "awaited", "current.first", "current.last", "next.first", "next.last"];
    of_frames.contains(&label.name) || of_the_monitor.contains(&label.name)
}
