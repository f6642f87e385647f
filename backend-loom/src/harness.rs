//! From a scenario to a program for an engine, and from its exploration to a report.
//!
//! Only "set up, box the CPUs, check" is generic over the scenario. Everything else works on the
//! plain data of a [`Prepared`] scenario, and any engine can explore it.
//!
//! An execution: ghost state and memory are made; the boot CPU is put online; the scenario sets
//! itself up; the CPUs of the race are put online and the boot CPU goes offline. Each CPU plays its
//! role. At the end all of them go offline, the scenario checks and names the outcome, every node
//! that is left must be in order, everything the scenario holds is given up, the kernel's table is
//! dismantled, and no frame may be in use.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use weft_core::address::CpuId;
use weft_core::cpu::Cpu;
use weft_core::geometry::Geometry;
use weft_core::permanent::Permanent;
use weft_scenarios::detector::{HANDLER_LOCK, HELD_AT_END, NOT_LISTED};
use weft_scenarios::mistake;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::scenario::{self, Grade, Outcome, Scenario, Situation, Visitor};
use weft_scenarios::tables::KernelTable;
use weft_scenarios::world::Machine;

use crate::actor;
use crate::chosen::{self, Chosen, EngineName};
use crate::counterexample;
use crate::coverage;
use crate::engine::{Body, Engine, Execution, Program, Progress, Search};
use crate::ghost::{self, Ghost, Phase};
use crate::memory::Pools;
use crate::model::Model;
use crate::programs::Named;
use crate::report::{Report, Request};
use crate::sabotage;

/// Takes a scenario's type away: what it makes of the scenario that it visits is plain data.
#[derive(Clone, Copy, Debug)]
pub struct Prepare;

impl<G: Geometry> Visitor<Model<G>> for Prepare {
    type Out = Prepared;

    fn visit<S: Scenario<Model<G>>>(self, name: &'static str) -> Prepared {
        let plan = Plan::of::<S, Model<G>>(name);
        let of = plan.clone();
        Prepared { plan, program: Box::new(move |tally| program::<S, G>(of.clone(), tally)) }
    }
}

/// A scenario without its type.
pub struct Prepared {
    /// What it says about itself.
    pub plan: Plan,
    program: Box<dyn Fn(Tally) -> Program>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Does what `request` says under an engine, and calls `progress` now and then with the number
    /// of executions so far.
    ///
    /// # Panics
    ///
    /// If this process has explored with another engine, or in another world.
    pub fn explore(
        &self,
        engine: EngineName,
        request: Request,
        progress: Option<Progress>,
    ) -> Report {
        conduct(engine, &self.plan, &self.program, request, progress)
    }
}

/// What a scenario says about itself, as plain data.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name of the file.
    pub name: &'static str,
    /// What each CPU plays.
    pub roles: Vec<&'static str>,
    /// The outcomes.
    pub outcomes: &'static [Outcome],
    /// The situations.
    pub reached: &'static [Situation],
    /// The twins, and the mistakes as twins: what is broken, and with which message that must be
    /// caught.
    pub twins: Vec<(Sabotage, &'static str)>,
    /// The mistakes by name: which role is wrong, and what it does.
    pub mistakes: Vec<(&'static str, usize, &'static str)>,
    /// The most deviations that a run of everything explores, if all executions are too many.
    pub deviations: Option<u32>,
}

impl Plan {
    fn of<S: Scenario<B>, B: weft_scenarios::world::World>(name: &'static str) -> Self {
        Self {
            name,
            roles: S::CPUS.iter().map(|(role, _)| role).collect(),
            outcomes: S::OUTCOMES,
            reached: S::REACHED,
            twins: S::TWINS
                .iter()
                .map(|twin| (twin.sabotage, twin.message))
                .chain(S::MISTAKES.iter().map(|mistake| (mistake.sabotage(), mistake.message)))
                .collect(),
            mistakes: S::MISTAKES.iter().map(|it| (it.name, it.role, it.what)).collect(),
            deviations: S::DEVIATIONS,
        }
    }

    /// The name of a sabotage, and what is different then.
    pub fn described(&self, sabotage: Sabotage) -> String {
        let mut mistakes = self.mistakes.iter();
        match mistakes.find(|(name, _, _)| Sabotage::Mistake(name) == sabotage) {
            Some((_, role, what)) => format!("{sabotage}: the {} {what}", self.roles[*role]),
            None => sabotage.described(),
        }
    }

    /// The grade of an outcome.
    ///
    /// # Panics
    ///
    /// If the outcome is not listed, or is forbidden: that is how an execution fails.
    fn judge(&self, name: &str) {
        let outcome = self.outcomes.iter().find(|outcome| outcome.name == name);
        let outcome = outcome.unwrap_or_else(|| panic!("the outcome \"{name}\" {NOT_LISTED}"));
        if outcome.grade == Grade::Forbidden {
            Ghost::current().blame(outcome.at);
            panic!("{}", outcome.reason);
        }
    }
}

/// What is counted over all executions.
#[derive(Clone, Debug, Default)]
struct Tally {
    outcomes: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    observations: Arc<Mutex<BTreeSet<String>>>,
    reached: Arc<Mutex<BTreeSet<&'static str>>>,
    /// The ghost state of the execution set up last.
    latest: Arc<Mutex<Option<Arc<Ghost>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type ModelCpu<G> = Cpu<Model<G>>;

/// What an execution owns. Its parts are given up one by one when the execution ends; if it is
/// given up instead, they go without a single operation of the model, also where another part drops
/// them last.
struct Stage<S, G: Geometry> {
    race: Option<S>,
    cpus: Vec<Mutex<Option<ModelCpu<G>>>>,
    kernel: Option<Permanent<KernelTable<Model<G>>>>,
}

impl<S, G: Geometry> Drop for Stage<S, G> {
    fn drop(&mut self) {
        // SAFETY: the roots that share the kernel's half go with the race, in the same statement,
        // and no frame is touched any more.
        let kernel = self.kernel.take().map(|kernel| unsafe { kernel.dismantle() });
        actor::drop_inertly((self.race.take(), std::mem::take(&mut self.cpus), kernel));
    }
}

/// The set-up of one execution of `S`.
fn program<S, G>(plan: Plan, tally: Tally) -> Program
where
    S: Scenario<Model<G>>,
    G: Geometry,
{
    Arc::new(move || {
        let count = plan.roles.len();
        let ghost = Ghost::new(count, plan.reached, Arc::clone(&tally.reached));
        *lock(&tally.latest) = Some(Arc::clone(&ghost));
        ghost.enter();
        let pools = Pools { cpus: count, set_up: S::SET_UP_FRAMES, per_cpu: S::CPU_FRAMES };
        let model = Model::<G>::new(pools);
        let online = |index: usize| online(&model, index);
        let mut machine = Machine::new(&model, online(count));
        let race = Some(S::set_up(&mut machine));
        let cpus = (0..count).map(|index| Mutex::new(Some(online(index)))).collect();
        let kernel = machine.finish_set_up();
        let stage = Arc::new(Stage { race, cpus, kernel });
        let saw: Arc<[Mutex<Option<S::Saw>>]> = (0..count).map(|_| Mutex::new(None)).collect();
        let roles = mistake::roles::<S, Model<G>>(sabotage::chosen());
        let bodies = roles.iter().enumerate().map(|(index, (_, role))| -> Body {
            let (stage, saw, ghost) = (Arc::clone(&stage), Arc::clone(&saw), Arc::clone(&ghost));
            Box::new(move || {
                ghost.enter();
                let cpu = lock(&stage.cpus[index]).take().expect("a role is played once");
                let mut cpu = scenario::Cpu::new(cpu);
                let race = stage.race.as_ref().expect("the race is given up at the end");
                *lock(&saw[index]) = Some(role(race, &mut cpu));
                *lock(&stage.cpus[index]) = Some(cpu.into_core());
            })
        });
        let cpus = bodies.collect();
        ghost.set_phase(Phase::Race);
        let (plan, tally) = (plan.clone(), tally.clone());
        let finish = Box::new(move || {
            ghost.enter();
            ghost.set_phase(Phase::Finish);
            let held = ghost.held();
            assert!(held.is_empty(), "{HELD_AT_END}: {}", held[0].1);
            if let Some(lock) = ghost.lock_of_interrupted_holder() {
                panic!("{HANDLER_LOCK}: {lock}");
            }
            let saw: Vec<S::Saw> =
                saw.iter().map(|saw| lock(saw).expect("every CPU has ended")).collect();
            let outcome = close(stage, &model, &saw, &plan);
            if ghost::is_counted() {
                *lock(&tally.outcomes).entry(outcome).or_default() += 1;
                lock(&tally.observations).insert(format!("{outcome}: {saw:?}"));
            }
        });
        Execution { cpus, finish }
    })
}

/// Puts a CPU online.
fn online<G: Geometry>(model: &Model<G>, index: usize) -> ModelCpu<G> {
    Cpu::online(model, CpuId::new(index as u32)).expect("the harness makes one value per CPU")
}

/// Checks a race that has been run, gives everything up, and checks the accounts.
fn close<S, G>(
    stage: Arc<Stage<S, G>>,
    model: &Model<G>,
    saw: &[S::Saw],
    plan: &Plan,
) -> &'static str
where
    S: Scenario<Model<G>>,
    G: Geometry,
{
    let mut stage = Arc::into_inner(stage).expect("every CPU has given up the race");
    let race = stage.race.take().expect("the race is given up once");
    drop(std::mem::take(&mut stage.cpus));
    let mut cpu = scenario::Cpu::new(online(model, saw.len()));
    let outcome = race.check(&mut cpu, saw);
    plan.judge(outcome);
    drop(cpu);
    model.audit();
    drop(race);
    if let Some(kernel) = stage.kernel.take() {
        // SAFETY: the race is gone, and with it every root that shared the kernel's half.
        drop(unsafe { kernel.dismantle() });
    }
    model.check_accounts();
    outcome
}

/// Runs the engine and writes the report.
fn conduct(
    engine: EngineName,
    plan: &Plan,
    program: &dyn Fn(Tally) -> Program,
    request: Request,
    progress: Option<Progress>,
) -> Report {
    chosen::choose(engine);
    sabotage::choose(request.sabotage);
    let controls_schedule = engine.traits().controls_schedule;
    let search = Search {
        time: request.time,
        executions: request.executions,
        preemptions: request.preemptions,
        memory_model: request.memory_model,
        deviations: request.deviations,
        sample: request.sample,
        smallest_within: request.smallest_within,
        workers: request.workers.max(1),
        seed: request.seed,
        replay: request.replay.clone(),
        progress,
        ..Search::new(plan.roles.len())
    };
    let tally = Tally::default();
    let exploration = Chosen::explore(&search, program(tally.clone()));
    let ghost = lock(&tally.latest).take();
    let failure = exploration.failure.as_ref().map(|failure| {
        let roles = plan.roles.iter().map(|role| (*role).to_owned()).collect();
        counterexample::of(failure, roles, ghost.as_deref(), request.sabotage)
    });
    let reached: BTreeSet<String> =
        lock(&tally.reached).iter().map(|name| (*name).to_owned()).collect();
    let outcomes: BTreeMap<String, u64> =
        lock(&tally.outcomes).iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let whole = failure.is_none() && request.replay.is_none();
    Report {
        scenario: plan.name.to_owned(),
        engine,
        model: Chosen::memory_model(&search),
        sabotage: request.sabotage,
        cpus: plan.roles.len(),
        verdict: exploration.verdict,
        executions: exploration.executions,
        blocked: exploration.blocked,
        depth: exploration.depth,
        elapsed: exploration.elapsed,
        memory_peak: memory_peak(),
        never_reached: if whole && controls_schedule {
            missing(plan, &reached)
        } else {
            Vec::new()
        },
        never_seen: if whole && controls_schedule { unseen(plan, &outcomes) } else { Vec::new() },
        outcomes,
        observations: std::mem::take(&mut lock(&tally.observations)),
        reached,
        failure,
        caveats: exploration.caveats,
        other_models: Vec::new(),
        coverage: coverage::so_far(),
    }
}

/// Explores a program that is no scenario, for comparing engines.
pub fn measure(engine: EngineName, named: Named, request: Request) -> Report {
    let Named { name, cpus, program } = named;
    let roles = vec!["CPU"; cpus];
    let plan = Plan {
        name,
        roles,
        outcomes: &[],
        reached: &[],
        twins: Vec::new(),
        mistakes: Vec::new(),
        deviations: None,
    };
    conduct(engine, &plan, &|_| Arc::clone(&program), request, None)
}

/// The largest resident set of this process so far, in bytes, as Linux tells it.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn missing(plan: &Plan, reached: &BTreeSet<String>) -> Vec<String> {
    let names = plan.reached.iter().map(|situation| situation.name.to_owned());
    names.filter(|name| !reached.contains(name)).collect()
}

fn unseen(plan: &Plan, outcomes: &BTreeMap<String, u64>) -> Vec<String> {
    let interesting = plan.outcomes.iter().filter(|one| one.grade == Grade::Interesting);
    interesting.map(|one| one.name.to_owned()).filter(|name| !outcomes.contains_key(name)).collect()
}
