//! Flushing translations on other processors, and waiting until they have.
//!
//! One request at a time, under a lock. The initiator writes what to flush, sets a bit for each
//! processor that is asked, interrupts those, and waits for all bits to be cleared. A processor
//! that is asked flushes in its handler and clears its bit, whatever it was doing.
//!
//! *No deadlock between two initiators*: the lock is waited for with interrupts on, so the one who
//! waits answers the one who has it. For the same reason a request is made with interrupts on only.
//! The caller may hold locks of nodes: whoever waits for those does so with interrupts on, too.
//!
//! *Who is asked*: for the kernel's half every processor; for the users' those that run on a
//! user's root. A processor sets its bit in [`RUNNING`] before it loads a root, with a locked
//! instruction, and loading CR3 serialises: so if we miss the bit, the processor's walks come after
//! our change to the table (Intel SDM, volume 3A, sections 5.10.4.2 and 9.3).

use core::sync::atomic::{AtomicU64, Ordering, fence};

use spin::mutex::SpinMutex;
use weft_scenarios::sabotage::Sabotage;
use x86_64::VirtAddr;
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::control::{Cr4, Cr4Flags};

use super::sabotage::is_chosen;
use crate::machine::waiting::Wait;
use crate::machine::{apic, cpu, vector};

/// What is flushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    /// The translation of one page.
    Page(u64),
    /// Every translation of users.
    Users,
    /// Every translation, the kernel's among them.
    Everything,
}

/// Stands for [`Flush::Users`] where an address is expected: no page begins there.
const USERS: u64 = u64::MAX;
/// Stands for [`Flush::Everything`], likewise.
const EVERYTHING: u64 = u64::MAX - 1;

static REQUEST: SpinMutex<()> = SpinMutex::new(());
static WHAT: AtomicU64 = AtomicU64::new(0);
static ASKED: AtomicU64 = AtomicU64::new(0);
/// The processors that run on a user's root.
static RUNNING: AtomicU64 = AtomicU64::new(0);

/// Notes whether the calling processor runs on a user's root: before it does, after it did.
pub(crate) fn note_running(runs: bool) {
    let bit = 1 << cpu::this().id;
    if runs {
        RUNNING.fetch_or(bit, Ordering::SeqCst);
    } else {
        RUNNING.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Flushes on every processor that runs on a user's root, the calling one included.
pub(crate) fn flush_running(what: Flush) {
    // What the caller took out of a table is out before the set is read; `note_running` and the
    // load that follows it are the other half.
    fence(Ordering::SeqCst);
    flush(RUNNING.load(Ordering::SeqCst), what);
}

/// Flushes on every processor.
pub(crate) fn flush_everywhere(what: Flush) {
    flush((1 << cpu::online()) - 1, what);
}

/// Flushes on a set of processors, and returns once all of them have.
fn flush(targets: u64, what: Flush) {
    if is_chosen(Sabotage::NoShootdown) {
        return;
    }
    let own = 1 << cpu::this().id;
    let others = targets & !own;
    if others != 0 {
        assert!(interrupts::are_enabled(), "two initiators with interrupts off wait for good");
        let mut wait = Wait::new();
        let request = REQUEST.try_lock().unwrap_or_else(|| {
            cpu::count(&cpu::this().shootdowns_delayed);
            loop {
                if let Some(request) = REQUEST.try_lock() {
                    break request;
                }
                wait.relax();
            }
        });
        let address = match what {
            Flush::Page(address) => address,
            Flush::Users => USERS,
            Flush::Everything => EVERYTHING,
        };
        WHAT.store(address, Ordering::Relaxed);
        // Release: who sees its bit sees what to flush.
        ASKED.store(others, Ordering::Release);
        cpu::count(&cpu::this().shootdowns);
        apic::interrupt(others, vector::FLUSH);
        // Acquire: the flushes of the others come before whatever the caller does next.
        while ASKED.load(Ordering::Acquire) != 0 {
            wait.relax();
        }
        drop(request);
    }
    if targets & own != 0 {
        flush_here(what);
    }
}

/// Answers a request: called by the interrupt handler.
pub(crate) fn answer() {
    let own = 1 << cpu::this().id;
    // Acquire: what to flush was written before the bit. An interrupt that comes late, after its
    // request was answered, finds no bit.
    if ASKED.load(Ordering::Acquire) & own == 0 {
        return;
    }
    let what = match WHAT.load(Ordering::Relaxed) {
        USERS => Flush::Users,
        EVERYTHING => Flush::Everything,
        address => Flush::Page(address),
    };
    flush_here(what);
    cpu::count(&cpu::this().flushes);
    // Release: the flush is over before the bit is gone.
    ASKED.fetch_and(!own, Ordering::Release);
}

fn flush_here(what: Flush) {
    match what {
        Flush::Page(address) => tlb::flush(VirtAddr::new_truncate(address)),
        // Loads CR3 again: translations of users are not global.
        Flush::Users => tlb::flush_all(),
        Flush::Everything => {
            // A change of this bit takes the global ones too (Intel SDM, volume 3A, 5.10.4.1).
            let global = Cr4Flags::PAGE_GLOBAL;
            // SAFETY: translations may or may not be global: nobody relies on it.
            unsafe { Cr4::update(|flags| flags.remove(global)) };
            // SAFETY: as above.
            unsafe { Cr4::update(|flags| flags.insert(global)) };
        }
    }
}
