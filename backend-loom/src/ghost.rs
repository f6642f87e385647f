//! Ghost state of one execution: what reports need and the program never sees.
//!
//! Ghost state lives in ordinary memory, outside of the engine, so keeping it costs no step of the
//! search. That is allowed only for what cannot carry anything from one CPU to another: an engine
//! may run the CPUs one after the other. Everything here is therefore either written by one CPU
//! and read by none until the execution is over (records, situations, who waits for what, which
//! locks were taken in handlers), or kept per CPU (which locks it holds).
//!
//! The state is found through a thread-local, set by the harness wherever a part of the execution
//! begins: model CPUs may or may not have operating system threads of their own.
//!
//! Records and names are kept for the execution that fails. An engine that replays every failure
//! says so with [`record`], and its search keeps none of them: that is half the time of an
//! execution. Everything that can fail, and every situation, is noted in any case.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_core::address::Paddr;
use weft_core::sync::{Event, FrameUse};
use weft_scenarios::detector::{NOT_HELD, NOT_LISTED, NOT_OF_RACE};
use weft_scenarios::scenario::Situation;

/// What a word or cell belongs to, for reports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Label {
    /// The frame that the word is in or beside, if any.
    pub(crate) frame: Option<u64>,
    /// What it is: `entry`, `lock`, `children`.
    pub(crate) name: &'static str,
    /// Which of several, for entries.
    pub(crate) index: Option<usize>,
}

/// What CPUs wait for that have interrupted another one.
const ANSWERS: [&str; 4] =
    ["the answer of CPU 0", "the answer of CPU 1", "the answer of CPU 2", "the answer of CPU 3"];

impl Label {
    /// What a CPU waits for that has interrupted another one.
    pub(crate) fn answer_of(cpu: usize) -> Self {
        let name = ANSWERS.get(cpu).copied().unwrap_or("the answer of a CPU that has ended");
        Self { frame: None, name, index: None }
    }

    /// The CPU whose answer this is.
    pub(crate) fn answers(self) -> Option<usize> {
        ANSWERS.iter().position(|name| *name == self.name)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.frame, self.index) {
            (Some(frame), Some(index)) => write!(f, "N{frame}[{index}]"),
            (Some(frame), None) => write!(f, "N{frame}.{}", self.name),
            (None, _) => f.write_str(self.name),
        }
    }
}

/// An operation on a word or cell, with what it saw and did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// A load of the value.
    Load(u64),
    /// A store of the value.
    Store(u64),
    /// A read-modify-write: before, after.
    Update(u64, u64),
    /// A compare-exchange that failed on this value.
    Failed(u64),
    /// A plain read of the value.
    Get(u64),
    /// A plain write of the value.
    Set(u64),
    /// A fence.
    Fence,
    /// The CPU waits for the word to change.
    Wait,
    /// Something that the core says happened.
    Event(Event),
    /// A frame was allocated.
    Allocate(Paddr, FrameUse),
    /// A frame was freed.
    Free(Paddr),
    /// A situation of the scenario was met.
    Situation(&'static str),
}

/// One line of a counterexample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record {
    /// The CPU; equal to the number of CPUs before and after the race.
    pub(crate) cpu: usize,
    /// The engine's index of the operation on that CPU, if the engine has one.
    pub(crate) position: u64,
    /// What it is done to.
    pub(crate) label: Label,
    /// What is done.
    pub(crate) step: Step,
    /// The site of the ordering.
    pub(crate) site: Option<&'static str>,
    /// Where in the source.
    pub(crate) at: &'static Location<'static>,
}

/// Which part of an execution runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The set-up: one CPU, the boot CPU.
    SetUp = 0,
    /// The race.
    Race = 1,
    /// The final checks.
    Finish = 2,
}

/// Whether interrupts reach a CPU where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Interrupts {
    /// They do.
    #[default]
    On,
    /// It masks them.
    Masked,
    /// It plays a handler.
    Handler,
}

/// What a CPU did with locks, as far as interrupts are concerned.
#[derive(Debug, Default)]
struct Locking {
    interrupts: Interrupts,
    /// What it took in handlers.
    in_handlers: BTreeSet<Label>,
    /// What it held with interrupts on.
    interruptible: BTreeSet<Label>,
}

/// Ghost state of one execution.
pub(crate) struct Ghost {
    cpus: usize,
    phase: AtomicU8,
    situations: &'static [Situation],
    reached: Arc<Mutex<BTreeSet<&'static str>>>,
    records: Mutex<Vec<Record>>,
    /// The operation that each CPU is in, for failures in the middle of one.
    pending: Mutex<Vec<Option<Record>>>,
    /// Which locks each CPU holds.
    held: Mutex<Vec<(usize, Label)>>,
    /// Where each CPU took and held them.
    locking: Mutex<Vec<Locking>>,
    /// What words and cells are called, by the engine's number.
    names: Mutex<Vec<(u32, Label)>>,
    /// Where what each CPU does is told, if not where it is done.
    told_at: Mutex<Vec<Option<&'static Location<'static>>>>,
    /// Where the scenario says what has failed.
    blamed: Mutex<Option<&'static Location<'static>>>,
}

impl fmt::Debug for Ghost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ghost").field("cpus", &self.cpus).finish_non_exhaustive()
    }
}

thread_local! {
    static RECORDED: Cell<bool> = const { Cell::new(true) };
    static COUNTED: Cell<bool> = const { Cell::new(true) };
    static CURRENT: RefCell<Option<Arc<Ghost>>> = const { RefCell::new(None) };
    static NAMING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Says whether the executions of this thread are recorded from now on.
pub(crate) fn record(recorded: bool) {
    RECORDED.set(recorded);
}

/// Whether the executions of this thread are recorded.
pub(crate) fn is_recorded() -> bool {
    RECORDED.get()
}

/// Says whether what executions of this thread end with and meet is counted from now on. Those that
/// only serve to describe a failure are not.
pub(crate) fn count(counted: bool) {
    COUNTED.set(counted);
}

/// Whether what executions of this thread end with and meet is counted.
pub(crate) fn is_counted() -> bool {
    COUNTED.get()
}

/// Locks ghost state. A CPU that fails may leave the lock poisoned; the state is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ghost {
    /// Ghost state for an execution of `cpus` CPUs. Situations met are added to `reached`.
    pub(crate) fn new(
        cpus: usize,
        situations: &'static [Situation],
        reached: Arc<Mutex<BTreeSet<&'static str>>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            cpus,
            phase: AtomicU8::new(Phase::SetUp as u8),
            situations,
            reached,
            records: Mutex::default(),
            pending: Mutex::new(vec![None; cpus + 1]),
            held: Mutex::default(),
            locking: Mutex::new((0..=cpus).map(|_| Locking::default()).collect()),
            names: Mutex::default(),
            told_at: Mutex::new(vec![None; cpus + 1]),
            blamed: Mutex::default(),
        })
    }

    /// Makes this the ghost state of the calling thread.
    pub(crate) fn enter(self: &Arc<Self>) {
        CURRENT.with_borrow_mut(|current| *current = Some(Arc::clone(self)));
    }

    /// The ghost state of the calling thread.
    ///
    /// # Panics
    ///
    /// If there is none: model memory is used outside of a scenario.
    pub(crate) fn current() -> Arc<Self> {
        CURRENT.with_borrow(|current| {
            Arc::clone(current.as_ref().expect("model memory is used outside of a scenario"))
        })
    }

    /// The column of the calling thread's CPU.
    ///
    /// # Panics
    ///
    /// As [`Ghost::current`].
    pub(crate) fn column_of(cpu: usize) -> usize {
        CURRENT.with_borrow(|current| {
            let ghost = current.as_ref().expect("model memory is used outside of a scenario");
            ghost.column(cpu)
        })
    }

    /// Whether the race of the calling thread is running.
    pub(crate) fn is_racing_now() -> bool {
        CURRENT.with_borrow(|current| current.as_ref().is_some_and(|ghost| ghost.is_racing()))
    }

    /// Moves to the next phase.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Whether the race is running.
    pub(crate) fn is_racing(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == Phase::Race as u8
    }

    /// The column of the calling CPU: its number, or the number of CPUs outside of the race.
    pub(crate) fn column(&self, cpu: usize) -> usize {
        if self.is_racing() { cpu } else { self.cpus }
    }

    /// Names words and cells made by `make` after frame `number`.
    pub(crate) fn naming<T>(number: u64, make: impl FnOnce() -> T) -> T {
        NAMING.set(Some(number));
        let made = make();
        NAMING.set(None);
        made
    }

    /// The label of a word that is being made.
    pub(crate) fn label(name: &'static str) -> Label {
        Label { frame: NAMING.get(), name, index: None }
    }

    /// Notes what a new word or cell is called.
    pub(crate) fn name(id: u32, label: Label) {
        if is_recorded() {
            lock(&Self::current().names).push((id, label));
        }
    }

    /// What words and cells are called, by the engine's number.
    pub(crate) fn names(&self) -> BTreeMap<u32, Label> {
        lock(&self.names).iter().copied().collect()
    }

    /// Notes that the CPU is about to do something that may fail.
    pub(crate) fn begin(&self, record: Record) {
        lock(&self.pending)[record.cpu] = Some(record);
    }

    /// Notes that it is done.
    pub(crate) fn done(&self, record: Record) {
        lock(&self.pending)[record.cpu] = None;
        lock(&self.records).push(record);
    }

    /// Notes the situations that an event shows.
    pub(crate) fn observe(&self, event: Event) {
        for situation in self.situations {
            if situation.event.is_some_and(|shows| shows(event)) && self.is_racing() {
                self.count_reached(situation.name);
            }
        }
    }

    /// Notes that a situation was met.
    ///
    /// # Panics
    ///
    /// If the scenario does not list it.
    pub(crate) fn reached(&self, name: &'static str) {
        assert!(
            self.situations.iter().any(|situation| situation.name == name),
            "the situation \"{name}\" {NOT_LISTED} in REACHED"
        );
        assert!(self.is_racing(), "{NOT_OF_RACE}");
        self.count_reached(name);
    }

    fn count_reached(&self, name: &'static str) {
        if is_counted() {
            lock(&self.reached).insert(name);
        }
    }

    /// Calls `body`; what `cpu` does there is told where the caller is. So a program's instruction
    /// has one place, whatever hardware does for it.
    #[track_caller]
    pub(crate) fn told_here<R>(cpu: usize, body: impl FnOnce() -> R) -> R {
        if !is_recorded() {
            return body();
        }
        let ghost = Self::current();
        let column = ghost.column(cpu);
        lock(&ghost.told_at)[column] = Some(Location::caller());
        let result = body();
        lock(&ghost.told_at)[column] = None;
        result
    }

    /// Where what the CPU of this column does is told, if not where it is done.
    pub(crate) fn told_at(&self, column: usize) -> Option<&'static Location<'static>> {
        lock(&self.told_at)[column]
    }

    /// Notes where the scenario says what is about to fail.
    pub(crate) fn blame(&self, at: &'static Location<'static>) {
        *lock(&self.blamed) = Some(at);
    }

    /// Where the scenario says what has failed.
    pub(crate) fn blamed(&self) -> Option<&'static Location<'static>> {
        *lock(&self.blamed)
    }

    /// Notes that `cpu` now holds a lock.
    pub(crate) fn hold(&self, cpu: usize, label: Label) {
        lock(&self.held).push((cpu, label));
        let own = &mut lock(&self.locking)[cpu];
        match own.interrupts {
            Interrupts::On => drop(own.interruptible.insert(label)),
            Interrupts::Masked => {}
            Interrupts::Handler => drop(own.in_handlers.insert(label)),
        }
    }

    /// Calls `body`, during which `cpu` masks interrupts or plays a handler.
    pub(crate) fn without_interrupts<R>(
        &self,
        cpu: usize,
        how: Interrupts,
        body: impl FnOnce() -> R,
    ) -> R {
        let before = lock(&self.locking)[cpu].interrupts;
        // What is masked in a handler is still in the handler.
        if before != Interrupts::Handler {
            lock(&self.locking)[cpu].interrupts = how;
        }
        let result = body();
        let own = &mut lock(&self.locking)[cpu];
        own.interrupts = before;
        if before == Interrupts::On {
            let held = lock(&self.held);
            let still = held.iter().filter(|(holder, _)| *holder == cpu);
            own.interruptible.extend(still.map(|(_, label)| *label));
        }
        result
    }

    /// A lock that a handler took and that a CPU held with interrupts on, once all CPUs have ended:
    /// a handler that interrupts its holder waits for ever. No model is in that place, since a
    /// handler is played by another CPU, for which the holder goes on.
    pub(crate) fn lock_of_interrupted_holder(&self) -> Option<Label> {
        let locking = lock(&self.locking);
        let interruptible =
            |label: &&Label| locking.iter().any(|it| it.interruptible.contains(*label));
        locking.iter().flat_map(|it| &it.in_handlers).find(interruptible).copied()
    }

    /// Notes that `cpu` gives a lock back.
    ///
    /// # Panics
    ///
    /// If it does not hold the lock.
    pub(crate) fn let_go(&self, cpu: usize, label: Label) {
        let mut held = lock(&self.held);
        let position = held.iter().position(|entry| *entry == (cpu, label));
        let Some(position) = position else {
            drop(held);
            panic!("{label} {NOT_HELD}: CPU {cpu}");
        };
        held.swap_remove(position);
    }

    /// Forgets who holds a lock, because its node is new.
    pub(crate) fn forget(&self, label: Label) {
        lock(&self.held).retain(|(_, held)| *held != label);
    }

    /// The locks that are held.
    pub(crate) fn held(&self) -> Vec<(usize, Label)> {
        lock(&self.held).clone()
    }

    /// What each CPU was in the middle of, if anything.
    pub(crate) fn pending(&self) -> Vec<Option<Record>> {
        lock(&self.pending).clone()
    }

    /// Everything recorded, in the order of execution.
    pub(crate) fn records(&self) -> Vec<Record> {
        lock(&self.records).clone()
    }
}
