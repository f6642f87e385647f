//! What a race says about itself.
//!
//! * [`Scenario::CPUS`]: two to four roles, functions of the shared struct and of the CPU. What a
//!   role returns is what that CPU *saw*.
//! * [`Scenario::check`]: asserts what must hold once all CPUs are done, and names the outcome.
//! * [`Scenario::OUTCOMES`]: every outcome there is, graded. An outcome that is not listed, or is
//!   forbidden, fails the run; an interesting one must be seen by a search that ends.
//! * [`Scenario::REACHED`]: situations without which a green run means nothing. One that is never
//!   reached fails the scenario.
//! * [`Scenario::TWINS`]: broken variants of the world that this scenario must catch, each with
//!   the message it must be caught with.
//! * [`Scenario::MISTAKES`]: roles as a caller once wrote them wrongly, to be caught likewise; see
//!   [`mod@crate::mistake`].
//!
//! Counts are checked by trait bounds, so that a wrong one is an error at the scenario's own line,
//! also in `cargo check` and in an editor.

use core::fmt::Debug;
use core::ops::{Deref, DerefMut};
use core::panic::Location;

use weft_core::sites::{AnySite, FenceSite, Site};
use weft_core::sync::Event;

use crate::mark::Mark;
use crate::mistake::Mistakes;
use crate::sabotage::Sabotage;
use crate::world::{Machine, World};

/// The most CPUs that a scenario can have.
pub const CPUS_MAX: usize = 4;

/// A race: what is shared, who does what, and what must hold.
pub trait Scenario<B: World>: Send + Sync + Sized + 'static {
    /// What a CPU saw.
    type Saw: Copy + Debug + Send + Sync + 'static;
    /// The roles, one per CPU.
    const CPUS: Cpus<Self, B>;
    /// Every outcome that [`check`](Self::check) may name.
    const OUTCOMES: &'static [Outcome];
    /// What must have been met at least once.
    const REACHED: &'static [Situation];
    /// Broken variants that must be caught.
    const TWINS: Twins;
    /// Wrong versions of roles that must be caught.
    const MISTAKES: Mistakes<Self, B> = Mistakes::NONE;
    /// If all executions are too many for a run of everything: the most choices other than the
    /// default ones that such a run explores. `--long` explores all of them.
    const DEVIATIONS: Option<u32> = None;
    /// Frames that the set-up may allocate.
    const SET_UP_FRAMES: usize = 8;
    /// Frames that each CPU may allocate.
    const CPU_FRAMES: usize = 4;

    /// Builds what is shared, before any CPU runs.
    fn set_up(machine: &mut Machine<B>) -> Self;

    /// Asserts what must hold after all CPUs are done, and names the outcome. `saw` holds what
    /// each role returned, in the order of [`CPUS`](Self::CPUS); `cpu` is one more CPU, to look
    /// around with.
    fn check(&self, cpu: &mut Cpu<B>, saw: &[Self::Saw]) -> &'static str;
}

/// How a harness runs a race that it cannot name: generically, without trait objects.
pub trait Visitor<B: World> {
    /// What comes out.
    type Out;
    /// Runs `S`, whose file is called `name`.
    fn visit<S: Scenario<B>>(self, name: &'static str) -> Self::Out;
}

/// The CPU that plays a role.
#[derive(Debug)]
pub struct Cpu<B: World> {
    cpu: weft_core::cpu::Cpu<B>,
}

impl<B: World> Cpu<B> {
    /// For harnesses: a role is played on this CPU.
    pub fn new(cpu: weft_core::cpu::Cpu<B>) -> Self {
        Self { cpu }
    }

    /// For harnesses: the role has been played.
    pub fn into_core(self) -> weft_core::cpu::Cpu<B> {
        self.cpu
    }

    /// Marks the point at which this CPU is; see [`History::step`](crate::history::History::step).
    pub fn mark(&self) -> Mark {
        self.cpu.backend().mark()
    }

    /// Notes that a situation was met.
    pub fn reached(&self, situation: Situation) {
        self.cpu.backend().reached(situation.name);
    }
}

impl<B: World> Deref for Cpu<B> {
    type Target = weft_core::cpu::Cpu<B>;
    fn deref(&self) -> &Self::Target {
        &self.cpu
    }
}

impl<B: World> DerefMut for Cpu<B> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.cpu
    }
}

/// A role: what one CPU does.
pub type Role<S, B> = fn(&S, &mut Cpu<B>) -> <S as Scenario<B>>::Saw;

/// The roles of a scenario; see [`cpus`].
pub struct Cpus<S: Scenario<B>, B: World> {
    roles: [Option<(&'static str, Role<S, B>)>; CPUS_MAX],
}

impl<S: Scenario<B>, B: World> Debug for Cpus<S, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl<S: Scenario<B>, B: World> Cpus<S, B> {
    /// Names and functions, CPU 0 first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Role<S, B>)> + '_ {
        self.roles.iter().copied().flatten()
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        let mut count = 0;
        while count < CPUS_MAX && self.roles[count].is_some() {
            count += 1;
        }
        count
    }

    /// Has another function play the role of CPU `index`.
    pub(crate) fn exchange(&mut self, index: usize, play: Role<S, B>) {
        let (_, role) = self.roles[index].as_mut().expect("the role was looked for before");
        *role = play;
    }
}

/// Carries a count into a trait bound; see [`CpuCount`] and [`TwinCount`].
#[derive(Debug)]
pub struct Number<const N: usize>;

/// The counts of CPUs that a scenario may have.
#[diagnostic::on_unimplemented(
    message = "a scenario has 2, 3 or 4 CPUs",
    label = "this list has another length",
    note = "the models explore at most four CPUs, and fewer than two cannot race"
)]
pub trait CpuCount {}
impl CpuCount for Number<2> {}
impl CpuCount for Number<3> {}
impl CpuCount for Number<4> {}

/// The counts of twins that a scenario may have.
#[diagnostic::on_unimplemented(
    message = "a scenario has 1 to 8 twins",
    label = "this list has another length",
    note = "a scenario that catches nothing shows nothing"
)]
pub trait TwinCount {}
macro_rules! twin_counts {
    ($($count:literal),+) => { $(impl TwinCount for Number<$count> {})+ };
}
twin_counts!(1, 2, 3, 4, 5, 6, 7, 8);

/// The roles of a scenario, CPU 0 first.
///
/// ```compile_fail,E0277
/// # use weft_scenarios::prelude::*;
/// fn five<S: Scenario<B, Saw = ()>, B: World>() -> Cpus<S, B> {
///     cpus([("role", |_, _| ()); 5])
/// }
/// ```
pub const fn cpus<S: Scenario<B>, B: World, const N: usize>(
    list: [(&'static str, Role<S, B>); N],
) -> Cpus<S, B>
where
    Number<N>: CpuCount,
{
    let mut roles = [const { None }; CPUS_MAX];
    let mut index = 0;
    while index < N {
        roles[index] = Some(list[index]);
        index += 1;
    }
    Cpus { roles }
}

/// How an outcome is judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grade {
    /// May happen.
    Acceptable,
    /// May happen, and a search that ends without it has not tried the race.
    Interesting,
    /// Must not happen.
    Forbidden,
}

/// One way a race can end.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The name that `check` returns.
    pub name: &'static str,
    /// The judgement.
    pub grade: Grade,
    /// How it comes about, or, if forbidden, which invariant it breaks.
    pub reason: &'static str,
    /// Where the scenario lists it.
    pub at: &'static Location<'static>,
}

#[track_caller]
const fn outcome(name: &'static str, grade: Grade, reason: &'static str) -> Outcome {
    Outcome { name, grade, reason, at: Location::caller() }
}

/// An outcome that may happen.
#[track_caller]
pub const fn acceptable(name: &'static str, reason: &'static str) -> Outcome {
    outcome(name, Grade::Acceptable, reason)
}

/// An outcome that must be seen: the race was really run.
#[track_caller]
pub const fn interesting(name: &'static str, reason: &'static str) -> Outcome {
    outcome(name, Grade::Interesting, reason)
}

/// An outcome that must not happen; `invariant` is the message it fails with.
#[track_caller]
pub const fn forbidden(name: &'static str, invariant: &'static str) -> Outcome {
    outcome(name, Grade::Forbidden, invariant)
}

/// Something that must be met at least once.
#[derive(Clone, Copy, Debug)]
pub struct Situation {
    /// What is met, as a clause: "the locker met a stray node".
    pub name: &'static str,
    /// The event of the core that meets it, where it is not a line of the scenario that does.
    pub event: Option<fn(Event) -> bool>,
}

/// A situation that the scenario itself notes, with [`Cpu::reached`].
pub const fn situation(name: &'static str) -> Situation {
    Situation { name, event: None }
}

/// A situation that an event of the core shows.
pub const fn met(name: &'static str, event: fn(Event) -> bool) -> Situation {
    Situation { name, event: Some(event) }
}

/// A broken world, and the message that must be the consequence.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    /// What is broken.
    pub sabotage: Sabotage,
    /// A part of the message that it must be caught with.
    pub message: &'static str,
}

/// The world with the ordering of an access one step weaker.
#[track_caller]
pub const fn weakened(site: &'static Site, message: &'static str) -> Twin {
    assert!(!site.order.weaker().is_empty(), "this site is relaxed already");
    twin(Sabotage::weakened(AnySite::Access(site)), message)
}

/// The world with a fence one step weaker.
#[track_caller]
pub const fn weakened_fence(site: &'static FenceSite, message: &'static str) -> Twin {
    twin(Sabotage::weakened(AnySite::Fence(site)), message)
}

/// The world whose updates of entries are not atomic.
#[track_caller]
pub const fn torn_updates(message: &'static str) -> Twin {
    twin(Sabotage::TornUpdates, message)
}

/// The world without grace periods.
#[track_caller]
pub const fn freed_at_once(message: &'static str) -> Twin {
    twin(Sabotage::FreedAtOnce, message)
}

/// The world whose grace periods do not wait for CPU `cpu`.
#[track_caller]
pub const fn forgotten_cpu(cpu: u32, message: &'static str) -> Twin {
    twin(Sabotage::ForgottenCpu(cpu), message)
}

/// The world that flushes no translations.
#[track_caller]
pub const fn no_shootdown(message: &'static str) -> Twin {
    twin(Sabotage::NoShootdown, message)
}

/// The world that flushes translations after the range was unlocked.
#[track_caller]
pub const fn late_shootdown(message: &'static str) -> Twin {
    twin(Sabotage::LateShootdown, message)
}

/// The world that flushes the first page of what it is to flush.
#[track_caller]
pub const fn partial_shootdown(message: &'static str) -> Twin {
    twin(Sabotage::PartialShootdown, message)
}

/// The world in which a CPU that has others flush waits for them with interrupts masked.
#[track_caller]
pub const fn masked_shootdown(message: &'static str) -> Twin {
    twin(Sabotage::MaskedShootdown, message)
}

/// The world in which a CPU that comes back to a tag keeps what it has cached under it.
#[track_caller]
pub const fn tags_kept(message: &'static str) -> Twin {
    twin(Sabotage::TagsKept, message)
}

/// The world in which CPU `cpu` is never asked to flush.
#[track_caller]
pub const fn forgotten_holder(cpu: u32, message: &'static str) -> Twin {
    twin(Sabotage::ForgottenHolder(cpu), message)
}

#[track_caller]
const fn twin(sabotage: Sabotage, message: &'static str) -> Twin {
    assert!(!message.is_empty(), "a twin without a message would be caught by any failure");
    Twin { sabotage, message }
}

/// The twins of a scenario; see [`twins`].
#[derive(Clone, Copy, Debug)]
pub struct Twins {
    twins: [Option<Twin>; 8],
}

impl Twins {
    /// The twins in order.
    pub fn iter(&self) -> impl Iterator<Item = Twin> + '_ {
        self.twins.iter().copied().flatten()
    }
}

/// The twins of a scenario.
///
/// ```compile_fail,E0277
/// # use weft_scenarios::prelude::*;
/// const NONE: Twins = twins([]);
/// ```
pub const fn twins<const N: usize>(list: [Twin; N]) -> Twins
where
    Number<N>: TwinCount,
{
    let mut twins = [None; 8];
    let mut index = 0;
    while index < N {
        twins[index] = Some(list[index]);
        index += 1;
    }
    Twins { twins }
}

/// The last part of a module path: the name of a scenario's file.
pub const fn name_of(module_path: &'static str) -> &'static str {
    let bytes = module_path.as_bytes();
    let mut start = bytes.len();
    while start > 0 && bytes[start - 1] != b':' {
        start -= 1;
    }
    let (_, name) = bytes.split_at(start);
    match core::str::from_utf8(name) {
        Ok(name) => name,
        Err(_) => panic!("a path ends in a name"),
    }
}
