//! Our part in the core: roots are loaded for good, translations flushed, accesses real.
//!
//! *Flush before free.* What the core detaches may be in the translation cache of any processor
//! that runs on the table. The core asks for a flush before it retires anything, and says on which
//! CPUs; all of those have flushed before the grace period begins. So when a frame is freed, no
//! processor can reach it any more, neither by a pointer (the grace period) nor by a translation
//! (the flush).
//!
//! *Processors play CPUs.* A harness gives the roles of a scenario to other processors in every
//! round. So the numbers of the core's CPUs are not those of processors: [`play`] says which
//! processor a CPU is, from before it runs on anything until after it has left, and [`rest`] that
//! a processor is none.
//!
//! *A user's fault is final.* Hardware may fault on a page that is mapped: once, where it has
//! cached fewer rights than the page has by now (Intel SDM, volume 3A, section 5.10.4.3). Then a
//! kernel lets the user try again. Here there is no such page: no scenario gives rights to a page
//! that a user is on, what is absent is never cached, and the core flushes upper levels before
//! anything is mapped below new ones.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use spin::Once;
use weft_backend_baremetal::backend::{Machine, Parts, Processors, Tables};
use weft_backend_baremetal::frame::{POISON, Region};
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, CpuSet, Paddr, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::format::X86_64;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::grace::Monitor;
use weft_core::item::UntrackedMemory;
use weft_core::reclaim::{Paid, Reclaim};
use weft_core::sync::{Backend, Event, Hardware, Request, TaggedRoot};
use weft_core::tags::TAGS_MAX;
use weft_scenarios::detector::USE_AFTER_FREE;
use weft_scenarios::metal::Users;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::tables;
use x86_64::instructions::interrupts;

use super::frames::InUse;
use super::sabotage::{self, is_chosen};
use super::shootdown::{self, Targets};
use super::words::{EntryWord, WatchedWord};
use super::{preemption, roots, situations};
use crate::machine::boot::at;
use crate::machine::{cpu, trap};

/// The machine that the core runs on here.
pub(crate) type MetalMachine = Machine<FourLevels, ScenarioTables, Metal>;

/// Puts a CPU of the core online. Numbers from [`cpu::online`] on are those of no processor: the
/// code that builds tables runs as one of them.
pub(crate) fn online(machine: &MetalMachine, number: usize) -> Cpu<MetalMachine> {
    Cpu::online(machine, CpuId::new(number as u32)).expect("each CPU is online once")
}

static PARTS: Once<Parts<FourLevels, ScenarioTables, Metal>> = Once::new();

/// The two configurations of tables that scenarios use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScenarioTables;

impl Tables for ScenarioTables {
    type On<B: Backend> = tables::Tables<B>;
}

/// Starts the machine, with these frames. Called once.
///
/// # Safety
///
/// The direct map covers the range, which is memory that nothing else uses, from now on.
pub(crate) unsafe fn start(frames: Range<Paddr>) -> MetalMachine {
    let metal = Metal { in_use: InUse::up_to(frames.end) };
    // SAFETY: by the caller's contract.
    let region = unsafe { Region::new(at(0), frames) };
    Machine::new(PARTS.call_once(|| Parts::new(region, metal)))
}

/// Answers requests to flush. Called by the interrupt handler.
pub(crate) fn answer() {
    let machine = MetalMachine::new(PARTS.get().expect("requests are sent on a machine"));
    shootdown::answer(|request| machine.serve(request));
    preemption::answered();
}

/// The processors of the machine.
#[derive(Debug)]
pub(crate) struct Metal {
    /// Which frames are in use, for harnesses that look for what a run has left.
    pub(crate) in_use: InUse,
}

// SAFETY: (1) the region's frames are passed on; (2) an entry is the word itself, and its updates
// are torn only in a world that is sabotaged so; (3) the processors play CPUs of different numbers;
// (4) every processor that may hold a translation is interrupted, and waited for, except in such a
// world; (5) the kernel runs on the roots that it loads, and says so.
unsafe impl Processors for Metal {
    type Reclaim<B: Backend> = Sabotaged<B>;
    type LockWord = WatchedWord;
    type Word = EntryWord;

    /// As many as Linux has. Processors without tags keep nothing.
    const TAGS: usize = TAGS_MAX;

    const HARDWARE: Option<Hardware> = Some(Hardware::of::<X86_64, FourLevels>());

    #[inline]
    fn entry(word: &AtomicWord) -> &EntryWord {
        // SAFETY: an `EntryWord` is an `AtomicWord` and nothing else, and has its layout.
        unsafe { &*core::ptr::from_ref(word).cast() }
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(cpu::this().plays.load(Ordering::Relaxed))
    }

    unsafe fn load_root(&self, root: Option<TaggedRoot>) {
        let own = cpu::this();
        cpu::count(&own.root_loads);
        // SAFETY: user roots share the kernel's half, and the caller owns the root until another
        // one is loaded; the kernel's own root is never freed.
        if unsafe { roots::load(root) } {
            cpu::count(&own.roots_kept);
        }
    }

    fn allocate<B: Backend>(&self, region: &Region<B>) -> Option<Paddr> {
        if LIMITED.load(Ordering::Relaxed) && !cpu::this().take_allowance() {
            return None;
        }
        let frame = region.allocate()?;
        self.in_use.note(frame, true);
        Some(frame)
    }

    unsafe fn free<B: Backend>(&self, region: &Region<B>, frame: Paddr) {
        self.in_use.note(frame, false);
        // SAFETY: `allocate` passes on what the region gave; the rest is the caller's contract.
        unsafe { region.free(frame) }
    }

    fn masked<R>(&self, body: impl FnOnce() -> R) -> R {
        interrupts::without_interrupts(body)
    }

    fn invalidate(&self, what: &Request) {
        shootdown::invalidate(what);
    }

    fn interrupt<G: Geometry, T: Tables>(
        &self,
        machine: Machine<G, T, Self>,
        cpus: &CpuSet,
        request: &Request,
    ) {
        // Every processor stands on the kernel's half, which is in no space.
        let targets = match request.space() {
            Some(_) => cpus.iter().map(players).fold(0, |all, one| all | one),
            None => shootdown::everyone(),
        };
        let targets = match sabotage::chosen() {
            Some(Sabotage::NoShootdown) => return,
            Some(Sabotage::ForgottenHolder(number)) => targets & !players(CpuId::new(number)),
            _ => targets,
        };
        shootdown::send(targets, request, |request| machine.serve(request));
    }

    fn observe(&self, event: Event) {
        situations::observe(event);
    }
}

impl Users for Metal {
    fn write_contents(&self, frame: Paddr, value: u64) {
        contents(frame).store(value, Ordering::Relaxed);
    }

    fn read_contents(&self, frame: Paddr) -> u64 {
        contents(frame).load(Ordering::Relaxed)
    }

    fn untracked_memory<B: Backend>(&self) -> UntrackedMemory<B> {
        // SAFETY: the kernel's own table maps memory for the kernel itself, which owns all of it.
        // Tables of users are made by its tests only, which access what they have mapped to frames
        // of theirs.
        unsafe { UntrackedMemory::new(Paddr::new(0)..Paddr::new(1 << 52)) }
    }

    fn user_read(&self, vaddr: Vaddr) -> Option<u64> {
        let read = preemption::around(|| trap::try_read(user(vaddr))).ok();
        assert!(
            read != Some(POISON),
            "{USE_AFTER_FREE}: {vaddr:?} leads to a frame that was freed"
        );
        read
    }

    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool {
        // SAFETY: the address is in the user's half: what is mapped there is the user's.
        preemption::around(|| unsafe { trap::try_write(user(vaddr), value) }).is_ok()
    }

    fn prefetch(&self, vaddr: Vaddr) {
        trap::prefetch(user(vaddr));
    }

    fn limit_frames(&self, count: usize) {
        cpu::this().allowance.store(count as u64, Ordering::Relaxed);
        LIMITED.store(true, Ordering::Relaxed);
    }

    fn in_handler_of(&self, cpu: CpuId, handler: &(dyn Fn() + Sync)) {
        match players(cpu) & !shootdown::only(cpu::this().id) {
            0 => interrupts::without_interrupts(handler),
            target => shootdown::call(target, handler),
        }
    }

    fn reached(&self, name: &'static str) {
        situations::reached(name);
    }

    fn draw(&self) -> u64 {
        DRAWN.fetch_add(1, Ordering::AcqRel)
    }
}

/// Stands for no processor in [`PLAYERS`].
const NONE: usize = usize::MAX;

/// Which processor plays each CPU of the core.
static PLAYERS: [AtomicUsize; CpuId::MAX as usize + 1] =
    [const { AtomicUsize::new(NONE) }; CpuId::MAX as usize + 1];

/// The processors that play a CPU: one, or none.
fn players(cpu: CpuId) -> Targets {
    match PLAYERS[cpu.as_u32() as usize].load(Ordering::Relaxed) {
        NONE => 0,
        processor => shootdown::only(processor),
    }
}

/// The calling processor is CPU `cpu` of the core from now on.
pub(crate) fn play(cpu: CpuId) {
    let own = cpu::this();
    let player = |number: u32| &PLAYERS[number as usize];
    player(own.plays.load(Ordering::Relaxed)).store(NONE, Ordering::Relaxed);
    let before = player(cpu.as_u32()).swap(own.id, Ordering::Relaxed);
    assert!(before == NONE, "two processors play one CPU");
    own.plays.store(cpu.as_u32(), Ordering::Relaxed);
    // Release: a processor that finds the CPU among the holders of a space finds us, too.
    fence(Ordering::Release);
}

/// The calling processor is no CPU of a scenario any more.
pub(crate) fn rest() {
    play(CpuId::new(cpu::at_rest(cpu::this().id)));
}

/// The first word of a frame.
fn contents(frame: Paddr) -> &'static AtomicU64 {
    // SAFETY: the direct map covers all frames for good, and contents are accessed here and by user
    // accesses, which are single loads and stores of words. A scenario that writes a frame which is
    // not its own breaks its own check.
    unsafe { &*at(frame.as_u64()).cast::<AtomicU64>() }
}

/// A user's address as the processor has it.
fn user(vaddr: Vaddr) -> u64 {
    let vaddr = vaddr.as_u64();
    assert!(vaddr < 1 << 47, "users live in the lower half");
    vaddr
}

/// Whether any processor's frames were ever limited: not before all of them are up.
static LIMITED: AtomicBool = AtomicBool::new(false);

/// How many numbers were drawn.
static DRAWN: AtomicU64 = AtomicU64::new(0);

/// The core's monitor, or one of its broken twins.
pub(crate) struct Sabotaged<B: Backend> {
    monitor: Monitor<B>,
}

impl<B: Backend> Default for Sabotaged<B> {
    fn default() -> Self {
        Self { monitor: Monitor::new() }
    }
}

impl<B: Backend> fmt::Debug for Sabotaged<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sabotaged").finish_non_exhaustive()
    }
}

// SAFETY: it is the core's monitor, which keeps the promise, except in worlds that are sabotaged
// in order to show that breaking it is noticed.
unsafe impl<B: Backend> Reclaim<B> for Sabotaged<B> {
    fn online(&self, cpu: CpuId) -> bool {
        is_chosen(Sabotage::ForgottenCpu(cpu.as_u32())) || self.monitor.online(cpu)
    }

    unsafe fn offline(&self, backend: &B, cpu: CpuId) {
        // SAFETY: the caller's contract is the same.
        unsafe { self.monitor.offline(backend, cpu) };
    }

    unsafe fn quiescent(&self, backend: &B, cpu: CpuId) {
        // SAFETY: the caller's contract is the same.
        unsafe { self.monitor.quiescent(backend, cpu) };
    }

    unsafe fn retire(&self, backend: &B, paid: Paid<B>) {
        if is_chosen(Sabotage::FreedAtOnce) {
            paid.into_batch().drop_all();
        } else if is_chosen(Sabotage::NeverFreed) {
            // A batch without an owner: its frames are lost.
            let _lost = ManuallyDrop::new(paid);
        } else {
            // SAFETY: the caller's contract is the same.
            unsafe { self.monitor.retire(backend, paid) };
        }
    }
}
