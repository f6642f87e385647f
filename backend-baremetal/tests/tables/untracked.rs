//! Memory that may be mapped without being owned: the pages that are wholly in it, and no others.

use weft_core::address::{FRAME_SIZE, Level, Paddr};
use weft_core::error::Refusal;
use weft_core::format::{CachePolicy, PageFlags, Property};
use weft_core::geometry::Geometry;
use weft_core::item::UntrackedMemory;

use crate::support::{Machine, levels};

on_every_geometry!(
    a_page_says_what_was_asked_for,
    pages_that_are_not_wholly_in_the_memory_are_refused,
    pages_beyond_the_last_address_are_refused,
    levels_that_the_geometry_does_not_have_are_refused,
);

const PROPERTY: Property =
    Property { flags: PageFlags::WRITE.union(PageFlags::GLOBAL), cache: CachePolicy::Uncached };

/// The memory between two addresses.
fn memory<G: Geometry>(start: u64, end: u64) -> UntrackedMemory<Machine<G>> {
    // SAFETY: nothing of it is mapped here.
    unsafe { UntrackedMemory::new(Paddr::new(start)..Paddr::new(end)) }
}

fn a_page_says_what_was_asked_for<G: Geometry>() {
    for level in levels::<G>() {
        let span = G::entry_span(level);
        let memory = memory::<G>(span, 3 * span);
        for start in [span, 2 * span] {
            let frame = Paddr::new(start);
            let page = memory.page(frame, level, PROPERTY).expect("it is wholly there");
            assert_eq!((page.frame(), page.level(), page.property()), (frame, level, PROPERTY));
        }
    }
}

fn pages_that_are_not_wholly_in_the_memory_are_refused<G: Geometry>() {
    for level in levels::<G>() {
        let span = G::entry_span(level);
        let refused = |memory: &UntrackedMemory<Machine<G>>, start: u64| {
            let frame = Paddr::new(start);
            let error = memory.page(frame, level, PROPERTY).expect_err("a part is outside");
            assert_eq!(error, Refusal::OutOfRange { frame });
        };
        let exact = memory::<G>(span, 2 * span);
        for start in [0, span - FRAME_SIZE, span - 1, span + 1, span + FRAME_SIZE, 2 * span] {
            refused(&exact, start);
        }
        assert!(exact.page(Paddr::new(span), level, PROPERTY).is_ok());
        for (start, end) in [(span, 2 * span - 1), (span + 1, 2 * span), (span, span)] {
            refused(&memory::<G>(start, end), span);
        }
        // Every smaller page of it is there all the same.
        if let Some(below) = level.below() {
            let last = Paddr::new(2 * span - G::entry_span(below));
            assert!(exact.page(last, below, PROPERTY).is_ok());
        }
    }
}

fn pages_beyond_the_last_address_are_refused<G: Geometry>() {
    let all = memory::<G>(0, u64::MAX);
    for level in levels::<G>() {
        for bytes in [1, G::entry_span(level) - 1, G::entry_span(level)] {
            let frame = Paddr::new(u64::MAX - bytes + 1);
            let error = all.page(frame, level, PROPERTY).expect_err("it has no end");
            assert_eq!(error, Refusal::OutOfRange { frame });
        }
    }
}

fn levels_that_the_geometry_does_not_have_are_refused<G: Geometry>() {
    let all = memory::<G>(0, u64::MAX);
    for entry in (G::LEVELS + 1..=u8::MAX).map(Level::new) {
        let error = all.page(Paddr::new(0), entry, PROPERTY).expect_err("no such level");
        assert_eq!(error, Refusal::NoPagesHere { entry });
    }
}
