//! Having other processors flush their translations, and waiting until they have.
//!
//! # Slots
//!
//! Every processor has one *request* of its own that it sends, and a word with a bit for each
//! processor that wants something from it. To send, a processor writes its request, sets its bit in
//! the word of each target, interrupts those, and waits until all have answered. A target takes all
//! bits out of its word in its handler, serves the request of each sender, and then takes itself
//! out of the sender's set of those that have not answered. So senders share no lock: those that
//! ask the same target are served by it one after the other, and others do not meet.
//!
//! A request with many pages is one interrupt for each target. An interrupt that finds no bit was
//! overtaken: the request was served with an earlier one.
//!
//! A request may also be to call something: a race does so to be in another CPU's handler.
//!
//! # No deadlock
//!
//! A processor that waits for answers has interrupts on, so it answers meanwhile; so does one that
//! waits for a lock of a node, which a sender may hold. A handler waits for nothing. A processor
//! that masks interrupts, as when it switches roots, waits for nothing either before it unmasks
//! them. A processor that halts is woken by the interrupt, and halts again.
//!
//! If an answer does not come, one of these rules is broken. Then the sender asks the target by an
//! interrupt that cannot be masked where it is, and fails with what it learns.
//!
//! # Processors that start
//!
//! A processor counts itself online, and then forgets everything, before it does anything else:
//! either a sender that flushes on all processors finds it online, or the change was made before
//! the processor began to fill its caches.

use core::fmt;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use alloc::vec::Vec;
use spin::RwLock;
use weft_core::sync::Request;
use weft_protocol::Line;
use weft_scenarios::detector::UNANSWERED;
use x86_64::VirtAddr;
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::control::{Cr4, Cr4Flags};

use super::roots;
use crate::machine::cpu::{self, CPUS_MAX};
use crate::machine::waiting::Wait;
use crate::machine::{apic, serial, trap, vector};

/// What a processor asks of others.
#[derive(Clone, Copy)]
enum Asked {
    /// To flush.
    Flush(Request),
    /// To call this in the handler.
    Call(&'static (dyn Fn() + Sync)),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flush(request) => write!(f, "to flush {:?}", request.flush()),
            Self::Call(_) => f.write_str("to call a handler of a race's own"),
        }
    }
}

/// What a processor sends.
#[repr(align(128))]
struct Sent {
    /// Written by the sender while there is no answer to wait for. So the lock is always free.
    asked: RwLock<Option<Asked>>,
    /// The processors that have not answered.
    unanswered: AtomicU64,
}

/// The processors that want something from a processor.
#[repr(align(128))]
struct Wanted(AtomicU64);

static SENT: [Sent; CPUS_MAX] =
    [const { Sent { asked: RwLock::new(None), unanswered: AtomicU64::new(0) } }; CPUS_MAX];
static WANTED: [Wanted; CPUS_MAX] = [const { Wanted(AtomicU64::new(0)) }; CPUS_MAX];

/// A set of processors: a bit for each.
pub(crate) type Targets = u64;

/// The set of one processor.
pub(crate) const fn only(processor: usize) -> Targets {
    1 << processor
}

/// Every processor that is online.
pub(crate) fn everyone() -> Targets {
    (1 << cpu::online()) - 1
}

fn each(targets: Targets) -> impl Iterator<Item = usize> {
    (0..CPUS_MAX).filter(move |&processor| targets & only(processor) != 0)
}

/// Makes the targets serve a request, the calling processor with `serve` if it is one of them, and
/// returns once all have.
pub(crate) fn send(targets: Targets, request: &Request, serve: impl Fn(&Request)) {
    ask(targets, Asked::Flush(*request), || serve(request));
}

/// Makes the targets, of which the caller is none, call `handler` in their interrupt handlers, and
/// returns once all have.
pub(crate) fn call(targets: Targets, handler: &(dyn Fn() + Sync)) {
    // SAFETY: only the type changes. A target calls it before it answers, and `ask` returns when
    // all have answered, within the lifetime of the reference; it does not unwind.
    let handler: &'static (dyn Fn() + Sync) = unsafe { core::mem::transmute(handler) };
    ask(targets, Asked::Call(handler), || unreachable!("a processor does not interrupt itself"));
}

/// Makes the targets do what is asked, the calling processor by `serve` if it is one of them, and
/// returns once all have.
fn ask(targets: Targets, asked: Asked, serve: impl Fn()) {
    let own = cpu::this();
    let others = targets & !only(own.id);
    let sent = &SENT[own.id];
    let began = cpu::cycles();
    if others != 0 {
        assert!(interrupts::are_enabled(), "two senders with interrupts off wait for good");
        *sent.asked.write() = Some(asked);
        sent.unanswered.store(others, Ordering::Relaxed);
        for target in each(others) {
            // Release: a target that sees the bit sees the request.
            WANTED[target].0.fetch_or(only(own.id), Ordering::Release);
        }
        cpu::count(&own.shootdowns);
        cpu::count_many(&own.interrupts_sent, others.count_ones().into());
        apic::interrupt(others, vector::FLUSH);
    }
    if targets & only(own.id) != 0 {
        interrupts::without_interrupts(serve);
    }
    if others != 0 {
        let mut wait = Wait::new();
        // Acquire: the flushes of the targets come before whatever the caller does next.
        while sent.unanswered.load(Ordering::Acquire) != 0 {
            wait.relax();
            if wait.is_overdue(began)
                && let Some(target) = each(sent.unanswered.load(Ordering::Relaxed)).next()
            {
                fail(asked, target);
            }
        }
        note(cpu::cycles() - began);
    }
}

/// Answers requests with `serve`. Called by the interrupt handler.
pub(crate) fn answer(serve: impl Fn(&Request)) {
    let own = cpu::this();
    // Acquire: the requests were written before the bits were set.
    for sender in each(WANTED[own.id].0.swap(0, Ordering::Acquire)) {
        let asked = *SENT[sender].asked.read();
        match asked.expect("a sender writes its request first") {
            Asked::Flush(request) => serve(&request),
            Asked::Call(handler) => handler(),
        }
        cpu::count(&own.requests_answered);
        // Release: the flush is over before the sender goes on.
        SENT[sender].unanswered.fetch_and(!only(own.id), Ordering::Release);
    }
}

/// Fails because of a target that does not answer, with what is known of it.
fn fail(asked: Asked, target: usize) -> ! {
    let is_taken = WANTED[target].0.load(Ordering::Relaxed) & only(cpu::this().id) == 0;
    let block = cpu::of(target);
    panic!(
        "processor {target} {UNANSWERED} {asked}: it has {}taken the request \
         up, has answered {} others, is CPU {} of the core, and is {}",
        if is_taken { "" } else { "not " },
        block.requests_answered.load(Ordering::Relaxed),
        block.plays.load(Ordering::Relaxed),
        trap::Whereabouts(trap::ask_where(target)),
    )
}

/// Makes the calling processor, whose interrupts are masked, forget translations.
pub(crate) fn invalidate(request: &Request) {
    let own = cpu::this();
    if let Some(pages) = request.flush().pages() {
        // Takes global translations, too, and all that is cached of upper levels under this tag.
        for page in pages {
            tlb::flush(VirtAddr::new_truncate(page.as_u64()));
            cpu::count(&own.pages_invalidated);
        }
        return;
    }
    cpu::count(&own.full_flushes);
    if request.space().is_some() {
        roots::flush();
    } else {
        forget_everything();
    }
}

/// Makes the calling processor forget every translation, the kernel's among them.
pub(crate) fn forget_everything() {
    // A change of this bit takes the global ones too, and all tags (Intel SDM, volume 3A, section
    // 5.10.4.1).
    let global = Cr4Flags::PAGE_GLOBAL;
    // SAFETY: translations may or may not be global: nothing relies on it.
    unsafe { Cr4::update(|flags| flags.remove(global)) };
    // SAFETY: as above.
    unsafe { Cr4::update(|flags| flags.insert(global)) };
}

/// How many of the last waits are kept.
const WAITS_KEPT: usize = 4096;

/// How long senders have waited, in cycles.
static WAITS: [AtomicU64; WAITS_KEPT] = [const { AtomicU64::new(0) }; WAITS_KEPT];
static WAITS_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Notes how long a sender has waited.
fn note(cycles: u64) {
    let index = WAITS_COUNT.fetch_add(1, Ordering::Relaxed) % WAITS_KEPT;
    WAITS[index].store(cycles, Ordering::Relaxed);
}

/// Prints how long senders have waited for answers: of the last [`WAITS_KEPT`] the shortest, the
/// middle and the longest. Nothing if none has.
pub(crate) fn report() {
    let count = WAITS_COUNT.load(Ordering::Relaxed).min(WAITS_KEPT);
    let mut waits: Vec<u64> =
        WAITS[..count].iter().map(|cycles| cycles.load(Ordering::Relaxed)).collect();
    waits.sort_unstable();
    if let (Some(&shortest), Some(&longest)) = (waits.first(), waits.last()) {
        for (name, value) in [
            ("shootdown cycles, shortest", shortest),
            ("shootdown cycles, middle", waits[count / 2]),
            ("shootdown cycles, longest", longest),
        ] {
            serial::line(&Line::Metric { name, value });
        }
    }
}
