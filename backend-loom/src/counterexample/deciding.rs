//! Which steps of a failing execution decide it.
//!
//! An execution of 100 steps fails because of about ten: the rest is locks that nothing waits for,
//! counts, and walks through nodes that do not change. The steps that stay, by rule:
//!
//! 1. the step that fails; the latest one of another CPU that changed the same place; and the
//!    latest value that the failing CPU read from that CPU in between, with its write: if any
//!    order had come from there, the two would be ordered. Where a site is weaker, its pair;
//! 2. a read of an old value, the write that it missed, and the one that it read;
//! 3. what happened to the frame that fails, or that an old value leads to: it was taken out,
//!    retired, freed, or handed out again; and that a grace period ended;
//!    Where frames are lost, the same of each;
//! 4. how each of the CPUs of rule 1 got to the frame: its latest read that gave it this frame, and
//!    the write of that value;
//! 5. where hardware decides: flushes, who was asked, and where a CPU began to run on a root;
//! 6. what the scenario says was met;
//! 7. of a deadlock: who waits, and how the holders came by what is waited for;
//! 8. where no step fails, and none is old: the answers are wrong. A change that a CPU stored over,
//!    although it came behind the value that this CPU had read; or else whatever one CPU changed,
//!    with what another one did at the same place just before and just after.
//!
//! The choice is made from the execution alone. It helps to read, and proves nothing.

use weft_core::sites::Row;
use weft_core::sync::Event;

use super::names::Names;
use crate::ghost::{Record, Step};

/// A step as the choice sees it.
pub(super) struct Candidate<'a> {
    /// What was done.
    pub(super) record: &'a Record,
    /// What the core says that this led to.
    pub(super) events: &'a [Step],
    /// The step that wrote what was read.
    pub(super) reads_from: Option<usize>,
    /// The newer write that was not seen.
    pub(super) missed: Option<usize>,
    /// The execution fails here.
    pub(super) fails: bool,
}

/// Marks the steps that decide; `cpus` is how many CPUs race, `weaker` the site that is weaker in a
/// sabotaged world, and `lost` the frames that are in use at the end.
pub(super) fn choose(
    steps: &[Candidate<'_>],
    names: &Names,
    cpus: usize,
    weaker: Option<&Row>,
    lost: &[u64],
) -> Vec<bool> {
    let mut choice = Choice { steps, names, cpus, chosen: vec![false; steps.len()] };
    if choice.is_deadlock() {
        choice.deadlock();
    } else {
        choice.failing(weaker);
        lost.iter().for_each(|frame| choice.frame(*frame));
        choice.old_values();
        if !choice.chosen.contains(&true) {
            choice.overwritten();
        }
        if !choice.chosen.contains(&true) {
            choice.exchanged();
        }
        choice.flushes();
    }
    choice.situations();
    choice.chosen
}

/// The value that a step found.
pub(super) fn found(step: Step) -> Option<u64> {
    match step {
        Step::Load(value) | Step::Get(value) | Step::Failed(value) | Step::Update(value, _) => {
            Some(value)
        }
        _ => None,
    }
}

/// Whether a step changes its place.
pub(super) fn changes(step: Step) -> bool {
    match step {
        Step::Store(_) | Step::Set(_) => true,
        Step::Update(before, after) => before != after,
        _ => false,
    }
}

/// Whether a CPU waits here when the execution ends: what it waited for earlier, it got.
fn waits_for_ever(step: &Candidate<'_>) -> bool {
    step.fails && step.record.step == Step::Wait
}

struct Choice<'a> {
    steps: &'a [Candidate<'a>],
    names: &'a Names,
    cpus: usize,
    chosen: Vec<bool>,
}

impl Choice<'_> {
    /// Rules 1, 3 and 4.
    fn failing(&mut self, weaker: Option<&Row>) {
        let Some(index) = self.steps.iter().position(|step| step.fails) else { return };
        let frame = self.steps[index].record.label.frame;
        self.chosen[index] = true;
        if let Some(other) = collision(self.steps, index) {
            self.chosen[other] = true;
            if let Some(read) = self.passed_on(other, index, weaker) {
                self.chosen[read] = true;
                self.source(read);
            }
            frame.into_iter().for_each(|frame| self.way(other, frame));
        }
        if let Some(frame) = frame {
            self.frame(frame);
            self.way(index, frame);
        }
    }

    /// The latest value that the CPU of one step read from that of another one in between.
    fn passed_on(&self, from: usize, to: usize, weaker: Option<&Row>) -> Option<usize> {
        let is_between = |read: usize| {
            let Some(write) = self.steps[read].reads_from else { return false };
            self.steps[read].record.cpu == self.steps[to].record.cpu
                && self.steps[write].record.cpu == self.steps[from].record.cpu
                && write > from
        };
        let is_of = |read: usize, row: &Row| {
            let write = self.steps[read].reads_from.unwrap_or(read);
            let is_site = |index: usize| self.steps[index].record.site == Some(row.name);
            is_site(read) || is_site(write)
        };
        let latest = |wanted: &dyn Fn(usize) -> bool| {
            (0..to).rev().find(|read| is_between(*read) && wanted(*read))
        };
        weaker.and_then(|row| latest(&|read| is_of(read, row))).or_else(|| latest(&|_| true))
    }

    /// Rule 3.
    fn frame(&mut self, frame: u64) {
        for (index, step) in self.steps.iter().enumerate() {
            let is_about = step.events.iter().any(|event| match event {
                Step::Allocate(it, _) | Step::Free(it) => it.frame_number() == frame,
                Step::Event(Event::Detached(it) | Event::MarkedStray(it) | Event::Retired(it)) => {
                    it.frame_number() == frame
                }
                Step::Event(Event::GracePeriodEnded) => true,
                _ => false,
            });
            self.chosen[index] |= is_about;
        }
    }

    /// Rule 4.
    fn way(&mut self, end: usize, frame: u64) {
        let cpu = self.steps[end].record.cpu;
        let leads = |step: &Candidate<'_>| {
            let value = found(step.record.step);
            value.and_then(|value| self.names.target(step.record.label, value)) == Some(frame)
        };
        let way = (0..end)
            .rev()
            .find(|index| self.steps[*index].record.cpu == cpu && leads(&self.steps[*index]));
        if let Some(index) = way {
            self.chosen[index] = true;
            self.source(index);
        }
    }

    /// The write of the value that was read, if it is one of the race.
    fn source(&mut self, index: usize) {
        if let Some(write) = self.steps[index].reads_from {
            self.chosen[write] |= self.steps[write].record.cpu < self.cpus;
        }
    }

    /// Rules 2 and 3.
    fn old_values(&mut self) {
        for (index, step) in self.steps.iter().enumerate() {
            let Some(missed) = step.missed else { continue };
            self.chosen[index] = true;
            self.chosen[missed] = true;
            self.source(index);
            if !self.names.is_entry(step.record.label) {
                continue;
            }
            let value = found(step.record.step);
            if let Some(frame) = value.and_then(|it| self.names.target(step.record.label, it)) {
                self.frame(frame);
            }
        }
    }

    /// Rule 5.
    fn flushes(&mut self) {
        let is_by_hardware = |(step, chosen): (&Candidate<'_>, &bool)| {
            *chosen && step.record.site == Some("hardware")
        };
        if !self.steps.iter().zip(&self.chosen).any(is_by_hardware) {
            return;
        }
        for (index, step) in self.steps.iter().enumerate() {
            let event = |event: &Step| {
                matches!(event, Step::Event(Event::Flushed(_) | Event::Activated { .. }))
            };
            self.chosen[index] |= step.events.iter().any(event);
        }
    }

    /// Rule 6.
    fn situations(&mut self) {
        for (index, step) in self.steps.iter().enumerate() {
            let is_situation = |event: &Step| matches!(event, Step::Situation(_));
            self.chosen[index] |= step.events.iter().any(is_situation);
        }
    }

    fn is_deadlock(&self) -> bool {
        self.steps.iter().any(waits_for_ever)
    }

    /// Rule 7.
    fn deadlock(&mut self) {
        for (index, step) in self.steps.iter().enumerate() {
            if !waits_for_ever(step) {
                continue;
            }
            self.chosen[index] = true;
            let taken = self.steps.iter().rposition(|other| {
                other.record.label == step.record.label && changes(other.record.step)
            });
            if let Some(taken) = taken {
                self.chosen[taken] = true;
            }
        }
    }

    /// Rule 8.
    fn overwritten(&mut self) {
        for (index, step) in self.steps.iter().enumerate() {
            let Record { cpu, label, .. } = *step.record;
            if !matches!(step.record.step, Step::Store(_)) || !self.names.is_entry(label) {
                continue;
            }
            let of_place = |other: &usize| self.steps[*other].record.label == label;
            let of_cpu = |other: &usize| self.steps[*other].record.cpu == cpu;
            let earlier: Vec<usize> = (0..index).filter(of_place).collect();
            let Some(read) = earlier.iter().rposition(of_cpu) else { continue };
            let lost = earlier[read + 1..].iter();
            let lost = lost.filter(|other| changes(self.steps[**other].record.step));
            for other in lost {
                self.chosen[*other] = true;
                self.chosen[earlier[read]] = true;
                self.chosen[index] = true;
            }
        }
    }

    /// Rule 8.
    fn exchanged(&mut self) {
        for (index, step) in self.steps.iter().enumerate() {
            let Record { cpu, label, .. } = *step.record;
            let is_new = changes(step.record.step) && !self.only_notes(step.record);
            if cpu >= self.cpus || !is_new || !self.carries_data(step.record) {
                continue;
            }
            let meets = |other: &usize| {
                let record = self.steps[*other].record;
                record.label == label
                    && record.cpu != cpu
                    && record.cpu < self.cpus
                    && !self.only_notes(record)
            };
            let before = (0..index).rev().find(meets);
            let after = (index + 1..self.steps.len()).find(meets);
            for other in before.into_iter().chain(after) {
                self.chosen[other] = true;
                self.chosen[index] = true;
            }
        }
    }

    /// Whether the place says where to go on, or what is there, or is a scenario's own. Locks only
    /// order.
    fn carries_data(&self, record: &Record) -> bool {
        let Record { label, site, .. } = *record;
        let is_lock = label.name == "monitor" || site.is_some_and(|site| site.starts_with("LOCK_"));
        let is_own = label.frame.is_none() && !is_lock && record.step != Step::Fence;
        self.names.is_entry(label) || label.name == "contents" || is_own
    }

    /// Whether hardware only notes that it used an entry.
    fn only_notes(&self, record: &Record) -> bool {
        match record.step {
            Step::Update(before, after) if record.site == Some("hardware") => {
                self.names.target(record.label, before) == self.names.target(record.label, after)
            }
            _ => false,
        }
    }
}

/// The latest step of another CPU that changed the place at which a step fails, or, if none did,
/// that touched it.
pub(super) fn collision(steps: &[Candidate<'_>], index: usize) -> Option<usize> {
    let Record { cpu, label, .. } = *steps[index].record;
    let lived = |event: &Step| match (label.name, event) {
        ("born", Step::Allocate(frame, _)) | ("died", Step::Free(frame)) => {
            label.frame == Some(frame.frame_number())
        }
        _ => false,
    };
    let is_of_another =
        |step: &Candidate<'_>| step.record.cpu != cpu && step.events.iter().any(lived);
    if let Some(other) = steps.iter().rposition(is_of_another) {
        return Some(other);
    }
    let uses =
        |step: &Candidate<'_>| step.record.label.frame == label.frame && step.record.cpu != cpu;
    match label.name {
        // The other CPU may not have run again: its first use of the frame stands for its birth.
        "born" => return steps.iter().position(uses),
        // The step that fails frees the frame, and the other CPU has used it.
        "died" => return steps.iter().rposition(uses),
        _ => {}
    }
    let touches =
        |step: &&Candidate<'_>| step.record.label == label && step.record.cpu != cpu && !step.fails;
    let find = |wanted: &dyn Fn(&Candidate<'_>) -> bool| {
        steps.iter().rposition(|step| touches(&step) && wanted(step))
    };
    find(&|step| changes(step.record.step)).or_else(|| find(&|_| true))
}
