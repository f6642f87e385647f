//! A CPU that fails with a guard in hand: what its destructors do neither panics nor blocks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weft_backend_loom::chosen::EngineName;
use weft_backend_loom::engine::FailureKind;
use weft_backend_loom::harness::Prepare;
use weft_backend_loom::model::Model;
use weft_backend_loom::report::Request;
use weft_core::sync::{Count as _, FrameUse, LockWord as _, Word as _};
use weft_scenarios::Visitor as _;
use weft_scenarios::prelude::*;

/// How many destructors came to their end.
static ENDED: AtomicUsize = AtomicUsize::new(0);

const FAILS: &str = "a CPU fails with a guard in hand";

/// One CPU fails with the lock of a leaf, for which the other may be waiting.
struct FailVsLock<B: World> {
    leaf: Node<UserTable<B>>,
    word: B::Word,
    lock: B::LockWord,
    count: B::Count,
    cell: B::Cell<u64>,
}

/// Uses every operation in its destructor.
struct Busy<'a, B: World>(&'a FailVsLock<B>, &'a B);

impl<B: World> Drop for Busy<'_, B> {
    fn drop(&mut self) {
        let Self(FailVsLock { word, lock, count, cell, .. }, backend) = self;
        let site = &sites::LOCK_ACQUIRE;
        assert_eq!(word.load(site), 0, "an inert load");
        word.store(5, site);
        assert_eq!(word.swap(5, site), 0, "an inert swap");
        assert_eq!(word.compare_exchange(77, 5, site, site), Ok(77));
        assert_eq!(lock.compare_exchange(77, 5, site, site), Ok(77));
        lock.relax();
        lock.store(5, site);
        count.store(0, site);
        let counts = [count.fetch_add(1, site), count.fetch_sub(1, site)];
        assert!(counts.iter().all(|count| *count > 1), "the last reference: {counts:?}");
        cell.set(5);
        assert_eq!(cell.get(), 0, "an inert read");
        backend.fence(&sites::REFERENCE_LAST);
        assert_eq!(backend.allocate(FrameUse::Data), None);
        assert_eq!(backend.user_read(Vaddr::new(0)), None);
        ENDED.fetch_add(1, Ordering::Relaxed);
    }
}

impl<B: World> Scenario<B> for FailVsLock<B> {
    type Saw = ();
    const CPUS: Cpus<Self, B> = cpus([
        ("failing", |race, cpu| {
            let section = cpu.read_side();
            let guard = race.leaf.borrow(&section).lock();
            let busy = Busy(race, cpu.backend());
            assert!(guard.is_stray(), "{FAILS}");
            drop(busy);
        }),
        ("locker", |Self { leaf, .. }, cpu| {
            let section = cpu.read_side();
            drop(leaf.borrow(&section).lock());
        }),
    ]);
    const OUTCOMES: &'static [Outcome] = &[forbidden("ends", "the failure is lost")];
    const REACHED: &'static [Situation] = &[];
    const TWINS: Twins = twins([weakened(&sites::LOCK_ACQUIRE, "data race on N")]);

    fn set_up(machine: &mut Machine<B>) -> Self {
        Self {
            leaf: machine.node(1),
            word: B::Word::new("word", 3),
            lock: B::LockWord::new("lock", 0),
            count: B::Count::new("count", 3),
            cell: B::Cell::new("cell", 3),
        }
    }

    fn check(&self, _cpu: &mut Cpu<B>, _saw: &[()]) -> &'static str {
        "ends"
    }
}

/// Explores the race under an engine, and asserts that its first failure is the whole of it.
pub(crate) fn destructors_are_inert(engine: EngineName) {
    let request = Request { time: Duration::from_secs(60), ..Request::default() };
    let report = Prepare.visit::<FailVsLock<Model>>("fail_vs_lock").explore(engine, request, None);
    let failure = report.failure.as_ref().expect("a CPU fails");
    assert_eq!((failure.class, &*failure.message), (FailureKind::Violation, FAILS), "{report:?}");
    assert!(ENDED.load(Ordering::Relaxed) > 0, "no destructor came to its end");
}
