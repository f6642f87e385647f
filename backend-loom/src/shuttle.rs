//! The shuttle engine: random interleavings, checked with happens-before clocks of ours.
//!
//! shuttle only runs tasks and switches between them. Words and cells are ours: each operation
//! offers a switch, then acts on plain data, since all tasks share one thread of the host. Values
//! are sequentially consistent; the clocks compute what the orderings allow a CPU to rely
//! on, so a weak ordering shows as a data race on a plain cell, mostly within a few executions.
//! What this engine cannot see is a stale value that touches no plain cell.
//!
//! A waiting CPU is never scheduled, and a wait that leaves none running is a deadlock. A
//! failing execution is left where it stands: the scheduler stops it, and shuttle, which would
//! print about a failure, hears of none.

use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::atomic::Ordering::{self, Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use shuttle::scheduler::RoundRobinScheduler;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use weft_scenarios::mark::Mark;

use crate::budget::Budget;
use crate::capture::{self, Capture};
use crate::clocks::{self, CPUS_MAX, PlainClock, WordClock};
use crate::engine::{
    Access, Body, Caching, Engine, EnginePlain, EngineWord, Execution, Exploration, Failure,
    FailureKind, Program, Search, Traits, Verdict, refuse_load, refuse_sequentially_consistent,
};
use crate::schedule::{self, Draws, Guided, Run, Strategy};
use crate::{exclusive, waiting};

/// Bytes of stack per task: unoptimised programs and the formatting of messages need room.
const STACK_BYTES: usize = 0x4_0000;

/// The environment variable by which shuttle would replace our seeds.
const SEED_VARIABLE: &str = "SHUTTLE_RANDOM_SEED";

/// Random search by shuttle with happens-before clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shuttle;

impl Shuttle {
    pub(crate) const TRAITS: Traits = Traits {
        name: "shuttle",
        memory_model: "SC + happens-before",
        exhaustive: false,
        controls_schedule: true,
        cpus_max: CPUS_MAX,
        arranges: false,
        caching: Caching::Drawn,
    };
}

impl Engine for Shuttle {
    fn traits() -> &'static Traits {
        &Self::TRAITS
    }

    type Word = ShuttleWord;
    type Plain = ShuttlePlain;

    fn fence(order: Ordering) {
        if order != Relaxed {
            clocks::fence(Self::cpu(), order);
        }
    }

    fn cpu() -> usize {
        let task = shuttle::current::get_current_task().map_or(0, usize::from);
        schedule::cpu_of(task, schedule::with(|run| run.cpus))
    }

    fn mark() -> Mark {
        clocks::mark(Self::cpu())
    }

    fn draw(bound: u64) -> u64 {
        schedule::draw(bound)
    }

    fn explore(search: &Search, program: Program) -> Exploration {
        let budget = Budget::new(search);
        match strategies(search) {
            Ok(strategies) => run(search, strategies, &program, budget),
            Err(message) => Exploration {
                verdict: Verdict::Failed,
                executions: 0,
                blocked: 0,
                depth: 0,
                elapsed: budget.elapsed(),
                failure: Some(capture::internal(message)),
                caveats: Vec::new(),
            },
        }
    }
}

fn strategies(search: &Search) -> Result<Vec<Strategy>, String> {
    if search.cpus == 0 || search.cpus > CPUS_MAX {
        return Err(format!("shuttle runs 1 to {CPUS_MAX} CPUs, not {}", search.cpus));
    }
    if std::env::var_os(SEED_VARIABLE).is_some() {
        return Err(format!("{SEED_VARIABLE} is set and would replace the seed: unset it"));
    }
    exclusive::claim(Shuttle::TRAITS.name)?;
    let Some(token) = &search.replay else {
        return Ok(Strategy::all(search));
    };
    let (choices, seed) = schedule::decode(token, search.cpus).ok_or_else(|| {
        format!("malformed shuttle token {token:?}: expected a schedule such as a12b3a")
    })?;
    Ok(vec![Strategy::Replay { choices, seed, position: 0 }])
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::None;
    config.max_time = None;
    config.silence_warnings = true;
    config
}

/// shuttle puts its panic hook, which prints, in place at its first execution. Ours goes on top.
fn install_hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        capture::install_hook_after(|| {
            Runner::new(RoundRobinScheduler::new(1), config()).run(|| {});
        });
    });
}

fn run(
    search: &Search,
    strategies: Vec<Strategy>,
    program: &Program,
    budget: Budget,
) -> Exploration {
    install_hook();
    schedule::exchange(Some(Run {
        cpus: search.cpus,
        budget,
        share: 0,
        steps_max: search.steps_max,
        record: Vec::new(),
        draws: Draws::of(search),
        stopped: false,
        steps: 0,
        depth: 0,
    }));
    waiting::reset(search.cpus);
    let count = strategies.len() as u32;
    let capturing = Capture::start(|_| FailureKind::Violation);
    for (begun, strategy) in strategies.into_iter().enumerate().map(|(i, s)| (i as u32, s)) {
        share_out(search, count - begun);
        run_strategy(strategy, program);
    }
    let failure = capture::take();
    drop(capturing);
    let run = schedule::exchange(None).expect("a search is taken away only here");
    Exploration {
        verdict: match failure {
            Some(_) => Verdict::Failed,
            None => Verdict::Sampled(run.budget.executions),
        },
        executions: run.budget.executions,
        blocked: 0,
        depth: run.depth,
        elapsed: run.budget.elapsed(),
        failure,
        caveats: Vec::new(),
    }
}

/// Gives the strategy that is next its part of what is left, with `left` strategies to come.
fn share_out(search: &Search, left: u32) {
    schedule::with(|run| {
        run.share = match (&search.replay, search.executions) {
            (Some(_), _) => 1,
            (None, Some(all)) => (all - run.budget.executions).div_ceil(u64::from(left)),
            (None, None) => u64::MAX,
        };
        run.budget.limit(search.time.saturating_sub(run.budget.elapsed()) / left);
    });
}

/// Runs executions under one strategy; after a failure there are none.
fn run_strategy(strategy: Strategy, program: &Program) {
    let program = Arc::clone(program);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        Runner::new(Guided(strategy), config()).run(move || run_execution(&program))
    }));
    if ended.is_err() {
        // Programs do not panic out of here: `run_or_stop` keeps their panics.
        capture::record(capture::internal("shuttle panicked"));
        capture::amend(|failure| failure.kind = FailureKind::Internal);
        schedule::with(|run| run.stopped = true);
    }
}

/// One execution, on shuttle's main task.
fn run_execution(program: &Program) {
    let cpus = schedule::with(|run| {
        run.steps = 0;
        run.cpus
    });
    let last = cpus - 1;
    waiting::reset(cpus);
    clocks::reset(last);
    let program = Arc::clone(program);
    run_or_stop(
        last,
        Box::new(move || {
            let Execution { cpus: mut bodies, finish } = program();
            if bodies.len() != cpus {
                let message = format!("the program has {} CPUs, the search {cpus}", bodies.len());
                capture::fail(FailureKind::Internal, last, Location::caller(), message);
            }
            let own = bodies.pop().expect("a program has at least one CPU");
            waiting::start_all();
            let mut others = Vec::new();
            for (cpu, body) in bodies.into_iter().enumerate() {
                clocks::spawn(last, cpu);
                others.push(shuttle::thread::spawn(move || {
                    run_or_stop(cpu, body);
                    end(cpu);
                }));
            }
            // Starting a task is no choice; PCT refuses programs without one, so here is one.
            shuttle::thread::yield_now();
            own();
            end(last);
            for (cpu, other) in others.into_iter().enumerate() {
                other.join().expect("a CPU that panics ends the search");
                clocks::join_cpu(last, cpu);
            }
            waiting::reset(cpus);
            finish();
        }),
    );
    schedule::with(|run| run.depth = run.depth.max(run.steps));
}

/// Runs what a CPU does. If it fails, the search ends here: this function does not return.
fn run_or_stop(cpu: usize, body: Body) {
    if capture::run_as(cpu, body).is_err() {
        stop();
    }
}

/// Ends the search. The scheduler runs nothing any more, so the calling task stays where it is.
fn stop() -> ! {
    schedule::with(|run| {
        let token = run.token();
        capture::record(capture::internal("a CPU panicked with a payload that is not text"));
        capture::amend(|failure| failure.token = Some(token));
        run.stopped = true;
    });
    loop {
        shuttle::thread::yield_now();
    }
}

#[track_caller]
fn end(cpu: usize) {
    if let Err(message) = waiting::end(cpu) {
        capture::record(Failure {
            message,
            location: None,
            cpu: Some(cpu),
            kind: FailureKind::Deadlock,
            token: None,
            arrangement: None,
            size: None,
        });
        stop();
    }
}

/// Offers the scheduler a switch before an operation, and tells the calling CPU's number.
fn step() -> usize {
    shuttle::thread::yield_now();
    schedule::with(|run| run.steps += 1);
    Shuttle::cpu()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A word: its value, its clock, and who waits for it.
pub struct ShuttleWord {
    access: Access,
    state: Mutex<WordState>,
}

struct WordState {
    value: u64,
    clock: WordClock,
    /// Number of changes of value so far, and which of them each CPU has read.
    version: u64,
    seen: [u64; CPUS_MAX],
    waiters: Vec<usize>,
}

impl WordState {
    /// Wakes the waiters if the value changes: a write that changes nothing helps none.
    fn write(&mut self, cpu: usize, value: u64) {
        if value != self.value {
            self.value = value;
            self.version += 1;
            self.waiters.drain(..).for_each(waiting::wake);
        }
        self.seen[cpu] = self.version;
    }
}

impl fmt::Debug for ShuttleWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShuttleWord")
            .field("value", &lock(&self.state).value)
            .finish_non_exhaustive()
    }
}

impl ShuttleWord {
    #[track_caller]
    fn update(&self, order: Ordering, new: impl FnOnce(u64) -> u64) -> u64 {
        refuse_sequentially_consistent(order);
        let here = Location::caller();
        let cpu = step();
        let mut state = lock(&self.state);
        let old = state.value;
        state.clock.read(cpu, order, here);
        state.clock.update(cpu, order, here);
        state.write(cpu, new(old));
        old
    }
}

impl EngineWord for ShuttleWord {
    fn new(value: u64, access: Access) -> Self {
        let state = WordState {
            value,
            clock: WordClock::default(),
            version: 0,
            seen: [u64::MAX; CPUS_MAX],
            waiters: Vec::new(),
        };
        Self { access, state: Mutex::new(state) }
    }

    fn load(&self, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        refuse_load(self.access);
        let here = Location::caller();
        let cpu = step();
        let mut state = lock(&self.state);
        state.clock.read(cpu, order, here);
        state.seen[cpu] = state.version;
        state.value
    }

    fn store(&self, value: u64, order: Ordering) {
        refuse_sequentially_consistent(order);
        let here = Location::caller();
        let cpu = step();
        let mut state = lock(&self.state);
        state.clock.store(cpu, order, here);
        state.write(cpu, value);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |_| value)
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
        let here = Location::caller();
        let cpu = step();
        let mut state = lock(&self.state);
        let value = state.value;
        if value != old {
            state.clock.read(cpu, failure, here);
            state.seen[cpu] = state.version;
            return Err(value);
        }
        state.clock.read(cpu, success, here);
        state.clock.update(cpu, success, here);
        state.write(cpu, new);
        Ok(value)
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old.wrapping_add(value))
    }

    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old.wrapping_sub(value))
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old & value)
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |old| old | value)
    }

    fn wait_for_change(&self) {
        let cpu = Shuttle::cpu();
        {
            let mut state = lock(&self.state);
            if state.seen[cpu] != state.version {
                return;
            }
            state.waiters.push(cpu);
        }
        let here = Location::caller();
        if let Err(deadlock) = waiting::wait(cpu, here) {
            capture::fail(FailureKind::Deadlock, cpu, here, deadlock);
        }
        shuttle::thread::yield_now();
    }
}

/// A plain cell, whose conflicting accesses must be ordered by happens-before.
pub struct ShuttlePlain(Mutex<(u64, PlainClock)>);

impl fmt::Debug for ShuttlePlain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ShuttlePlain").field(&lock(&self.0).0).finish()
    }
}

impl EnginePlain for ShuttlePlain {
    fn new(value: u64) -> Self {
        let cell = Self(Mutex::new((value, PlainClock::default())));
        cell.set(value);
        cell
    }

    fn get(&self) -> u64 {
        let cpu = Shuttle::cpu();
        let here = Location::caller();
        let mut state = lock(&self.0);
        if let Err(race) = state.1.read(cpu, here) {
            drop(state);
            capture::fail(FailureKind::Violation, cpu, here, race);
        }
        state.0
    }

    fn set(&self, value: u64) {
        let cpu = Shuttle::cpu();
        let here = Location::caller();
        let mut state = lock(&self.0);
        if let Err(race) = state.1.write(cpu, here) {
            drop(state);
            capture::fail(FailureKind::Violation, cpu, here, race);
        }
        state.0 = value;
    }
}
