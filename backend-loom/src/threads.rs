//! The host engine: the program on real threads and real atomics, over and over.
//!
//! It samples what the machine under it does, with all the speed and none of the control: no
//! replay, no data-race detection (plain cells are relaxed atomics, so that a race is at least no
//! undefined behaviour), and on x86 few weak outcomes. It is a smoke test for the code paths, and
//! it shows that nothing in a program depends on a model.
//!
//! One thread per CPU is started once per search; the calling thread plays the last CPU. All CPUs
//! of an execution meet at a spinning barrier, so that they really overlap. A wait spins, then
//! yields. If a CPU fails, the others leave at their next wait; if an execution goes on waiting
//! for [`Search::wait_max`], it counts as a deadlock. A loop that never ends and never waits hangs.

use std::cell::{Cell, RefCell};
use std::panic::{Location, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use weft_scenarios::detector::DEADLOCK;
use weft_scenarios::mark::Mark;

use crate::budget::Budget;
use crate::capture::{self, Capture, Stop};
use crate::engine::{
    Access, Body, Caching, Engine, EnginePlain, EngineWord, Execution, Exploration, Failure,
    FailureKind, Program, Search, Traits, Verdict, refuse_load, refuse_sequentially_consistent,
};

const CPUS_MAX: usize = 8;

/// Rounds of a wait or a barrier that spin; later ones yield to the host's scheduler.
const SPINS: u32 = 64;

/// How many marks were drawn: the common clock of all CPUs.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// What the CPUs of one execution share besides the program.
struct Meeting {
    arrived: AtomicUsize,
    cpus: usize,
    /// A CPU has failed: the ones that wait leave.
    stopped: AtomicBool,
    wait_max: Duration,
}

impl Meeting {
    fn enter(&self) {
        self.arrived.fetch_add(1, Ordering::AcqRel);
        let mut round = 0;
        while self.arrived.load(Ordering::Acquire) < self.cpus {
            pause(&mut round);
        }
    }
}

/// What a worker gets: what its CPU does, and with whom.
type Task = (Body, Arc<Meeting>);

/// What a worker gives back: the number of operations, and the failure.
type Outcome = (u64, Result<(), Option<Box<Failure>>>);

thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static ROUND: Cell<u32> = const { Cell::new(0) };
    static WAITING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static MEETING: RefCell<Option<Arc<Meeting>>> = const { RefCell::new(None) };
}

fn pause(round: &mut u32) {
    if *round < SPINS {
        *round += 1;
        std::hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

/// Stress on the host's threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Threads;

impl Threads {
    pub(crate) const TRAITS: Traits = Traits {
        name: "threads",
        memory_model: "host",
        exhaustive: false,
        controls_schedule: false,
        cpus_max: CPUS_MAX,
        arranges: false,
        caching: Caching::Nothing,
    };
}

impl Engine for Threads {
    fn traits() -> &'static Traits {
        &Self::TRAITS
    }

    type Word = ThreadsWord;
    type Plain = ThreadsPlain;

    fn fence(order: Ordering) {
        if order != Ordering::Relaxed {
            std::sync::atomic::fence(order);
        }
    }

    fn cpu() -> usize {
        CPU.get()
    }

    fn mark() -> Mark {
        // A CPU that draws a later number acquires what all released with earlier ones.
        Mark::at(MARKS.fetch_add(1, Ordering::AcqRel))
    }

    fn explore(search: &Search, program: Program) -> Exploration {
        let mut budget = Budget::new(search);
        let mut depth = 0;
        let failure = if search.cpus == 0 || search.cpus > CPUS_MAX {
            let message = format!("host threads run 1 to {CPUS_MAX} CPUs, not {}", search.cpus);
            Some(capture::internal(message))
        } else if search.replay.is_some() {
            Some(capture::internal("an execution on host threads cannot be replayed"))
        } else {
            run(search, &program, &mut budget, &mut depth)
        };
        Exploration {
            verdict: match failure {
                Some(_) => Verdict::Failed,
                None => Verdict::Sampled(budget.executions),
            },
            executions: budget.executions,
            blocked: 0,
            depth,
            elapsed: budget.elapsed(),
            failure,
            caveats: vec!["plain cells are not checked for data races".to_owned()],
        }
    }
}

fn run(
    search: &Search,
    program: &Program,
    budget: &mut Budget,
    depth: &mut u64,
) -> Option<Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| capture::install_hook_after(|| {}));
    thread::scope(|scope| {
        let (outcomes, results) = channel::<Outcome>();
        let workers: Vec<Sender<Task>> = (0..search.cpus - 1)
            .map(|cpu| {
                let (sender, tasks) = channel::<Task>();
                let outcomes = outcomes.clone();
                scope.spawn(move || work(cpu, &tasks, &outcomes));
                sender
            })
            .collect();
        let _capturing = Capture::start(classify);
        CPU.set(search.cpus - 1);
        while budget.begin() {
            let (steps, result) = run_execution(search, program, &workers, &results);
            *depth = (*depth).max(steps);
            if let Err(failure) = result {
                let without_text = "a CPU panicked with a payload that is not text";
                return Some(failure.map_or_else(|| capture::internal(without_text), |it| *it));
            }
        }
        None
    })
}

fn classify(_message: &str) -> FailureKind {
    FailureKind::Violation
}

/// The life of a worker: the search drops the sender when it ends.
fn work(cpu: usize, tasks: &Receiver<Task>, outcomes: &Sender<Outcome>) {
    let _capturing = Capture::start(classify);
    CPU.set(cpu);
    for (body, meeting) in tasks {
        if outcomes.send(play(cpu, body, &meeting)).is_err() {
            return;
        }
    }
}

/// Plays one CPU of one execution on the calling thread.
fn play(cpu: usize, body: Body, meeting: &Arc<Meeting>) -> Outcome {
    STEPS.set(0);
    WAITING_SINCE.set(None);
    MEETING.set(Some(Arc::clone(meeting)));
    meeting.enter();
    let result = run_body(cpu, body);
    if result.is_err() {
        meeting.stopped.store(true, Ordering::Release);
    }
    MEETING.set(None);
    (STEPS.get(), result)
}

fn run_body(cpu: usize, body: Body) -> Result<(), Option<Box<Failure>>> {
    match capture::run_as(cpu, body) {
        Ok(()) => Ok(()),
        // A CPU that only left a wait because another one failed has nothing to tell.
        Err(_) => Err(capture::take().map(Box::new)),
    }
}

/// One execution. The inner error is the failure, or none for a panic without text.
fn run_execution(
    search: &Search,
    program: &Program,
    workers: &[Sender<Task>],
    results: &Receiver<Outcome>,
) -> Outcome {
    let last = search.cpus - 1;
    let (sender, receiver) = channel();
    let set_up = Arc::clone(program);
    let result = run_body(last, Box::new(move || sender.send(set_up()).expect("received below")));
    if result.is_err() {
        return (0, result);
    }
    let Execution { mut cpus, finish } = receiver.recv().expect("sent by the set-up");
    if cpus.len() != search.cpus {
        let message = format!("the program has {} CPUs, the search {}", cpus.len(), search.cpus);
        return (0, Err(Some(Box::new(capture::internal(message)))));
    }
    let meeting = Arc::new(Meeting {
        arrived: AtomicUsize::new(0),
        cpus: search.cpus,
        stopped: AtomicBool::new(false),
        wait_max: search.wait_max,
    });
    let own = cpus.pop().expect("a search has at least one CPU");
    for (worker, body) in workers.iter().zip(cpus) {
        worker.send((body, Arc::clone(&meeting))).expect("workers live as long as the search");
    }
    let mut outcomes = vec![play(last, own, &meeting)];
    outcomes.extend(workers.iter().map(|_| results.recv().expect("every worker answers")));
    let steps = outcomes.iter().map(|(steps, _)| steps).sum();
    let failures: Vec<_> = outcomes.into_iter().filter_map(|(_, result)| result.err()).collect();
    if !failures.is_empty() {
        return (steps, Err(failures.into_iter().flatten().next()));
    }
    (steps, run_body(last, finish))
}

/// A word on a real atomic.
#[derive(Debug)]
pub struct ThreadsWord {
    value: AtomicU64,
    access: Access,
}

impl ThreadsWord {
    #[track_caller]
    fn update(&self, order: Ordering, operation: impl FnOnce(&AtomicU64) -> u64) -> u64 {
        refuse_sequentially_consistent(order);
        progress();
        operation(&self.value)
    }
}

/// Notes an operation, which means that the calling CPU is not waiting.
fn progress() {
    STEPS.set(STEPS.get() + 1);
}

impl EngineWord for ThreadsWord {
    fn new(value: u64, access: Access) -> Self {
        Self { value: AtomicU64::new(value), access }
    }

    fn load(&self, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        refuse_load(self.access);
        progress();
        self.value.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        refuse_sequentially_consistent(order);
        progress();
        self.value.store(value, order);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.swap(value, order))
    }

    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        refuse_sequentially_consistent(success);
        refuse_sequentially_consistent(failure);
        progress();
        self.value.compare_exchange(old, new, success, failure)
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_add(value, order))
    }

    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_sub(value, order))
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_and(value, order))
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_or(value, order))
    }

    fn wait_for_change(&self) {
        let Some(meeting) = MEETING.with_borrow(Clone::clone) else {
            let message = "a wait while no other CPU runs".to_owned();
            capture::fail(FailureKind::Deadlock, CPU.get(), Location::caller(), message);
        };
        if meeting.stopped.load(Ordering::Acquire) {
            resume_unwind(Box::new(Stop));
        }
        let mut round = ROUND.get();
        pause(&mut round);
        ROUND.set(round);
        let since = WAITING_SINCE.get().unwrap_or_else(Instant::now);
        WAITING_SINCE.set(Some(since));
        if since.elapsed() > meeting.wait_max {
            let cpu = CPU.get();
            let here = Location::caller();
            let message = format!(
                "{DEADLOCK}CPU {cpu} waits at {here}, and the execution has not ended for {:?}",
                meeting.wait_max
            );
            capture::fail(FailureKind::Deadlock, cpu, here, message);
        }
    }
}

/// A plain cell that nothing checks.
#[derive(Debug)]
pub struct ThreadsPlain(AtomicU64);

impl EnginePlain for ThreadsPlain {
    fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}
