//! Numbers of pages, and their addresses.
//!
//! Addresses are canonical: those of the upper half of the pages have their sign extended. A range
//! ends behind its last byte. So the end of the lower half is no canonical address, and behind the
//! last page comes address 0. Where one half ends and the other begins, both are taken for an end.

use core::ops::Range;

use weft_core::address::{FRAME_BITS, FRAME_SIZE, Vaddr};
use weft_core::geometry::Geometry;

/// How many bytes all addresses are.
fn all<G: Geometry>() -> u64 {
    G::node_span(G::ROOT)
}

/// The number of the page that a canonical address is in.
pub fn number<G: Geometry>(vaddr: Vaddr) -> u64 {
    (vaddr.as_u64() % all::<G>()) >> FRAME_BITS
}

/// The first address of a page.
pub fn address<G: Geometry>(page: u64) -> Vaddr {
    let offset = page << FRAME_BITS;
    let is_upper = offset >= all::<G>() / 2;
    Vaddr::new(if is_upper { offset.wrapping_sub(all::<G>()) } else { offset })
}

/// Where a range ends whose last page is `end - 1`.
pub fn end_address<G: Geometry>(end: u64) -> Vaddr {
    address::<G>(end - 1).plus(FRAME_SIZE)
}

/// The addresses of pages.
pub fn addresses<G: Geometry>(pages: &Range<u64>) -> Range<Vaddr> {
    let end = end_address::<G>(pages.end);
    if pages.is_empty() { end..end } else { address::<G>(pages.start)..end }
}

/// How many addresses come before this one, if it is canonical.
pub(super) fn place<G: Geometry>(vaddr: Vaddr) -> Option<u64> {
    G::is_canonical(vaddr).then_some(vaddr.as_u64() % all::<G>())
}

/// As [`place`], of the end of a range.
pub(super) fn end_place<G: Geometry>(end: Vaddr) -> Option<u64> {
    let last = place::<G>(Vaddr::new(end.as_u64().wrapping_sub(1)));
    last.map_or_else(|| place::<G>(end), |last| Some(last + 1))
}
