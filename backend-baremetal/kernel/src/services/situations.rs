//! The situations of a scenario, counted as they are met.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;
use weft_core::sync::Event;
use weft_scenarios::detector::NOT_LISTED;
use weft_scenarios::scenario::Situation;

/// The most situations that a scenario lists.
const SITUATIONS_MAX: usize = 16;

/// The situations of the scenario that runs.
static SITUATIONS: Once<&'static [Situation]> = Once::new();
static TIMES: [AtomicU64; SITUATIONS_MAX] = [const { AtomicU64::new(0) }; SITUATIONS_MAX];
static RACING: AtomicBool = AtomicBool::new(false);
/// How often a CPU waited for a lock.
static CONTENTIONS: AtomicU64 = AtomicU64::new(0);
/// The same when the race began.
static CONTENTIONS_BEFORE: AtomicU64 = AtomicU64::new(0);

/// Says which situations are to be counted.
pub(crate) fn count(situations: &'static [Situation]) {
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

/// Counts that a CPU waits for a lock. This is [`Event::LockContended`], which only
/// [`set_racing`] makes anything of, because a CPU that locks must not pay for it.
#[inline]
pub(crate) fn count_contention() {
    CONTENTIONS.fetch_add(1, Ordering::Relaxed);
}

/// How often a CPU had to look again for a lock that was held.
pub(crate) fn contentions() -> u64 {
    CONTENTIONS.load(Ordering::Relaxed)
}

/// How often each situation was met.
pub(crate) fn all() -> impl Iterator<Item = (&'static Situation, u64)> {
    let listed = SITUATIONS.get().copied().unwrap_or_default();
    listed.iter().zip(&TIMES).map(|(one, times)| (one, times.load(Ordering::Relaxed)))
}

/// Something happened in the core.
pub(crate) fn observe(event: Event) {
    note(1, |situation| situation.event.is_some_and(|meets| meets(event)));
}

/// A scenario says that it met the situation called `name`.
pub(crate) fn reached(name: &'static str) {
    let listed = note(1, |situation| situation.name == name);
    assert!(listed, "the situation \"{name}\" {NOT_LISTED}");
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
