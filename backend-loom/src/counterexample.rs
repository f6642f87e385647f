//! A failing execution, told with names instead of addresses.
//!
//! An engine says what failed and where; the ghost state knows what every CPU did. Together they
//! give one line per step: who, what, and what that changed. Steps that only serve the checks
//! (the life cells of frames) are left out, except for the one that failed.
//!
//! An engine reports an unordered pair of plain accesses without knowing what the cells mean. The
//! message names the invariant instead: a race on a frame's `died` cell is a use after free, on
//! its `born` cell a use before allocation.

use std::collections::{BTreeMap, BTreeSet};

use weft_core::address::Paddr;
use weft_core::sync::{Event, FrameUse};
use weft_scenarios::detector::{DATA_RACE, DEADLOCK, USE_AFTER_FREE, USE_BEFORE_ALLOCATION};

use crate::engine::{Action, Arrangement, Failure, FailureKind, Operation};
use crate::ghost::{Ghost, Label, Record, Step};
use crate::report::{Counterexample, Line};

/// The counterexample of a failure; without ghost state it has no lines.
pub(crate) fn of(failure: &Failure, roles: Vec<String>, ghost: Option<&Ghost>) -> Counterexample {
    let arrangement = failure.arrangement.as_deref();
    let teller = ghost.map(|ghost| Teller::new(ghost, roles.len(), arrangement));
    let (message, detail) = message(failure, teller.as_ref());
    let lines = teller.as_ref().map_or_else(Vec::new, |it| it.lines(failure));
    let waiting = match (&teller, failure.kind) {
        (Some(teller), FailureKind::Deadlock) => teller.waiting(),
        _ => Vec::new(),
    };
    Counterexample {
        message,
        detail,
        class: failure.kind,
        location: failure.location.clone(),
        roles,
        lines,
        waiting,
        token: failure.token.clone(),
    }
}

/// The violated condition, and what the engine said if that is something else.
fn message(failure: &Failure, teller: Option<&Teller>) -> (String, Option<String>) {
    let told = match (failure.kind, teller) {
        (FailureKind::Violation, Some(teller)) if failure.message.starts_with(DATA_RACE) => {
            teller.racing(failure.cpu).map(race_on)
        }
        (FailureKind::Deadlock, Some(teller)) => {
            Some(format!("{DEADLOCK}{}", teller.waiting().join("; ")))
        }
        _ => None,
    };
    match told {
        Some(told) => (told, Some(failure.message.clone())),
        None => (failure.message.clone(), None),
    }
}

/// Messages call every frame N, data or not: a twin is matched by its message, and which of the two
/// a frame is may depend on the execution that was found.
fn race_on(label: Label) -> String {
    match (label.name, label.frame) {
        ("born", Some(frame)) => format!("{USE_BEFORE_ALLOCATION}: N{frame}"),
        ("died", Some(frame)) => format!("{USE_AFTER_FREE}: N{frame}"),
        _ => format!("{DATA_RACE} on {label}"),
    }
}

/// Tells records; knows which frames are nodes.
struct Teller {
    records: Vec<Record>,
    pending: Vec<Option<Record>>,
    held: Vec<(usize, Label)>,
    names: BTreeMap<u32, Label>,
    data: BTreeSet<u64>,
    cpus: usize,
}

impl Teller {
    fn new(ghost: &Ghost, cpus: usize, arrangement: Option<&Arrangement>) -> Self {
        let records = ghost.records();
        let data = records.iter().filter_map(|record| match record.step {
            Step::Allocate(frame, FrameUse::Data) => Some(frame.frame_number()),
            _ => None,
        });
        let mut data: BTreeSet<u64> = data.collect();
        let (pending, held, names) = (ghost.pending(), ghost.held(), ghost.names());
        // Who allocated a frame may not have run again; what has contents is data.
        let operations = arrangement.map_or(&[][..], |it| &it.operations);
        let labels = operations.iter().filter_map(|it| names.get(&it.word?));
        let contents = labels.filter(|label| label.name == "contents");
        data.extend(contents.filter_map(|label| label.frame));
        Self { records, pending, held, names, data, cpus }
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

    /// One sentence per CPU that waits.
    fn waiting(&self) -> Vec<String> {
        let waits = self.pending.iter().flatten().filter(|record| record.step == Step::Wait);
        let sentence = |record: &Record| {
            let holder = self.held.iter().find(|(_, held)| *held == record.label);
            let held_by = match holder {
                Some((cpu, _)) => format!("held by CPU {cpu}"),
                None => "not held".to_owned(),
            };
            format!("CPU {} waits for {}, {held_by}", record.cpu, self.name(record.label))
        };
        waits.map(sentence).collect()
    }

    fn lines(&self, failure: &Failure) -> Vec<Line> {
        let records = match &failure.arrangement {
            Some(arrangement) => self.arranged(arrangement),
            None => self.records.clone(),
        };
        let race = records.iter().position(|record| record.cpu < self.cpus);
        let race = race.unwrap_or(records.len());
        let mut lines: Vec<Line> = Vec::new();
        for record in &records[race..] {
            self.tell(record, failure.arrangement.as_deref(), &mut lines);
        }
        if let Some(record) = self.failing(failure.cpu).filter(|record| record.step != Step::Wait) {
            let text = format!("{}  <- fails here", self.operation(&record));
            lines.push(line(&record, text, String::new()));
        }
        lines
    }

    /// The records in the order that the engine gives. A CPU that comes later in the engine's own
    /// order has not run again when another one fails, so it has no records: what the engine
    /// remembers of it stands in for them.
    fn arranged(&self, arrangement: &Arrangement) -> Vec<Record> {
        let race = self.records.iter().position(|record| record.cpu < self.cpus);
        let (before, of_race) = self.records.split_at(race.unwrap_or(self.records.len()));
        let mut left: Vec<&Record> = of_race.iter().collect();
        let ran: BTreeSet<u64> = self.records.iter().map(|it| it.position >> 32).collect();
        let mut arranged = before.to_vec();
        for operation in &arrangement.operations {
            let (now, later) = left.into_iter().partition(|it| it.position == operation.position);
            left = later;
            if !ran.contains(&(operation.position >> 32)) {
                arranged.push(self.remembered(operation));
            }
            let now: Vec<&Record> = now;
            arranged.extend(now.into_iter().copied());
        }
        arranged.extend(left.into_iter().copied());
        arranged
    }

    /// A record made of what the engine remembers.
    fn remembered(&self, operation: &Operation) -> Record {
        let Operation { position, cpu, word, action, at, .. } = operation;
        let unnamed = Label { frame: None, name: "fence", index: None };
        let label = word.and_then(|word| self.names.get(&word)).copied().unwrap_or(unnamed);
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

    /// Adds a record: as a line, or as the state that the line before led to.
    fn tell(&self, record: &Record, arrangement: Option<&Arrangement>, lines: &mut Vec<Line>) {
        let state = self.state(record.step);
        if let Some(state) = state {
            match lines.last_mut() {
                Some(last) if last.cpu == record.cpu && last.state.is_empty() => last.state = state,
                _ => lines.push(line(record, String::new(), state)),
            }
            return;
        }
        if is_bookkeeping(record.label) || matches!(record.step, Step::Event(_)) {
            return;
        }
        let mut text = self.operation(record);
        let operations = arrangement.map_or(&[][..], |it| &it.operations);
        let mut same = operations.iter().filter(|it| it.position == record.position);
        if let Some(note) = same.find_map(|operation| operation.note.as_ref()) {
            text += &format!("  (!) {note}");
        }
        lines.push(line(record, text, String::new()));
    }

    /// What an event changed.
    fn state(&self, step: Step) -> Option<String> {
        let frame = |frame: Paddr| self.frame(frame.frame_number());
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
        let name = self.name(record.label);
        let value = |value: u64| self.value(record.label, value);
        let what = match (record.label.name, record.step) {
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
            (_, Step::Allocate(it, _)) => format!("allocate {}", self.frame(it.frame_number())),
            (_, Step::Free(it)) => format!("free {}", self.frame(it.frame_number())),
            (_, Step::Event(_) | Step::Situation(_)) => String::new(),
        };
        match record.site {
            Some(site) => format!("{what}  {site}"),
            None => what,
        }
    }

    fn name(&self, label: Label) -> String {
        match (label.frame, label.index, label.name) {
            (Some(frame), Some(index), _) => format!("{}[{index}]", self.frame(frame)),
            (Some(frame), None, "lock") => self.frame(frame),
            (Some(frame), None, name) => format!("{}.{name}", self.frame(frame)),
            (None, _, name) => name.to_owned(),
        }
    }

    /// Nodes are called N, frames of data F.
    fn frame(&self, number: u64) -> String {
        let letter = if self.data.contains(&number) { 'F' } else { 'N' };
        format!("{letter}{number}")
    }

    fn value(&self, label: Label, value: u64) -> String {
        if label.name != "entry" {
            return value.to_string();
        }
        let frame = (value & 0x000f_ffff_ffff_f000) >> 12;
        match value {
            0 => "absent".to_owned(),
            crate::memory::POISON => "poison".to_owned(),
            _ => {
                let set =
                    |bit: u64, name: &'static str| if value >> bit & 1 == 1 { name } else { "" };
                format!("{}{}{}", self.frame(frame), set(5, "+A"), set(6, "+D"))
            }
        }
    }
}

/// Cells that serve the checks, or that only say in numbers what an event says in words.
fn is_bookkeeping(label: Label) -> bool {
    let of_frames = ["born", "died", "link", "kind", "level", "attached"];
    let of_the_monitor =
        ["online", "awaited", "current.first", "current.last", "next.first", "next.last"];
    of_frames.contains(&label.name) || of_the_monitor.contains(&label.name)
}

fn line(record: &Record, text: String, state: String) -> Line {
    let at = format!("{}:{}", record.at.file(), record.at.line());
    Line { cpu: record.cpu, text, state, at }
}
