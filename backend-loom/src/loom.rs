//! The loom engine: every execution of a small program, under a model close to C11.
//!
//! **Companion words.** loom decides which accesses to try in the other order from *one* most
//! recent access per word. A CPU that loads a word and then stores it overwrites the record of
//! another CPU's earlier load, and the order "store first, then that load" is never run. Loading
//! an entry and then storing it is a page table's standard move. So each word that is loaded
//! carries one extra loom word per CPU: a load by CPU *t* first stores to companion *t*, and a
//! write by CPU *t* first updates every other CPU's companion. A storing CPU thereby meets
//! exactly the loads of the others, and loads stay independent of each other. While only one CPU
//! runs, in the set-up and the finish, there is nothing to reorder and companions rest. The test
//! `loom_hole` shows the gap on loom's own words and its absence on ours, and `loom_soundness`
//! compares random programs with an enumerator.
//!
//! **Waiting.** A CPU that waits parks, and every write that changes the word's value unparks its
//! waiters. No switch point lies between the read that failed and the entry in the list of
//! waiters. A load may have returned an old value, for which no CPU will write again: such a CPU
//! yields and reads again, and loom does not hand a yielding CPU the same old value twice. loom's
//! unpark is itself a happens-before edge, so a lock whose ordering is too weak is seen on its
//! uncontended path only.
//!
//! **Lean harness.** `std::sync::Arc`, and the main thread plays the last CPU.
//!
//! **Honest ends.** A search that is out of budget unwinds out of loom's `check`, so a normal
//! return of `check` means the end of the search and nothing else.
//!
//! **Small stacks.** loom gives every model thread, the main one included, 32 KiB and no way to ask
//! for more; an overflow is caught and becomes a failure of kind limit.
//!
//! What loom does not show: load buffering, values older than the last seven of a word, old
//! values read by a failing compare-exchange, and a plain store between the read and the write of
//! a read-modify-write is possible where C11 forbids it.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{self, Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use loom::sync::atomic::AtomicU64;

use crate::budget::Budget;
use crate::capture::{self, Capture, Stop};
use crate::engine::{
    Access, Body, Caching, Engine, EngineWord, Execution, Exploration, Failure, FailureKind,
    Program, Search, Traits, Verdict, refuse_load, refuse_sequentially_consistent,
};
use crate::{exclusive, waiting};

mod plain;

pub use plain::LoomPlain;

/// loom's threads, the main one included, are at most five; one is left as a margin.
const CPUS_MAX: usize = 4;

/// The number of values of one word, the first included, that loom remembers.
const VALUES_REMEMBERED: u64 = 7;

/// Marks a read whose value was not the newest, after which waiting would be for nothing.
const STALE: u64 = u64::MAX;

thread_local! {
    static CPUS: Cell<usize> = const { Cell::new(1) };
    static CONCURRENT: Cell<bool> = const { Cell::new(false) };
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static DEPTH: Cell<u64> = const { Cell::new(0) };
    static VALUES: Cell<u64> = const { Cell::new(0) };
    static OUT_OF_BUDGET: Cell<bool> = const { Cell::new(false) };
}

loom::thread_local! {
    static CPU: Cell<Option<usize>> = Cell::new(None);
}

/// Exhaustive search by loom.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loom;

impl Loom {
    pub(crate) const TRAITS: Traits = Traits {
        name: "loom",
        memory_model: "C11 (no load buffering, <= 7 values per word)",
        exhaustive: true,
        controls_schedule: true,
        cpus_max: CPUS_MAX,
        arranges: false,
        caching: Caching::Nothing,
    };
}

impl Engine for Loom {
    fn traits() -> &'static Traits {
        &Self::TRAITS
    }

    type Word = LoomWord;
    type Plain = LoomPlain;

    fn fence(order: Ordering) {
        if order != Relaxed {
            loom::sync::atomic::fence(order);
        }
    }

    fn cpu() -> usize {
        current()
    }

    fn explore(search: &Search, program: Program) -> Exploration {
        let budget = Arc::new(Mutex::new(Budget::new(search)));
        match Plan::new(search) {
            Ok(plan) => run(search, &plan, program, &budget),
            Err(message) => Exploration {
                verdict: Verdict::Failed,
                executions: 0,
                blocked: 0,
                depth: 0,
                elapsed: lock(&budget).elapsed(),
                failure: Some(capture::internal(message)),
                caveats: Vec::new(),
            },
        }
    }
}

/// The bounds of a search after its replay token, if it has one, has been read.
struct Plan {
    preemptions: Option<usize>,
    /// The number of the one execution that is wanted.
    replayed: Option<u64>,
}

impl Plan {
    fn new(search: &Search) -> Result<Self, String> {
        if search.cpus == 0 || search.cpus > CPUS_MAX {
            return Err(format!("loom runs 1 to {CPUS_MAX} CPUs, not {}", search.cpus));
        }
        exclusive::claim(Loom::TRAITS.name)?;
        let Some(token) = &search.replay else {
            return Ok(Self { preemptions: search.preemptions, replayed: None });
        };
        Self::parse(token).ok_or_else(|| {
            format!(
                "malformed loom token {token:?}: expected e<execution> or p<bound>.e<execution>"
            )
        })
    }

    /// loom's order of search is deterministic, so the number of an execution and the bound
    /// name it.
    fn parse(token: &str) -> Option<Self> {
        let (preemptions, rest) = match token.strip_prefix('p') {
            Some(bounded) => {
                let (bound, rest) = bounded.split_once('.')?;
                (Some(bound.parse().ok()?), rest)
            }
            None => (None, token),
        };
        let replayed = Some(rest.strip_prefix('e')?.parse().ok()?);
        Some(Self { preemptions, replayed })
    }

    fn token(&self, execution: u64) -> String {
        match self.preemptions {
            Some(bound) => format!("p{bound}.e{execution}"),
            None => format!("e{execution}"),
        }
    }

    fn builder(&self, search: &Search) -> loom::model::Builder {
        let mut builder = loom::model::Builder::new();
        builder.max_threads = search.cpus;
        builder.max_branches = search.steps_max;
        builder.preemption_bound = self.preemptions;
        // Budgets are ours; what the environment says about loom must not change a verdict.
        builder.max_permutations = None;
        builder.max_duration = None;
        builder.checkpoint_file = None;
        builder.checkpoint_interval = usize::MAX;
        builder.expect_explicit_explore = false;
        builder.location = false;
        builder.log = false;
        builder
    }
}

fn run(search: &Search, plan: &Plan, program: Program, budget: &Arc<Mutex<Budget>>) -> Exploration {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        capture::install_hook_after(|| loom::model::Builder::new().check(|| {}));
    });
    let capturing = Capture::start(classify);
    CPUS.set(search.cpus);
    DEPTH.set(0);
    VALUES.set(0);
    OUT_OF_BUDGET.set(false);

    let counted = Arc::clone(budget);
    let replayed = plan.replayed;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        plan.builder(search).check(move || {
            let wanted = replayed.is_none_or(|number| lock(&counted).executions < number);
            if !wanted || !lock(&counted).begin() {
                OUT_OF_BUDGET.set(true);
                resume_unwind(Box::new(Stop));
            }
            run_execution(&program);
        });
    }));

    let ended = outcome.is_ok();
    CONCURRENT.set(false);
    let failure = capture::take().or_else(|| match outcome {
        Err(payload) if !OUT_OF_BUDGET.get() => Some(untold(payload.as_ref())),
        Ok(()) | Err(_) => None,
    });
    drop(capturing);
    let executions = lock(budget).executions;
    let failure = failure.map(|failure| Failure { token: Some(plan.token(executions)), ..failure });
    let verdict = match (&failure, ended, plan.preemptions) {
        (Some(_), _, _) => Verdict::Failed,
        (None, true, None) => Verdict::Exhausted,
        (None, true, Some(bound)) => Verdict::Bounded(bound),
        (None, false, preemptions) => Verdict::CutShort { executions, preemptions },
    };
    Exploration {
        verdict,
        executions,
        blocked: 0,
        depth: DEPTH.get(),
        elapsed: lock(budget).elapsed(),
        failure,
        caveats: caveats(),
    }
}

/// The failure of an execution that ended with a panic without text.
fn untold(payload: &(dyn Any + Send)) -> Failure {
    match payload.downcast_ref::<generator::Error>() {
        Some(generator::Error::StackErr) => Failure {
            kind: FailureKind::Limit,
            ..capture::internal("a CPU needs more than the 32 KiB of stack that loom gives it")
        },
        _ => capture::internal("a CPU panicked with a payload that is not text"),
    }
}

fn caveats() -> Vec<String> {
    let values = VALUES.get();
    if values <= VALUES_REMEMBERED {
        return Vec::new();
    }
    vec![format!(
        "a loaded word took {values} values in one execution and loom remembers \
         {VALUES_REMEMBERED}: outcomes that need an older value were not tried"
    )]
}

/// What loom's own panics mean.
fn classify(message: &str) -> FailureKind {
    let internal = ["Reached unexpected exploration state", "[loom internal bug]"];
    if message.starts_with("deadlock; threads = ") {
        FailureKind::Deadlock
    } else if message.starts_with("Model exceeded maximum number of branches") {
        FailureKind::Limit
    } else if internal.iter().any(|start| message.starts_with(start)) {
        FailureKind::Internal
    } else {
        FailureKind::Violation
    }
}

/// One execution, on loom's main thread.
fn run_execution(program: &Program) {
    let last = CPUS.get() - 1;
    waiting::reset(CPUS.get());
    CONCURRENT.set(false);
    STEPS.set(0);
    let program = Arc::clone(program);
    run_or_unwind(
        last,
        Box::new(move || {
            let Execution { mut cpus, finish } = program();
            if cpus.len() != last + 1 {
                let message =
                    format!("the program has {} CPUs, the search {}", cpus.len(), last + 1);
                capture::fail(FailureKind::Internal, last, Location::caller(), message);
            }
            let own = cpus.pop().expect("a program has at least one CPU");
            waiting::start_all();
            CONCURRENT.set(true);
            let others: Vec<_> = cpus
                .into_iter()
                .enumerate()
                .map(|(cpu, body)| {
                    loom::thread::spawn(move || {
                        CPU.with(|number| number.set(Some(cpu)));
                        run_or_unwind(cpu, body);
                        end(cpu);
                    })
                })
                .collect();
            own();
            end(last);
            for other in others {
                other.join().expect("a CPU that panics ends the search");
            }
            CONCURRENT.set(false);
            waiting::reset(last + 1);
            finish();
        }),
    );
    DEPTH.set(DEPTH.get().max(STEPS.get()));
}

fn run_or_unwind(cpu: usize, body: Body) {
    if let Err(payload) = capture::run_as(cpu, body) {
        resume_unwind(payload);
    }
}

#[track_caller]
fn end(cpu: usize) {
    if let Err(deadlock) = waiting::end(cpu) {
        capture::fail(FailureKind::Deadlock, cpu, Location::caller(), deadlock);
    }
}

fn current() -> usize {
    CPU.with(Cell::get).unwrap_or_else(|| CPUS.get() - 1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A word on loom's atomics, with its companions.
pub struct LoomWord {
    value: AtomicU64,
    /// One per CPU; empty for a word that is never loaded.
    companions: Box<[AtomicU64]>,
    access: Access,
    side: Mutex<Side>,
}

/// What we know about a word in the order of execution. loom does not see it, and it is no state
/// that the program could depend on, other than through waiting.
struct Side {
    newest: u64,
    /// Number of changes of value so far.
    version: u64,
    /// Number of writes so far, changes or not.
    writes: u64,
    /// The version that each CPU read last, or [`STALE`].
    seen: [u64; CPUS_MAX],
    waiters: Vec<(usize, loom::thread::Thread)>,
}

impl fmt::Debug for LoomWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = lock(&self.side);
        f.debug_struct("LoomWord").field("newest", &side.newest).finish_non_exhaustive()
    }
}

impl LoomWord {
    /// Leaves a trace of the load that a write of another CPU will meet.
    fn before_load(&self, cpu: usize) {
        STEPS.set(STEPS.get() + 1);
        if CONCURRENT.get()
            && let Some(companion) = self.companions.get(cpu)
        {
            companion.store(0, Relaxed);
        }
    }

    /// Meets the loads of all other CPUs.
    fn before_write(&self, cpu: usize) {
        STEPS.set(STEPS.get() + 1);
        if CONCURRENT.get() {
            for (other, companion) in self.companions.iter().enumerate() {
                if other != cpu {
                    companion.fetch_add(0, Relaxed);
                }
            }
        }
    }

    fn after_read(&self, cpu: usize, value: u64) {
        let mut side = lock(&self.side);
        side.seen[cpu] = if value == side.newest { side.version } else { STALE };
    }

    /// Wakes the waiters if the word holds another value than before: a write that changes
    /// nothing cannot help a waiter.
    fn after_write(&self, cpu: usize, value: u64) {
        let mut side = lock(&self.side);
        side.writes += 1;
        if self.access == Access::Loaded {
            VALUES.set(VALUES.get().max(side.writes + 1));
        }
        if value != side.newest {
            side.newest = value;
            side.version += 1;
            for (waiter, thread) in side.waiters.drain(..) {
                waiting::wake(waiter);
                thread.unpark();
            }
        }
        side.seen[cpu] = side.version;
    }

    #[track_caller]
    fn update(
        &self,
        order: Ordering,
        operation: impl FnOnce(&AtomicU64) -> u64,
        new: impl FnOnce(u64) -> u64,
    ) -> u64 {
        refuse_sequentially_consistent(order);
        let cpu = current();
        self.before_write(cpu);
        let old = operation(&self.value);
        self.after_write(cpu, new(old));
        old
    }
}

impl EngineWord for LoomWord {
    fn new(value: u64, access: Access) -> Self {
        let companions = match access {
            Access::Loaded => (0..CPUS.get()).map(|_| AtomicU64::new(0)).collect(),
            Access::UpdatedOnly => Box::default(),
        };
        let side = Side {
            newest: value,
            version: 0,
            writes: 0,
            seen: [STALE; CPUS_MAX],
            waiters: Vec::new(),
        };
        Self { value: AtomicU64::new(value), companions, access, side: Mutex::new(side) }
    }

    fn load(&self, order: Ordering) -> u64 {
        refuse_sequentially_consistent(order);
        refuse_load(self.access);
        let cpu = current();
        self.before_load(cpu);
        let value = self.value.load(order);
        self.after_read(cpu, value);
        value
    }

    fn store(&self, value: u64, order: Ordering) {
        refuse_sequentially_consistent(order);
        let cpu = current();
        self.before_write(cpu);
        self.value.store(value, order);
        self.after_write(cpu, value);
    }

    fn swap(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.swap(value, order), |_| value)
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
        let cpu = current();
        self.before_write(cpu);
        let result = self.value.compare_exchange(old, new, success, failure);
        match result {
            Ok(_) => self.after_write(cpu, new),
            Err(value) => self.after_read(cpu, value),
        }
        result
    }

    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_add(value, order), |old| old.wrapping_add(value))
    }

    fn fetch_sub(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_sub(value, order), |old| old.wrapping_sub(value))
    }

    fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_and(value, order), |old| old & value)
    }

    fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        self.update(order, |word| word.fetch_or(value, order), |old| old | value)
    }

    fn wait_for_change(&self) {
        let cpu = current();
        {
            let mut side = lock(&self.side);
            if side.seen[cpu] == side.version {
                side.waiters.push((cpu, loom::thread::current()));
            } else {
                drop(side);
                loom::thread::yield_now();
                return;
            }
        }
        let here = Location::caller();
        if let Err(deadlock) = waiting::wait(cpu, here) {
            capture::fail(FailureKind::Deadlock, cpu, here, deadlock);
        }
        loom::thread::park();
    }
}
