//! What Weft costs, beside what its work costs at least, and beside other page-table crates.
//!
//! A nanosecond means little on a machine that is shared. So everything that is compared runs in
//! one process, over the same kind of memory, in turn: a *row* is one piece of work, done by
//! several *workloads*, and in each *round* every workload of the row runs once, another one
//! first each time. A ratio is taken within a round; what is reported is the median of the
//! ratios, and how far they spread.
//!
//! * [`workload`]: what is done, and how it is verified; [`walk`]: by whom;
//! * [`memory`], [`raw`]: the *bounds*: the work by hand, with relaxed atomics, a lock where a
//!   table that several CPUs change needs one, and nothing else;
//! * [`weft`]: ours; the peers are in the benchmark itself, since only it links them;
//! * [`locks`], [`deferred`], [`parallel`]: work that is not an operation on pages;
//! * [`measure`], [`target`]: rounds, ratios, and what they should be;
//! * [`arguments`], [`report`], [`plot`]: what people type and see.
//!
//! *A row cannot measure nothing*: after each timed run, an independent walk over the entries
//! looks whether it did its work, and so does a look at what the run returned.

pub mod arguments;
pub mod deferred;
#[expect(unsafe_code, reason = "counts what the system's allocator is asked for")]
pub mod heap;
pub mod locks;
pub mod measure;
#[expect(unsafe_code, reason = "where an address becomes memory")]
pub mod memory;
pub mod parallel;
pub mod plot;
pub mod raw;
pub mod report;
pub mod target;
pub mod walk;
#[expect(unsafe_code, reason = "reads entries past the core")]
pub mod weft;
pub mod workload;
