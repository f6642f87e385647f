//! Runs programs under the engine, and compares with the enumerators.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weft_explorer::{
    Atomic, FailureKind, JoinHandle, Model, Options, Plain, Report, Window, event_index, explore,
    fence, mark, spawn, thread_id, wait_for_any_change,
};

use super::program::{Operation, Outcome, Outcomes, Program, is_cacheable};
use super::random::Flavour;
use super::{axiomatic, operational};

/// How a thread waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spin {
    /// In an await operation.
    Never,
    /// In a loop with `wait_for_change`.
    OnOneWord,
    /// In a loop whose rounds read the word, then another one, and wait there.
    OnTwoWords,
}

/// How a program is put to the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Harness {
    pub(crate) model: Model,
    pub(crate) flavour: Flavour,
    /// The main thread plays the last thread of the program.
    pub(crate) is_lean: bool,
    /// Each thread of the program spawns the next one, and joins it.
    pub(crate) is_nested: bool,
    /// How awaiting compare-exchanges are written.
    pub(crate) spins: Spin,
    pub(crate) workers: usize,
}

impl Harness {
    pub(crate) const fn new(model: Model, flavour: Flavour) -> Harness {
        Harness { model, flavour, is_lean: false, is_nested: false, spins: Spin::Never, workers: 1 }
    }
}

struct Memory {
    words: Vec<Atomic>,
    plain: Plain<u64>,
    /// What the plain memory holds, and how far each thread has come: memory of the host, which the
    /// engine knows nothing of.
    real: AtomicUsize,
    progress: [AtomicUsize; 8],
}

impl Memory {
    fn new(words: usize) -> Memory {
        Memory {
            words: (0..words).map(|_| Atomic::new(0)).collect(),
            plain: Plain::new(0),
            real: AtomicUsize::new(0),
            progress: Default::default(),
        }
    }

    /// To be called before each event: all that happens before it has been done.
    fn begin(&self) {
        let mark = mark();
        for (thread, progress) in self.progress.iter().enumerate() {
            // What the other thread has begun last may have two events.
            let (begun, known) = (progress.load(Relaxed), mark.known(thread));
            assert!(begun + 2 >= known, "thread {thread} has begun {begun} events of {known}");
        }
        self.progress[thread_id()].store(event_index(), Relaxed);
    }

    fn set_plain(&self, value: u64) {
        self.plain.set(value);
        self.real.store(value as usize, Relaxed);
    }

    fn get_plain(&self) -> u64 {
        let value = self.plain.get();
        assert_eq!(self.real.load(Relaxed) as u64, value, "plain memory is not real memory");
        value
    }
}

fn perform(memory: &Memory, operation: Operation, harness: Harness) -> Option<u64> {
    let is_plain = harness.flavour == Flavour::Plain && operation.word() == Some(1);
    let word = operation.word().map(|word| &memory.words[word])?;
    match operation {
        Operation::Store { value, .. } if is_plain => {
            memory.set_plain(value);
            None
        }
        Operation::Load { .. } if is_plain => Some(memory.get_plain()),
        Operation::Store { value, order, .. } => {
            word.store(value, order);
            None
        }
        Operation::Load { order, .. } => Some(word.load(order)),
        Operation::Swap { value, order, .. } => Some(word.swap(value, order)),
        Operation::Add { value, order, .. } => Some(word.fetch_add(value, order)),
        Operation::Cas { expected, value, order, failure, .. } => {
            if harness.flavour != Flavour::Awaiting {
                let (Ok(found) | Err(found)) =
                    word.compare_exchange(expected, value, order, failure);
                return Some(found);
            }
            let other = &memory.words[memory.words.len() - 1];
            match harness.spins {
                Spin::Never => word.await_cas(expected, value, order),
                Spin::OnOneWord => {
                    while word.compare_exchange(expected, value, order, failure).is_err() {
                        word.wait_for_change();
                    }
                }
                Spin::OnTwoWords => loop {
                    let seen = word.load(Relaxed);
                    other.load(Relaxed);
                    memory.begin();
                    if seen == expected
                        && word.compare_exchange(expected, value, order, failure).is_ok()
                    {
                        break;
                    }
                    wait_for_any_change();
                },
            }
            Some(expected)
        }
        Operation::Fence { .. } | Operation::Open | Operation::Within { .. } => None,
    }
}

fn perform_all(memory: &Memory, operations: &[Operation], harness: Harness) -> Vec<u64> {
    let mut registers = Vec::new();
    let mut window = Window::open();
    for operation in operations {
        memory.begin();
        match *operation {
            Operation::Fence { order } => fence(order),
            Operation::Open => window = Window::open(),
            Operation::Within { word } => {
                registers.push(memory.words[word].load_within(&mut window, is_cacheable));
            }
            _ => registers.extend(perform(memory, *operation, harness)),
        }
    }
    registers
}

/// Performs the first thread of those given, after spawning the others; returns all registers.
fn perform_nested(memory: &Arc<Memory>, threads: &[Vec<Operation>], harness: Harness) -> Vec<u64> {
    let Some((own, others)) = threads.split_first() else { return Vec::new() };
    let (shared, others) = (Arc::clone(memory), others.to_vec());
    memory.begin();
    let next =
        (!others.is_empty()).then(|| spawn(move || perform_nested(&shared, &others, harness)));
    let mut registers = perform_all(memory, own, harness);
    memory.begin();
    registers.extend(next.map_or_else(Vec::new, JoinHandle::join));
    registers
}

/// The body of the program as the engine runs it; calls `done` at the end of each execution.
pub(crate) fn body(program: &Program, harness: Harness, done: &(dyn Fn(Outcome) + Sync)) {
    let memory = Arc::new(Memory::new(program.word_count()));
    let registers = if harness.is_nested {
        perform_nested(&memory, &program.threads, harness)
    } else {
        perform_flat(&memory, program, harness)
    };
    let mut finally: Vec<u64> = memory.words.iter().map(|word| word.load(Relaxed)).collect();
    if harness.flavour == Flavour::Plain && finally.len() > 1 {
        finally[1] = memory.get_plain();
    }
    done(Outcome { registers, memory: finally });
}

fn perform_flat(memory: &Arc<Memory>, program: &Program, harness: Harness) -> Vec<u64> {
    let spawned = program.threads.len() - usize::from(harness.is_lean);
    let handles: Vec<JoinHandle<Vec<u64>>> = program.threads[..spawned]
        .iter()
        .map(|operations| {
            let (memory, operations) = (Arc::clone(memory), operations.clone());
            memory.begin();
            spawn(move || perform_all(&memory, &operations, harness))
        })
        .collect();
    let own = program.threads[spawned..]
        .iter()
        .flat_map(|operations| perform_all(memory, operations, harness));
    let own: Vec<u64> = own.collect();
    let join = |handle: JoinHandle<Vec<u64>>| {
        memory.begin();
        handle.join()
    };
    let mut registers: Vec<u64> = handles.into_iter().flat_map(join).collect();
    registers.extend(own);
    registers
}

/// Explores a program to the end, deadlocks or not.
pub(crate) fn run(program: &Program, harness: Harness) -> (Outcomes, Report) {
    let outcomes = Mutex::new(Outcomes::new());
    let options = Options {
        model: harness.model,
        workers: harness.workers,
        find_duplicates: true,
        // A deadlocking program has executions too; a racing one is wrong as a whole.
        keep_going: harness.flavour == Flavour::Awaiting,
        ..Options::default()
    };
    let report = explore(&options, || {
        body(program, harness, &|outcome| {
            outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(outcome);
        });
    });
    (outcomes.into_inner().unwrap_or_else(PoisonError::into_inner), report)
}

/// What all programs of a comparison had in common, for the summary.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) programs: u64,
    pub(crate) executions: u64,
    pub(crate) blocked: u64,
    pub(crate) races: u64,
    pub(crate) deadlocks: u64,
    /// The time spent in the engine, enumerators apart.
    pub(crate) engine: Duration,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.programs += other.programs;
        self.executions += other.executions;
        self.blocked += other.blocked;
        self.races += other.races;
        self.deadlocks += other.deadlocks;
        self.engine += other.engine;
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(
    what: &str,
    engine: &T,
    oracle: &T,
) -> Result<(), String> {
    if engine == oracle {
        return Ok(());
    }
    Err(format!("{what} differ: the engine says {engine:?}, the enumerator {oracle:?}"))
}

fn failure_kind(report: &Report) -> Option<FailureKind> {
    report.failure.as_ref().map(|failure| failure.kind)
}

/// Compares the engine under RC11, SC and TSO with the enumerators.
pub(crate) fn compare(program: &Program, flavour: Flavour, is_lean: bool) -> Result<Tally, String> {
    let awaits = flavour == Flavour::Awaiting;
    let harness = Harness { is_lean, ..Harness::new(Model::Rc11, flavour) };
    let (outcomes, report) = run(program, harness);
    let oracle = axiomatic::enumerate(program, awaits);
    let mut tally = Tally {
        programs: 1,
        executions: report.executions,
        blocked: report.blocked,
        engine: report.elapsed,
        ..Tally::default()
    };
    expect("duplicates", &report.duplicates, &0)?;
    if flavour == Flavour::Plain {
        let races = failure_kind(&report) == Some(FailureKind::DataRace);
        expect("race verdicts", &races, &oracle.races)?;
        if races {
            let (_, nested) = run(program, Harness { is_nested: true, ..harness });
            let races = failure_kind(&nested) == Some(FailureKind::DataRace);
            expect("race verdicts of nested threads", &races, &true)?;
            tally.races = 1;
            return Ok(tally);
        }
    }
    expect("RC11 outcome sets", &outcomes, &oracle.outcomes)?;
    expect("RC11 execution counts", &report.executions, &oracle.executions)?;
    if !awaits {
        expect("failures", &failure_kind(&report), &None)?;
    }
    tally.engine += compare_nested(program, harness, &report, &outcomes)?;
    if flavour != Flavour::Plain {
        tally.engine += compare_strong_models(program, harness)?;
    }
    if awaits {
        let sc_deadlocks = operational::enumerate(program, false, true).deadlocks;
        tally.deadlocks = u64::from(sc_deadlocks);
        tally.engine += compare_waiting(program, harness, sc_deadlocks)?;
    }
    Ok(tally)
}

/// Threads that spawn each other have the executions of threads that one thread spawns.
fn compare_nested(
    program: &Program,
    harness: Harness,
    flat: &Report,
    flat_outcomes: &Outcomes,
) -> Result<Duration, String> {
    let (outcomes, report) = run(program, Harness { is_nested: true, ..harness });
    expect("outcome sets of nested threads", &outcomes, flat_outcomes)?;
    expect("execution counts of nested threads", &report.executions, &flat.executions)?;
    expect("failures of nested threads", &failure_kind(&report), &failure_kind(flat))?;
    expect("duplicates of nested threads", &report.duplicates, &0)?;
    Ok(report.elapsed)
}

fn compare_strong_models(program: &Program, harness: Harness) -> Result<Duration, String> {
    let mut engine = Duration::ZERO;
    let awaits = harness.flavour == Flavour::Awaiting;
    for (model, tso) in [(Model::Sc, false), (Model::Tso, true)] {
        let (outcomes, report) = run(program, Harness { model, ..harness });
        let mut oracle = operational::enumerate(program, tso, awaits).outcomes;
        if tso {
            // The model is TSO and RC11: what RC11 forbids of TSO's outcomes is not expected.
            let rc11 = axiomatic::enumerate(program, awaits).outcomes;
            oracle.retain(|outcome| rc11.contains(outcome));
        }
        expect(&format!("{model:?} outcome sets"), &outcomes, &oracle)?;
        expect("duplicates", &report.duplicates, &0)?;
        engine += report.elapsed;
    }
    Ok(engine)
}

/// Deadlock verdicts, and waiting in loops against waiting by await.
fn compare_waiting(
    program: &Program,
    harness: Harness,
    sc_deadlocks: bool,
) -> Result<Duration, String> {
    let mut engine = Duration::ZERO;
    let deadlocks = |report: &Report| failure_kind(report) == Some(FailureKind::Deadlock);
    for model in [Model::Rc11, Model::Sc] {
        let harness = Harness { model, ..harness };
        let (outcomes, report) = run(program, harness);
        let (spun_outcomes, spun) = run(program, Harness { spins: Spin::OnOneWord, ..harness });
        if model == Model::Sc {
            expect("deadlock verdicts", &deadlocks(&report), &sc_deadlocks)?;
        } else if sc_deadlocks && !deadlocks(&report) {
            return Err("RC11 misses a deadlock of sequential consistency".to_owned());
        }
        expect("deadlock verdicts of spinning", &deadlocks(&spun), &deadlocks(&report))?;
        expect("outcome sets of spinning", &spun_outcomes, &outcomes)?;
        expect("execution counts of spinning", &spun.executions, &report.executions)?;
        expect("duplicates of spinning", &spun.duplicates, &0)?;
        let (outcomes_of_two, two) = run(program, Harness { spins: Spin::OnTwoWords, ..harness });
        expect("deadlock verdicts of rounds", &deadlocks(&two), &deadlocks(&report))?;
        expect("outcome sets of rounds", &outcomes_of_two, &outcomes)?;
        expect("duplicates of rounds", &two.duplicates, &0)?;
        engine += report.elapsed + spun.elapsed + two.elapsed;
    }
    Ok(engine)
}
