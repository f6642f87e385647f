//! Words and cells of the model: an engine's, with a name, a site and a record of every step.
//!
//! Each operation resolves the ordering of its site in this world (see [`crate::sabotage`]), does
//! the engine's operation at the caller's source location, and records what it saw. All of it is
//! done by an [`Actor`], and inert where there is none.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weft_core::format::{EntryFormat, X86_64};
use weft_core::sites::{ENTRY_INIT, ENTRY_UNDER_LOCK, LOCK_BORN_HELD, Site};
use weft_core::sync::{CellValue, Count, Event, LockWord, PlainCell, Word};
use weft_explorer::Window;
use weft_scenarios::detector::{GIVEN_UP_TWICE, NO_REFERENCE, OVERWRITTEN};
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::scenario::CPUS_MAX;

use crate::actor::{Actor, Gated};
use crate::chosen::{Chosen, ChosenPlain, ChosenWord};
use crate::coverage;
use crate::engine::{Access, Engine, EnginePlain, EngineWord};
use crate::ghost::{Ghost, Label, Record, Step, is_recorded};
use crate::sabotage;

/// What `fetch_add` and `fetch_sub` give while they are inert: no count seems to reach its end.
const INERT_COUNT: u64 = 9;

/// The recording of one operation, begun before it, done after it; nothing if the execution is not
/// recorded.
pub(crate) struct Recording(Option<(Arc<Ghost>, Record)>);

impl Recording {
    #[track_caller]
    pub(crate) fn begin(
        actor: Actor,
        label: Label,
        step: Step,
        site: Option<&'static str>,
    ) -> Self {
        if !is_recorded() {
            return Self(None);
        }
        let ghost = Ghost::current();
        let cpu = ghost.column(actor.cpu());
        let at = ghost.told_at(cpu).unwrap_or(Location::caller());
        let record = Record { cpu, position: Chosen::position(), label, step, site, at };
        ghost.begin(record);
        Self(Some((ghost, record)))
    }

    pub(crate) fn done(self, step: Step) {
        if let Some((ghost, record)) = self.0 {
            ghost.done(Record { step, ..record });
        }
    }
}

/// Records something that happens at one point.
#[track_caller]
pub(crate) fn record(actor: Actor, label: Label, step: Step) {
    Recording::begin(actor, label, step, None).done(step);
}

/// An engine's word with a label.
struct Labelled {
    word: Gated<ChosenWord>,
    label: Label,
}

impl Labelled {
    #[track_caller]
    fn new(name: &'static str, value: u64, access: Access) -> Self {
        Self::with_label(Ghost::label(name), value, access)
    }

    #[track_caller]
    fn with_label(label: Label, value: u64, access: Access) -> Self {
        let word = ChosenWord::new(value, access);
        if Chosen::traits().arranges {
            Ghost::name(word.id(), label);
        }
        Self { word: Gated::new(word), label }
    }

    #[track_caller]
    fn begin(&self, actor: Actor, step: Step, site: &'static Site) -> Recording {
        coverage::access(&site.row, site.place);
        Recording::begin(actor, self.label, step, Some(site.row.name))
    }

    #[track_caller]
    fn store(&self, actor: Actor, value: u64, site: &'static Site) {
        let recording = self.begin(actor, Step::Store(value), site);
        self.word.of(actor).store(value, sabotage::order(site).atomic());
        recording.done(Step::Store(value));
    }

    #[track_caller]
    fn compare_exchange(
        &self,
        actor: Actor,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        let step = Step::Update(current, new);
        let recording = Recording::begin(actor, self.label, step, Some(success.row.name));
        let (on_success, on_failure) = (sabotage::order(success), sabotage::order(failure));
        let result = self.word.of(actor).compare_exchange(
            current,
            new,
            on_success.atomic(),
            on_failure.atomic(),
        );
        let site = if result.is_ok() { success } else { failure };
        coverage::access(&site.row, site.place);
        recording.done(match result {
            Ok(found) => Step::Update(found, new),
            Err(found) => Step::Failed(found),
        });
        result
    }
}

/// An entry.
///
/// Hardware may set bits in it at any time, so software must not store over a value in which it
/// still could: whether hardware does so just then or not, that is a failure. What counts is the
/// value that the storing CPU knows of.
pub struct ModelWord {
    labelled: Labelled,
    /// Ghost: what each CPU has seen or written here last; touched by that CPU only.
    known: [AtomicU64; CPUS_MAX + 1],
}

impl fmt::Debug for ModelWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labelled.label.fmt(f)
    }
}

impl ModelWord {
    /// Entry `index` of the frame that is being named.
    #[track_caller]
    pub(crate) fn entry(index: usize, value: u64) -> Self {
        let label = Label { index: Some(index), ..Ghost::label("entry") };
        Self::of(Labelled::with_label(label, value, Access::Loaded))
    }

    fn of(labelled: Labelled) -> Self {
        Self { labelled, known: [const { AtomicU64::new(0) }; CPUS_MAX + 1] }
    }

    /// The calling CPU knows of a value.
    fn know(&self, actor: Actor, value: u64) {
        let column = actor.column();
        self.known[column].store(value, Ordering::Relaxed);
    }

    /// Checks that the calling CPU may store over what it knows of.
    ///
    /// # Panics
    ///
    /// If it may not.
    #[track_caller]
    fn check_store(&self, actor: Actor, site: &'static Site) {
        let column = actor.column();
        let known = self.known[column].load(Ordering::Relaxed);
        // A word that is no entry, or that cannot be reached yet, is not written by hardware.
        let is_entry = self.labelled.label.index.is_some();
        let is_reachable = site.row.index != ENTRY_INIT.row.index;
        let may_write = X86_64::hardware_may_write(known);
        assert!(!(is_entry && is_reachable && may_write), "{OVERWRITTEN}");
    }

    /// What paging hardware does: a load that later loads of the walk do not overtake.
    #[track_caller]
    pub(crate) fn hardware_load(&self, actor: Actor) -> u64 {
        let recording =
            Recording::begin(actor, self.labelled.label, Step::Load(0), Some("hardware"));
        let value = self.labelled.word.of(actor).load(Ordering::Acquire);
        recording.done(Step::Load(value));
        value
    }

    /// The same, at any time since the window was opened if `may_keep` says so of the value.
    #[track_caller]
    pub(crate) fn hardware_load_within(
        &self,
        actor: Actor,
        window: &mut Window,
        may_keep: fn(u64) -> bool,
    ) -> u64 {
        let recording =
            Recording::begin(actor, self.labelled.label, Step::Load(0), Some("hardware"));
        let value = self.labelled.word.of(actor).load_within(window, may_keep);
        recording.done(Step::Load(value));
        value
    }

    /// What paging hardware does: it uses what it has kept of the entry.
    #[track_caller]
    pub(crate) fn hardware_recall(&self, actor: Actor, bits: u64) {
        let step = Step::Load(bits);
        Recording::begin(actor, self.labelled.label, step, Some("kept")).done(step);
    }

    /// What paging hardware does: a locked update of an entry that has not changed meanwhile.
    #[track_caller]
    pub(crate) fn hardware_update(&self, actor: Actor, current: u64, new: u64) -> bool {
        let step = Step::Update(current, new);
        let recording = Recording::begin(actor, self.labelled.label, step, Some("hardware"));
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        match self.labelled.word.of(actor).compare_exchange(current, new, success, failure) {
            Ok(_) => {
                recording.done(step);
                true
            }
            Err(found) => {
                recording.done(Step::Failed(found));
                false
            }
        }
    }
}

impl Word for ModelWord {
    #[track_caller]
    fn new(name: &'static str, value: u64) -> Self {
        Self::of(Labelled::new(name, value, Access::Loaded))
    }

    #[track_caller]
    fn load(&self, site: &'static Site) -> u64 {
        let Some(actor) = Actor::now() else { return 0 };
        let recording = self.labelled.begin(actor, Step::Load(0), site);
        let value = self.labelled.word.of(actor).load(sabotage::order(site).atomic());
        recording.done(Step::Load(value));
        self.know(actor, value);
        value
    }

    #[track_caller]
    fn store(&self, value: u64, site: &'static Site) {
        if let Some(actor) = Actor::now() {
            self.check_store(actor, site);
            self.labelled.store(actor, value, site);
            self.know(actor, value);
        }
    }

    #[track_caller]
    fn swap(&self, value: u64, site: &'static Site) -> u64 {
        let Some(actor) = Actor::now() else { return 0 };
        if sabotage::is(Sabotage::TornUpdates) {
            let before = self.load(&ENTRY_UNDER_LOCK);
            self.labelled.store(actor, value, site);
            self.know(actor, value);
            return before;
        }
        let recording = self.labelled.begin(actor, Step::Update(0, value), site);
        let before = self.labelled.word.of(actor).swap(value, sabotage::order(site).atomic());
        recording.done(Step::Update(before, value));
        self.know(actor, value);
        before
    }

    #[track_caller]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        let Some(actor) = Actor::now() else { return Ok(current) };
        if sabotage::is(Sabotage::TornUpdates) {
            let found = self.load(failure);
            if found != current {
                return Err(found);
            }
            self.labelled.store(actor, new, success);
            self.know(actor, new);
            return Ok(found);
        }
        let result = self.labelled.compare_exchange(actor, current, new, success, failure);
        self.know(actor, result.err().unwrap_or(new));
        result
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64 {
        let Some(actor) = Actor::now() else { return 0 };
        let recording = self.labelled.begin(actor, Step::Update(0, value), site);
        let before = self.labelled.word.of(actor).fetch_add(value, sabotage::order(site).atomic());
        let after = before.wrapping_add(value);
        recording.done(Step::Update(before, after));
        self.know(actor, after);
        before
    }
}

/// The word of a lock. The ghost state knows who holds it.
pub struct ModelLockWord {
    labelled: Labelled,
}

impl fmt::Debug for ModelLockWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labelled.label.fmt(f)
    }
}

impl LockWord for ModelLockWord {
    #[track_caller]
    fn new(name: &'static str, value: u64) -> Self {
        // The lock of a frame that is not in use says the wrong thing, as if it had been used.
        let value = if Ghost::label(name).frame.is_some() { !value & 1 } else { value };
        Self { labelled: Labelled::new(name, value, Access::UpdatedOnly) }
    }

    #[track_caller]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        let Some(actor) = Actor::now() else { return Ok(current) };
        let result = self.labelled.compare_exchange(actor, current, new, success, failure);
        let label = self.labelled.label;
        match result {
            Ok(_) => {
                let ghost = Ghost::current();
                ghost.hold(ghost.column(actor.cpu()), label);
            }
            Err(_) => observe(actor, label, Event::LockContended),
        }
        result
    }

    #[track_caller]
    fn store(&self, value: u64, site: &'static Site) {
        let Some(actor) = Actor::now() else { return };
        let ghost = Ghost::current();
        let cpu = actor.column();
        let label = self.labelled.label;
        if site.row.index == LOCK_BORN_HELD.row.index {
            ghost.forget(label);
        } else if value == 0 {
            ghost.let_go(cpu, label);
        }
        if value != 0 {
            ghost.hold(cpu, label);
        }
        self.labelled.store(actor, value, site);
    }

    #[track_caller]
    fn relax(&self) {
        let Some(actor) = Actor::now() else { return };
        let recording = Recording::begin(actor, self.labelled.label, Step::Wait, None);
        self.labelled.word.of(actor).wait_for_change();
        recording.done(Step::Wait);
    }
}

/// A reference count.
pub struct ModelCount {
    labelled: Labelled,
}

impl fmt::Debug for ModelCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.labelled.label.fmt(f)
    }
}

impl Count for ModelCount {
    #[track_caller]
    fn new(name: &'static str, value: u64) -> Self {
        Self { labelled: Labelled::new(name, value, Access::UpdatedOnly) }
    }

    #[track_caller]
    fn store(&self, value: u64, site: &'static Site) {
        if let Some(actor) = Actor::now() {
            self.labelled.store(actor, value, site);
        }
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64 {
        let Some(actor) = Actor::now() else { return INERT_COUNT };
        let recording = self.labelled.begin(actor, Step::Update(0, value), site);
        let before = self.labelled.word.of(actor).fetch_add(value, sabotage::order(site).atomic());
        recording.done(Step::Update(before, before.wrapping_add(value)));
        assert!(before != 0, "{}: {NO_REFERENCE}", self.labelled.label);
        before
    }

    #[track_caller]
    fn fetch_sub(&self, value: u64, site: &'static Site) -> u64 {
        let Some(actor) = Actor::now() else { return INERT_COUNT };
        let recording = self.labelled.begin(actor, Step::Update(0, value), site);
        let before = self.labelled.word.of(actor).fetch_sub(value, sabotage::order(site).atomic());
        recording.done(Step::Update(before, before.wrapping_sub(value)));
        assert!(before != 0, "{}: {GIVEN_UP_TWICE}", self.labelled.label);
        before
    }
}

/// Plain data: two conflicting accesses that nothing orders are a failure.
pub struct ModelCell<T> {
    cell: Gated<ChosenPlain>,
    label: Label,
    value: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for ModelCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.label.fmt(f)
    }
}

impl<T: CellValue> PlainCell<T> for ModelCell<T> {
    #[track_caller]
    fn new(name: &'static str, value: T) -> Self {
        let (cell, label) = (ChosenPlain::new(value.to_bits()), Ghost::label(name));
        if Chosen::traits().arranges {
            Ghost::name(cell.id(), label);
        }
        Self { cell: Gated::new(cell), label, value: PhantomData }
    }

    #[track_caller]
    fn get(&self) -> T {
        let Some(actor) = Actor::now() else { return T::from_bits(0) };
        let recording = Recording::begin(actor, self.label, Step::Get(0), None);
        let value = self.cell.of(actor).get();
        recording.done(Step::Get(value));
        T::from_bits(value)
    }

    #[track_caller]
    fn set(&self, value: T) {
        let Some(actor) = Actor::now() else { return };
        let recording = Recording::begin(actor, self.label, Step::Set(value.to_bits()), None);
        self.cell.of(actor).set(value.to_bits());
        recording.done(Step::Set(value.to_bits()));
    }
}

/// Records an event of the core.
#[track_caller]
pub(crate) fn observe(actor: Actor, label: Label, event: Event) {
    Ghost::current().observe(event);
    record(actor, label, Step::Event(event));
}
