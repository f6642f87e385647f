//! Our part in the core: roots are loaded for good, translations flushed, accesses real.
//!
//! *Flush before free.* What the core detaches may be in the translation cache of any processor
//! that runs on the table. It asks for a flush before it retires anything, and all of those are
//! flushed, and waited for, before the grace period begins: when a frame is freed, no processor can
//! reach it any more, neither by a pointer (the grace period) nor by a translation (the flush).

use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;
use weft_backend_baremetal::backend::Processors;
use weft_backend_baremetal::word::AtomicWord;
use weft_backend_baremetal::world::Users;
use weft_core::address::{CpuId, CpuSet, Paddr, Vaddr};
use weft_core::grace::Monitor;
use weft_core::reclaim::{Batch, Reclaim};
use weft_core::sync::{Backend, Event, Flush};
use weft_scenarios::scenario::Situation;

use crate::sabotage::Sabotage;
use crate::shootdown;
use crate::words::{EntryWord, WatchedWord};
use crate::{cpu, space, trap};

/// The most situations that a scenario lists.
const SITUATIONS_MAX: usize = 16;

/// The processors of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metal;

impl Processors for Metal {
    type Reclaim<B: Backend> = Sabotaged<B>;
    type LockWord = WatchedWord;
    type Word = EntryWord;

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
        unsafe { space::load(root.unwrap_or_else(space::root)) };
        if root.is_none() {
            shootdown::note_running(false);
        }
    }

    fn may_allocate(&self) -> bool {
        !LIMITED.load(Ordering::Relaxed) || cpu::this().take_allowance()
    }

    /// The core's CPUs are played by processors in turn, so the set says less than which half of a
    /// table it is about: the kernel's concerns all processors, the users' those that run on a
    /// user's root.
    fn flush(&self, what: Flush, _cpus: CpuSet) {
        match what {
            Flush::Page(vaddr) => match space::kernel_address(vaddr) {
                Some(vaddr) => shootdown::flush_everywhere(shootdown::Flush::Page(vaddr)),
                None => shootdown::flush_running(shootdown::Flush::Page(user(vaddr))),
            },
            // Whose it is was not said: if it may be the kernel's, it is taken for it.
            Flush::Everything if space::is_changing() => {
                shootdown::flush_everywhere(shootdown::Flush::Everything);
            }
            Flush::Everything => shootdown::flush_running(shootdown::Flush::Users),
        }
    }

    fn observe(&self, event: Event) {
        note(1, |situation| situation.event.is_some_and(|meets| meets(event)));
    }
}

impl Users for Metal {
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
        let listed = note(1, |situation| situation.name == name);
        assert!(listed, "the situation \"{name}\" is not listed");
    }

    fn draw(&self) -> u64 {
        DRAWN.fetch_add(1, Ordering::AcqRel)
    }
}

/// The calling processor is CPU `cpu` of the core from now on.
pub(crate) fn play(cpu: CpuId) {
    cpu::this().plays.store(cpu.as_u32(), Ordering::Relaxed);
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

/// The situations of the scenario that runs.
static SITUATIONS: Once<&'static [Situation]> = Once::new();
static TIMES: [AtomicU64; SITUATIONS_MAX] = [const { AtomicU64::new(0) }; SITUATIONS_MAX];
static RACING: AtomicBool = AtomicBool::new(false);
/// How often somebody waited for a lock.
static CONTENTIONS: AtomicU64 = AtomicU64::new(0);
/// The same when the race began.
static CONTENTIONS_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Says which situations are to be counted.
pub(crate) fn count_situations(situations: &'static [Situation]) {
    assert!(situations.len() <= SITUATIONS_MAX, "the scenario lists too many situations");
    SITUATIONS.call_once(|| situations);
}

/// Says whether the race is on: events of set-up and check do not count. Called in turn with true
/// and false, while no role is played.
pub(crate) fn set_racing(racing: bool) {
    let contentions = CONTENTIONS.load(Ordering::Relaxed);
    if racing {
        CONTENTIONS_BEFORE.store(contentions, Ordering::Relaxed);
    } else {
        let times = contentions - CONTENTIONS_BEFORE.load(Ordering::Relaxed);
        note(times, |situation| situation.event.is_some_and(|meets| meets(Event::LockContended)));
    }
    RACING.store(racing, Ordering::Release);
}

/// Counts that somebody waits for a lock. This is [`Event::LockContended`], which only
/// [`set_racing`] makes anything of, because whoever locks must not pay for it.
#[inline]
pub(crate) fn count_contention() {
    CONTENTIONS.fetch_add(1, Ordering::Relaxed);
}

/// How often anybody had to look again for a lock that was held.
pub(crate) fn contentions() -> u64 {
    CONTENTIONS.load(Ordering::Relaxed)
}

/// How often each situation was met.
pub(crate) fn situations() -> impl Iterator<Item = (&'static Situation, u64)> {
    let listed = SITUATIONS.get().copied().unwrap_or_default();
    listed.iter().zip(&TIMES).map(|(one, times)| (one, times.load(Ordering::Relaxed)))
}

/// Counts the situations that were met so many times. Whether there are any.
fn note(count: u64, is_met: impl Fn(&Situation) -> bool) -> bool {
    let Some(situations) = SITUATIONS.get() else { return false };
    if !RACING.load(Ordering::Acquire) {
        return false;
    }
    let mut any = false;
    for (situation, times) in situations.iter().zip(&TIMES) {
        if is_met(situation) {
            times.fetch_add(count, Ordering::Relaxed);
            any = true;
        }
    }
    any
}

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
        Sabotage::ForgottenCpu(cpu.as_u32()).is_chosen() || self.monitor.online(cpu)
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
        if Sabotage::FreedAtOnce.is_chosen() {
            batch.drop_all();
        } else if Sabotage::NeverFreed.is_chosen() {
            // A batch without an owner: its frames are lost.
            let _lost = ManuallyDrop::new(batch);
        } else {
            // SAFETY: the caller's contract is the same.
            unsafe { self.monitor.retire(backend, batch) };
        }
    }
}
