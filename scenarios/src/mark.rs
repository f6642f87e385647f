//! Points in a run, and which of them are before which.
//!
//! The CPUs of a race have no common clock. What they have depends on the world:
//!
//! * where the checker computes happens-before, a mark says how much of every CPU's doings is known
//!   at the point. One point is before another if everything up to the first *happens before*
//!   everything after the second; that is a property of the execution, and not of the order in
//!   which a checker happens to run the CPUs;
//! * on real processors a mark is a number drawn from a shared counter: the order of time. To draw
//!   it is a locked instruction, so what a store buffer shows between two steps is not seen there;
//! * where neither can be had, marks of different CPUs are unordered, and what only their order
//!   would show is not found.
//!
//! The first kind is the weaker order: two points of one execution may be in the order of time
//! without any edge between them. What happens before is in every case also before in time.

/// The most CPUs that marks know of.
pub const CPUS_MAX: usize = 4;

/// A point in a run: after what its CPU has done, and before what it does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark(Stamp);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stamp {
    Unordered,
    Time(u64),
    Known { cpu: usize, done: u32, known: [u32; CPUS_MAX] },
}

impl Mark {
    /// A point of which nothing is known.
    pub const UNORDERED: Self = Self(Stamp::Unordered);

    /// For backends with a common clock: the point at `time`. No two points have the same time.
    pub const fn at(time: u64) -> Self {
        Self(Stamp::Time(time))
    }

    /// For backends that compute happens-before: the point at which `cpu` has done its first `done`
    /// events, and at which the first `known(other)` events of every `other` are known to have
    /// happened.
    ///
    /// # Panics
    ///
    /// If there are more CPUs than marks know of.
    pub fn knowing(cpu: usize, done: u32, known: impl Fn(usize) -> u32) -> Self {
        assert!(cpu < CPUS_MAX, "marks know of {CPUS_MAX} CPUs, and this is CPU {cpu}");
        Self(Stamp::Known { cpu, done, known: core::array::from_fn(known) })
    }

    /// Whether everything that was done up to this point is before everything done after `later`.
    pub fn is_before(&self, later: &Self) -> bool {
        match (self.0, later.0) {
            (Stamp::Time(earlier), Stamp::Time(later)) => earlier < later,
            // A CPU that has done nothing yet is not known to have got there.
            (Stamp::Known { cpu, done, .. }, Stamp::Known { known, .. }) => {
                known[cpu] >= done.max(1)
            }
            _ => false,
        }
    }
}
