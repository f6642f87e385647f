//! Grace periods by quiescent states: the RCU monitor that ships.
//!
//! A *quiescent state* is a moment at which a CPU is in no read-side section; it announces one
//! between sections, when it suits it (a kernel: at a context switch, when idle). A *grace period*
//! that starts when a batch is retired ends once every CPU that was online then has announced a
//! quiescent state or gone offline: every section that could have seen the batch is over.
//!
//! One batch at a time waits for the *current* grace period. What is retired while it runs joins
//! the *next* batch, because some CPU may have announced its quiescent state before that frame was
//! detached, and have a reference to it now. The CPU that announces the last missing quiescent
//! state takes the current batch, starts the next period if there is something waiting, and drops
//! the batch after the monitor's lock is given back. It drops all of it in that one call.
//!
//! No CPU ever waits for a grace period, so nothing spins. Readers do nothing at all, so sections
//! cost nothing. The price is latency: a CPU that never announces holds everything up, and one that
//! unmaps and maps in a loop without announcing runs out of frames that are only waiting.
//!
//! Everything is done under one lock, so every edge that a drop relies on goes through it: what a
//! reader did in its section is before its quiescent state, and that is before the last one.
//!
//! After McKenney, "What is RCU, really?" and Hart et al., "Performance of memory reclamation for
//! lockless synchronization" (JPDC 2007), where the scheme is called QSBR.

use core::fmt;

use crate::address::{CpuId, Paddr};
use crate::reclaim::{Batch, Paid, Reclaim};
use crate::sync::{Backend, Event, PlainCell, RawLock};

/// A batch in cells: first and last frame, each plus 1, or 0 for none.
struct Waiting<B: Backend> {
    first: B::Cell<u64>,
    last: B::Cell<u64>,
}

impl<B: Backend> Waiting<B> {
    fn new(first: &'static str, last: &'static str) -> Self {
        Self { first: B::Cell::new(first, 0), last: B::Cell::new(last, 0) }
    }

    fn take(&self, backend: &B) -> Batch<B> {
        let ends = match (self.first.get(), self.last.get()) {
            (0, _) => None,
            (first, last) => Some((Paddr::new(first - 1), Paddr::new(last - 1))),
        };
        self.first.set(0);
        // SAFETY: `put` stored the ends of the only batch made of them, and they are cleared now,
        // under the same lock.
        unsafe { Batch::from_ends(backend, ends) }
    }

    fn put(&self, batch: Batch<B>) {
        if let Some((first, last)) = batch.into_ends() {
            self.first.set(first.as_u64() + 1);
            self.last.set(last.as_u64() + 1);
        }
    }
}

/// The monitor: which CPUs are online, who is still awaited, and the two batches.
pub struct Monitor<B: Backend> {
    lock: B::NodeLock,
    /// CPUs that may be in read-side sections.
    online: B::Cell<u64>,
    /// CPUs that the current grace period waits for; 0 when none runs.
    awaited: B::Cell<u64>,
    current: Waiting<B>,
    next: Waiting<B>,
}

impl<B: Backend> fmt::Debug for Monitor<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl<B: Backend> Default for Monitor<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Backend> Monitor<B> {
    /// A monitor with no CPU online.
    pub fn new() -> Self {
        Self {
            lock: B::NodeLock::new("monitor"),
            online: B::Cell::new("online", 0),
            awaited: B::Cell::new("awaited", 0),
            current: Waiting::new("current.first", "current.last"),
            next: Waiting::new("next.first", "next.last"),
        }
    }

    /// No longer awaits `cpu`. Returns what became free, to be dropped without the lock.
    fn passed(&self, backend: &B, cpu: CpuId) -> Batch<B> {
        let awaited = self.awaited.get();
        if awaited & cpu.bit() == 0 {
            return Batch::new(backend);
        }
        self.awaited.set(awaited & !cpu.bit());
        if awaited != cpu.bit() {
            return Batch::new(backend);
        }
        backend.observe(Event::GracePeriodEnded);
        let mut over = self.current.take(backend);
        let next = self.next.take(backend);
        if !next.is_empty() {
            over = self.start(next, over);
        }
        over
    }

    /// Starts a grace period for `batch`. With no CPU online it is over at once: `batch` then
    /// joins `over`, which is returned.
    fn start(&self, batch: Batch<B>, mut over: Batch<B>) -> Batch<B> {
        let online = self.online.get();
        if online == 0 {
            over.append(batch);
        } else {
            self.awaited.set(online);
            self.current.put(batch);
        }
        over
    }
}

// SAFETY: `retire` starts a period that awaits every CPU online, or joins the batch for which the
// next period will do so; a CPU leaves `awaited` only in `passed`, which it calls outside of its
// sections; all of it happens under one lock, whose edges are the ordering that is promised.
unsafe impl<B: Backend> Reclaim<B> for Monitor<B> {
    fn online(&self, cpu: CpuId) -> bool {
        self.lock.acquire();
        let online = self.online.get();
        self.online.set(online | cpu.bit());
        self.lock.release();
        online & cpu.bit() == 0
    }

    unsafe fn offline(&self, backend: &B, cpu: CpuId) {
        self.lock.acquire();
        self.online.set(self.online.get() & !cpu.bit());
        let over = self.passed(backend, cpu);
        self.lock.release();
        over.drop_all();
    }

    unsafe fn quiescent(&self, backend: &B, cpu: CpuId) {
        self.lock.acquire();
        let over = self.passed(backend, cpu);
        self.lock.release();
        over.drop_all();
    }

    unsafe fn retire(&self, backend: &B, batch: Paid<B>) {
        let batch = batch.into_batch();
        self.lock.acquire();
        let over = if self.awaited.get() == 0 {
            self.start(batch, Batch::new(backend))
        } else {
            backend.observe(Event::RetiredDuringGracePeriod);
            let mut next = self.next.take(backend);
            next.append(batch);
            self.next.put(next);
            Batch::new(backend)
        };
        self.lock.release();
        over.drop_all();
    }
}
