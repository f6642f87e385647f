//! Runs a scenario on the machine: its roles on processors, many times, checked every time.
//!
//! All processors go through the rounds together. In each round the boot processor sets the race
//! up; all meet; each role is played on another processor than the round before, after a delay; all
//! meet; every CPU of the core goes offline on the processor that played it; all meet; the boot
//! processor checks. Delays, rotation and preemption are random, from the seed.
//!
//! The checks are those of the models: the scenario's own; the outcome must be listed and not
//! forbidden; every node of the race must be in order, now that all CPUs are offline and all grace
//! periods over (see `audit`); and once the race is given up the machine must have as many frames
//! in use as before the round. At the end the kernel's own table is audited. What fails panics, and
//! so ends the run.
//!
//! Whether a machine meets every situation is a matter of luck: situations and outcomes are counted
//! and reported, and only who reads the report can demand them.

use alloc::borrow::ToOwned as _;
use alloc::string::String;
use core::fmt::Display;
use core::sync::atomic::Ordering;

use spin::RwLock;
use spin::mutex::SpinMutex;
use weft_core::address::CpuId;
use weft_core::cpu::Cpu;
use weft_protocol::Line;
use weft_scenarios::detector::{LEAK, NOT_LISTED};
use weft_scenarios::mistake;
use weft_scenarios::random::Random;
use weft_scenarios::sabotage::{Sabotage, Side};
use weft_scenarios::scenario::{self, CPUS_MAX, Cpus, Grade, Scenario, Visitor};
use weft_scenarios::world::Machine;

use super::audit;
use super::options::Options;
use crate::machine::waiting::{Rendezvous, Wait};
use crate::machine::{cpu, serial};
use crate::scenarios;
use crate::services::frames::Moment;
use crate::services::metal::{self, MetalMachine};
use crate::services::space::Space;
use crate::services::{preemption, sabotage, shootdown, situations, smp};

/// The most outcomes that a scenario lists.
const OUTCOMES_MAX: usize = 16;
/// Binary logarithm of the longest delay before a role, in looks of a [`Wait`].
const DELAY_BITS: u32 = 9;

/// What the nodes that were looked at after all rounds are reported as.
const NODES_AUDITED: &str = "nodes audited";

/// What a scenario fails with that goes on using a frame that was freed: the frame's poison is met
/// as contents, or as an entry.
const POISON_MET: &str = "use after free|corrupt entry";

/// What a scenario fails with that uses a translation which was taken away: it comes to an outcome
/// that it forbids, or the translation leads to a frame that was freed.
fn stale_met<S: Scenario<MetalMachine>>() -> String {
    let forbidden = S::OUTCOMES.iter().filter(|outcome| outcome.grade == Grade::Forbidden);
    forbidden.fold(POISON_MET.to_owned(), |all, outcome| all + "|" + outcome.reason)
}

/// The scenarios that go well on emulated processors although nothing is flushed. These processors
/// cache no upper levels of walks, as `use_vs_prune` needs it; they translate nothing ahead of an
/// access, as the next three do, and `free_vs_map` and `swap_vs_writes`, where a page is used only
/// once; and they do not tell the level of a page, which `split_vs_use` asks.
const NEED_HARDWARE: [&str; 7] = [
    "use_vs_prune",
    "lazy_vs_prune",
    "copy_vs_hardware",
    "copy_vs_lazy",
    "free_vs_map",
    "swap_vs_writes",
    "split_vs_use",
];

/// Says which scenarios there are, and in which broken worlds they must fail.
pub(crate) fn list() {
    for name in NEED_HARDWARE {
        assert!(scenarios::NAMES.contains(&name), "there is no scenario called {name}");
    }
    for (&name, &title) in scenarios::NAMES.iter().zip(scenarios::TITLES) {
        scenarios::visit(name, Listing { title }).expect("a listed scenario exists");
    }
}

struct Listing {
    title: &'static str,
}

impl Visitor<MetalMachine> for Listing {
    type Out = ();

    fn visit<S: Scenario<MetalMachine>>(self, name: &'static str) {
        let roles = S::CPUS.count() as u64;
        serial::line(&Line::Scenario { name, title: self.title, roles });
        for mistake in S::MISTAKES.iter() {
            serial::line::<&dyn Display>(&Line::Mistake {
                name: &name,
                sabotage: &mistake.sabotage(),
            });
        }
        for twin in S::TWINS.iter() {
            if !twin.sabotage.is_for(Side::Machine) {
                continue;
            }
            let messages = match twin.sabotage {
                // A lost update is noticed by the scenario itself, in its own words.
                Sabotage::TornUpdates => twin.message.to_owned(),
                Sabotage::NoShootdown | Sabotage::ForgottenHolder(_) => {
                    if NEED_HARDWARE.contains(&name) {
                        continue;
                    }
                    stale_met::<S>()
                }
                _ => POISON_MET.to_owned(),
            };
            serial::line::<&dyn Display>(&Line::Twin {
                name: &name,
                sabotage: &twin.sabotage,
                messages: &messages,
            });
        }
    }
}

/// Runs the scenario called `name`.
///
/// # Panics
///
/// If there is none, the machine has too few processors, or the scenario fails.
pub(crate) fn run(name: &str, options: &Options, machine: MetalMachine, space: &'static Space) {
    let run = Run { options: *options, machine, space };
    let found = scenarios::visit(name, run);
    assert!(found.is_some(), "there is no scenario called {name}");
    serial::line(&Line::<&str>::Done { passed: 1 });
}

struct Run {
    options: Options,
    machine: MetalMachine,
    space: &'static Space,
}

impl Visitor<MetalMachine> for Run {
    type Out = ();

    fn visit<S: Scenario<MetalMachine>>(self, name: &'static str) {
        let roles = S::CPUS.count();
        let cpus = cpu::online();
        assert!(cpus >= roles, "the scenario has {roles} roles, the machine {cpus} processors");
        let repetitions = self.options.repeat;
        serial::line(&Line::<&str>::Announce { count: 1 });
        serial::line(&Line::Start { name, repetitions });
        tracing::info!(name, roles, cpus, seed = self.options.seed, "scenario");
        situations::count(S::REACHED);
        let stage = Stage::<S>::new(self.machine, self.space, cpus);
        smp::on_all(&|processor| stage.perform(processor, &self.options));
        audit::check_kernel(self.space, self.machine);
        report::<S>(&stage.outcomes.lock());
        serial::line(&Line::Metric { name: NODES_AUDITED, value: *stage.nodes_audited.lock() });
        serial::line(&Line::Passed { name, repetitions });
    }
}

/// Prints what was counted.
fn report<S: Scenario<MetalMachine>>(times: &[u64; OUTCOMES_MAX]) {
    for (outcome, &times) in S::OUTCOMES.iter().zip(times) {
        let grade = match outcome.grade {
            Grade::Acceptable => "acceptable",
            Grade::Interesting => "interesting",
            Grade::Forbidden => "forbidden",
        };
        serial::line(&Line::Outcome { name: outcome.name, grade, times });
    }
    for (situation, times) in situations::all() {
        serial::line(&Line::Situation { name: situation.name, times });
    }
    report_counts();
}

/// Prints what the processors have counted.
pub(crate) fn report_counts() {
    for (name, value) in cpu::totals() {
        serial::line(&Line::Metric { name, value });
    }
    shootdown::report();
}

type CoreCpu = Cpu<MetalMachine>;

/// What the processors share.
struct Stage<S: Scenario<MetalMachine>> {
    machine: MetalMachine,
    space: &'static Space,
    roles: usize,
    plays: Cpus<S, MetalMachine>,
    meeting: Rendezvous,
    race: RwLock<Option<S>>,
    cpus: [SpinMutex<Option<CoreCpu>>; CPUS_MAX],
    saw: [SpinMutex<Option<S::Saw>>; CPUS_MAX],
    outcomes: SpinMutex<[u64; OUTCOMES_MAX]>,
    /// What was in use before the first round.
    before: Moment,
    nodes_audited: SpinMutex<u64>,
}

impl<S: Scenario<MetalMachine>> Stage<S> {
    fn new(machine: MetalMachine, space: &'static Space, processors: usize) -> Self {
        Self {
            machine,
            space,
            roles: S::CPUS.count(),
            plays: mistake::roles(sabotage::chosen()),
            meeting: Rendezvous::new(processors),
            race: RwLock::new(None),
            cpus: [const { SpinMutex::new(None) }; CPUS_MAX],
            saw: [const { SpinMutex::new(None) }; CPUS_MAX],
            outcomes: SpinMutex::new([0; OUTCOMES_MAX]),
            before: machine.processors().in_use.now(),
            nodes_audited: SpinMutex::new(0),
        }
    }

    /// What processor `processor` does in all rounds.
    fn perform(&self, processor: usize, options: &Options) {
        let mut own = Random::stream(options.seed, 1 + processor as u64);
        // The same numbers on every processor.
        let mut common = Random::stream(options.seed, 0);
        for _ in 0..options.repeat {
            let frames = self.machine.region().live();
            if processor == 0 {
                self.set_up();
            }
            let rotation = common.next() as usize % cpu::online();
            let role = (processor + rotation) % cpu::online();
            self.meeting.wait();
            if role < self.roles {
                self.play(role, &mut own);
            }
            self.meeting.wait();
            if role < self.roles {
                // Here, because going offline leaves the root that this processor runs on.
                drop(self.cpus[role].lock().take());
                metal::rest();
            }
            self.meeting.wait();
            if processor == 0 {
                self.close(frames);
            }
        }
    }

    fn online(&self, cpu: usize) -> CoreCpu {
        let online = Cpu::online(&self.machine, CpuId::new(cpu as u32));
        online.expect("the harness makes one value per CPU")
    }

    /// The boot CPU: one more than there are roles, played by the calling processor.
    fn boot_cpu(&self) -> CoreCpu {
        metal::play(CpuId::new(self.roles as u32));
        self.online(self.roles)
    }

    fn set_up(&self) {
        let boot = self.boot_cpu();
        let mut machine = Machine::of_kernel(&self.machine, boot, self.space);
        *self.race.write() = Some(S::set_up(&mut machine));
        for (index, cpu) in self.cpus.iter().take(self.roles).enumerate() {
            *cpu.lock() = Some(self.online(index));
        }
        let own = machine.finish_set_up();
        assert!(own.is_none(), "the kernel runs on its only table");
        situations::set_racing(true);
    }

    fn play(&self, role: usize, random: &mut Random) {
        let cpu = self.cpus[role].lock().take().expect("a role is played once");
        metal::play(cpu.id());
        let mut cpu = scenario::Cpu::new(cpu);
        let race = self.race.read();
        let race = race.as_ref().expect("the race was set up");
        let (_, play) = self.plays.iter().nth(role).expect("the role exists");
        let mut wait = Wait::new();
        for _ in 0..random.up_to(DELAY_BITS) {
            wait.relax();
        }
        preemption::be_preempted(random);
        let saw = play(race, &mut cpu);
        preemption::be_left_alone();
        cpu::this().allowance.store(cpu::UNLIMITED, Ordering::Relaxed);
        *self.saw[role].lock() = Some(saw);
        *self.cpus[role].lock() = Some(cpu.into_core());
    }

    /// Checks the round and the nodes it leaves, gives everything up, and checks that as many
    /// frames are in use as before.
    fn close(&self, frames: u64) {
        situations::set_racing(false);
        let race = self.race.write().take().expect("the race is given up once");
        let saw: [Option<S::Saw>; CPUS_MAX] =
            core::array::from_fn(|role| self.saw[role].lock().take());
        // A slice of as many as there are roles; the rest repeats the first and is cut off.
        let first = saw[0].expect("every role was played");
        let saw = saw.map(|saw| saw.unwrap_or(first));
        let mut cpu = scenario::Cpu::new(self.boot_cpu());
        let outcome = race.check(&mut cpu, &saw[..self.roles]);
        self.judge(outcome);
        drop(cpu);
        // SAFETY: the others wait for the next round, and every CPU of the core is offline.
        *self.nodes_audited.lock() += unsafe { audit::check(self.machine, &self.before) };
        drop(race);
        let left = self.machine.region().live();
        assert!(left == frames, "{LEAK}{frames} frames were in use before the race, {left} after");
    }

    fn judge(&self, name: &str) {
        let index = S::OUTCOMES.iter().position(|outcome| outcome.name == name);
        let index = index.unwrap_or_else(|| panic!("the outcome \"{name}\" {NOT_LISTED}"));
        let outcome = &S::OUTCOMES[index];
        assert!(outcome.grade != Grade::Forbidden, "{}", outcome.reason);
        self.outcomes.lock()[index] += 1;
    }
}
