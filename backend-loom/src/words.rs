//! Words and cells of the model: an engine's, with a name, a site and a record of every step.
//!
//! Each operation resolves the ordering of its site in this world (see [`crate::sabotage`]), does
//! the engine's operation at the caller's source location, and records what it saw. All of it is
//! inert while the thread unwinds, as the facade demands, and while an execution that was given up
//! is cleaned away.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weft_core::format::{EntryFormat, X86_64};
use weft_core::sites::{ENTRY_INIT, ENTRY_UNDER_LOCK, LOCK_BORN_HELD, Site};
use weft_core::sync::{CellValue, Count, Event, LockWord, PlainCell, Word};
use weft_scenarios::scenario::CPUS_MAX;

use crate::chosen::{Chosen, ChosenPlain, ChosenWord};
use crate::coverage;
use crate::engine::{Access, Engine, EnginePlain, EngineWord, INERT_COUNT};
use crate::ghost::{Ghost, Label, Record, Step, is_inert, is_recorded};
use crate::sabotage;

/// The recording of one operation, begun before it, done after it; nothing if the execution is not
/// recorded.
pub(crate) struct Recording(Option<(Arc<Ghost>, Record)>);

impl Recording {
    #[track_caller]
    pub(crate) fn begin(label: Label, step: Step, site: Option<&'static str>) -> Self {
        if !is_recorded() {
            return Self(None);
        }
        let ghost = Ghost::current();
        let record = Record {
            cpu: ghost.column(Chosen::cpu()),
            position: Chosen::position(),
            label,
            step,
            site,
            at: Location::caller(),
        };
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
pub(crate) fn record(label: Label, step: Step) {
    Recording::begin(label, step, None).done(step);
}

/// An engine's word with a label.
struct Labelled {
    word: ChosenWord,
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
        Self { word, label }
    }

    #[track_caller]
    fn begin(&self, step: Step, site: &'static Site) -> Recording {
        coverage::access(&site.row, site.place);
        Recording::begin(self.label, step, Some(site.row.name))
    }

    #[track_caller]
    fn store(&self, value: u64, site: &'static Site) {
        let recording = self.begin(Step::Store(value), site);
        self.word.store(value, sabotage::order(site).atomic());
        recording.done(Step::Store(value));
    }

    #[track_caller]
    fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: &'static Site,
        failure: &'static Site,
    ) -> Result<u64, u64> {
        let step = Step::Update(current, new);
        let recording = Recording::begin(self.label, step, Some(success.row.name));
        let (on_success, on_failure) = (sabotage::order(success), sabotage::order(failure));
        let result =
            self.word.compare_exchange(current, new, on_success.atomic(), on_failure.atomic());
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
    fn know(&self, value: u64) {
        let column = Ghost::column_of(Chosen::cpu());
        self.known[column].store(value, Ordering::Relaxed);
    }

    /// Checks that the calling CPU may store over what it knows of.
    ///
    /// # Panics
    ///
    /// If it may not.
    #[track_caller]
    fn check_store(&self, site: &'static Site) {
        let column = Ghost::column_of(Chosen::cpu());
        let known = self.known[column].load(Ordering::Relaxed);
        // Before the entry can be reached, no other CPU writes it.
        let is_reachable = site.row.index != ENTRY_INIT.row.index;
        assert!(
            !is_reachable || !X86_64::hardware_may_write(known),
            "a store overwrites an entry that hardware may be writing"
        );
    }

    /// What paging hardware does: a load that later loads of the walk do not overtake.
    #[track_caller]
    pub(crate) fn hardware_load(&self) -> u64 {
        let recording = Recording::begin(self.labelled.label, Step::Load(0), Some("hardware"));
        let value = self.labelled.word.load(Ordering::Acquire);
        recording.done(Step::Load(value));
        value
    }

    /// What paging hardware does: a locked update of an entry that has not changed meanwhile.
    #[track_caller]
    pub(crate) fn hardware_update(&self, current: u64, new: u64) -> bool {
        let step = Step::Update(current, new);
        let recording = Recording::begin(self.labelled.label, step, Some("hardware"));
        let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
        match self.labelled.word.compare_exchange(current, new, success, failure) {
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
        if is_inert() {
            return 0;
        }
        let recording = self.labelled.begin(Step::Load(0), site);
        let value = self.labelled.word.load(sabotage::order(site).atomic());
        recording.done(Step::Load(value));
        self.know(value);
        value
    }

    #[track_caller]
    fn store(&self, value: u64, site: &'static Site) {
        if !is_inert() {
            self.check_store(site);
            self.labelled.store(value, site);
            self.know(value);
        }
    }

    #[track_caller]
    fn swap(&self, value: u64, site: &'static Site) -> u64 {
        if is_inert() {
            return 0;
        }
        if sabotage::tears_updates() {
            let before = self.load(&ENTRY_UNDER_LOCK);
            self.labelled.store(value, site);
            self.know(value);
            return before;
        }
        let recording = self.labelled.begin(Step::Update(0, value), site);
        let before = self.labelled.word.swap(value, sabotage::order(site).atomic());
        recording.done(Step::Update(before, value));
        self.know(value);
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
        if is_inert() {
            return Ok(current);
        }
        if sabotage::tears_updates() {
            let found = self.load(failure);
            if found != current {
                return Err(found);
            }
            self.labelled.store(new, success);
            self.know(new);
            return Ok(found);
        }
        let result = self.labelled.compare_exchange(current, new, success, failure);
        self.know(result.err().unwrap_or(new));
        result
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
        if is_inert() {
            return Ok(current);
        }
        let result = self.labelled.compare_exchange(current, new, success, failure);
        let label = self.labelled.label;
        match result {
            Ok(_) => {
                let ghost = Ghost::current();
                ghost.hold(ghost.column(Chosen::cpu()), label);
            }
            Err(_) => observe(label, Event::LockContended),
        }
        result
    }

    #[track_caller]
    fn store(&self, value: u64, site: &'static Site) {
        if is_inert() {
            return;
        }
        let ghost = Ghost::current();
        let cpu = ghost.column(Chosen::cpu());
        let label = self.labelled.label;
        if site.row.index == LOCK_BORN_HELD.row.index {
            ghost.forget(label);
        } else if value == 0 {
            ghost.let_go(cpu, label);
        }
        if value != 0 {
            ghost.hold(cpu, label);
        }
        self.labelled.store(value, site);
    }

    #[track_caller]
    fn relax(&self) {
        if is_inert() {
            return;
        }
        let recording = Recording::begin(self.labelled.label, Step::Wait, None);
        self.labelled.word.wait_for_change();
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
        if !is_inert() {
            self.labelled.store(value, site);
        }
    }

    #[track_caller]
    fn fetch_add(&self, value: u64, site: &'static Site) -> u64 {
        if is_inert() {
            return INERT_COUNT;
        }
        let recording = self.labelled.begin(Step::Update(0, value), site);
        let before = self.labelled.word.fetch_add(value, sabotage::order(site).atomic());
        recording.done(Step::Update(before, before.wrapping_add(value)));
        assert!(
            before != 0,
            "{}: a reference is added to a frame without any",
            self.labelled.label
        );
        before
    }

    #[track_caller]
    fn fetch_sub(&self, value: u64, site: &'static Site) -> u64 {
        if is_inert() {
            return INERT_COUNT;
        }
        let recording = self.labelled.begin(Step::Update(0, value), site);
        let before = self.labelled.word.fetch_sub(value, sabotage::order(site).atomic());
        recording.done(Step::Update(before, before.wrapping_sub(value)));
        assert!(before != 0, "{}: a reference is given up twice", self.labelled.label);
        before
    }
}

/// Plain data: two conflicting accesses that nothing orders are a failure.
pub struct ModelCell<T> {
    cell: ChosenPlain,
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
        Self { cell, label, value: PhantomData }
    }

    #[track_caller]
    fn get(&self) -> T {
        if is_inert() {
            return T::from_bits(0);
        }
        let recording = Recording::begin(self.label, Step::Get(0), None);
        let value = self.cell.get();
        recording.done(Step::Get(value));
        T::from_bits(value)
    }

    #[track_caller]
    fn set(&self, value: T) {
        if is_inert() {
            return;
        }
        let recording = Recording::begin(self.label, Step::Set(value.to_bits()), None);
        self.cell.set(value.to_bits());
        recording.done(Step::Set(value.to_bits()));
    }
}

/// Records an event of the core.
#[track_caller]
pub(crate) fn observe(label: Label, event: Event) {
    if is_inert() {
        return;
    }
    Ghost::current().observe(event);
    record(label, Step::Event(event));
}
