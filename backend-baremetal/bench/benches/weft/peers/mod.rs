//! The peers: other crates' page tables, doing the same work in the same kind of memory.
//!
//! None of them locks, counts or defers, so they do less; none flushes here, as nobody does. Their
//! updates lose what hardware sets meanwhile.

#[expect(unsafe_code, reason = "the peer's allocation trait")]
mod aarch64;
mod multiarch;
#[expect(unsafe_code, reason = "the peer's allocation trait, its mapping, and its root")]
mod offset;

pub(crate) use aarch64::PerRange;
pub(crate) use multiarch::Multiarch;
pub(crate) use offset::Offset;

use weft_bench::workload::Span;

/// A page by itself.
fn page(vaddr: u64) -> Span {
    Span { start: vaddr, pages: 1, chunk: 1 }
}
