//! Our part in the core: roots are loaded for good, translations flushed, accesses real.
//!
//! *Flush before free.* What the core detaches may be in the translation cache of any processor
//! that runs on the table. It asks for a flush before it retires anything, and all of those are
//! flushed, and waited for, before the grace period begins: when a frame is freed, no processor can
//! reach it any more, neither by a pointer (the grace period) nor by a translation (the flush).

use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;
use weft_backend_baremetal::backend::{Machine, Parts, Processors, Tables};
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::word::AtomicWord;
use weft_core::address::{CpuId, Paddr, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::format::X86_64;
use weft_core::geometry::FourLevels;
use weft_core::grace::Monitor;
use weft_core::item::UntrackedMemory;
use weft_core::reclaim::{Batch, Reclaim};
use weft_core::sync::{Backend, Event, Flush, Hardware};
use weft_scenarios::metal::Users;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::tables;

use super::frames::InUse;
use super::sabotage::is_chosen;
use super::words::{EntryWord, WatchedWord};
use super::{roots, shootdown, situations};
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

    const HARDWARE: Option<Hardware> = Some(Hardware::of::<X86_64, FourLevels>());

    #[inline]
    fn entry(word: &AtomicWord) -> &EntryWord {
        // SAFETY: an `EntryWord` is an `AtomicWord` and nothing else, and has its layout.
        unsafe { &*core::ptr::from_ref(word).cast() }
    }

    fn cpu(&self) -> CpuId {
        CpuId::new(cpu::this().plays.load(Ordering::Relaxed))
    }

    unsafe fn load_root(&self, root: Option<Paddr>) {
        cpu::count(&cpu::this().root_loads);
        if root.is_some() {
            shootdown::note_running(true);
        }
        // SAFETY: user roots share the kernel's half, and the caller owns the root until another
        // one is loaded; the kernel's own root is never freed.
        unsafe { roots::load(root.unwrap_or_else(roots::kernel)) };
        if root.is_none() {
            shootdown::note_running(false);
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

    /// CPUs of the harness are played by processors in turn, so targets are picked by address:
    /// every processor for the kernel's half, those that run on a user's root for the users'.
    fn flush(&self, what: Flush) {
        match what {
            Flush::Page(vaddr) if roots::is_kernel(vaddr) => {
                shootdown::flush_everywhere(shootdown::Flush::Page(vaddr.as_u64()));
            }
            Flush::Page(vaddr) => shootdown::flush_running(shootdown::Flush::Page(user(vaddr))),
            // Whose it is was not said: if it may be the kernel's, it is taken for it.
            Flush::Everything if roots::is_changing() => {
                shootdown::flush_everywhere(shootdown::Flush::Everything);
            }
            Flush::Everything => shootdown::flush_running(shootdown::Flush::Users),
        }
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
        trap::try_read(user(vaddr)).ok()
    }

    fn user_write(&self, vaddr: Vaddr, value: u64) -> bool {
        // SAFETY: the address is in the user's half: what is mapped there is the user's.
        unsafe { trap::try_write(user(vaddr), value) }.is_ok()
    }

    fn limit_frames(&self, count: usize) {
        cpu::this().allowance.store(count as u64, Ordering::Relaxed);
        LIMITED.store(true, Ordering::Relaxed);
    }

    fn reached(&self, name: &'static str) {
        situations::reached(name);
    }

    fn draw(&self) -> u64 {
        DRAWN.fetch_add(1, Ordering::AcqRel)
    }
}

/// The calling processor is CPU `cpu` of the core from now on.
pub(crate) fn play(cpu: CpuId) {
    cpu::this().plays.store(cpu.as_u32(), Ordering::Relaxed);
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

    unsafe fn retire(&self, backend: &B, batch: Batch<B>) {
        if is_chosen(Sabotage::FreedAtOnce) {
            batch.drop_all();
        } else if is_chosen(Sabotage::NeverFreed) {
            // A batch without an owner: its frames are lost.
            let _lost = ManuallyDrop::new(batch);
        } else {
            // SAFETY: the caller's contract is the same.
            unsafe { self.monitor.retire(backend, batch) };
        }
    }
}
