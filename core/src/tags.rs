//! Tags: hardware that keeps the translations of several address spaces apart.
//!
//! Such hardware (PCID on x86-64, ASID elsewhere) translates with what it has cached under the
//! current tag, and keeps the rest. So a CPU gives tags to the spaces that it has run on last, and
//! a space that still has its tag when the CPU comes back need not be flushed.
//!
//! *What is kept is checked on the way in.* A CPU that has switched away from a space is not among
//! its [holders](crate::space), and is asked for nothing. With each tag it remembers the
//! *generation* of the space up to which what it has cached is clean. It compares that with the
//! generation of the space when it comes back, as a lazy CPU does. If they differ, the tag is
//! flushed. Until then nothing uses it: neither does the CPU translate with it, nor does hardware
//! walk through the upper levels that it has cached under it, because walks begin with the current
//! tag (Intel SDM volume 3A, section 5.10.3.2). So a node that is freed meanwhile may stay in those
//! caches.
//!
//! *The generation that is remembered* is the one that the CPU has noted while it ran on the
//! space, saved where no handler can come between that and the load of the next root. It is not the
//! one that the space has by then: its last flushes may not have reached the CPU.
//!
//! *What no generation counts.* A request of no space, for tables that roots share and for bare
//! guards, may concern every tag. The CPU that serves it invalidates under its current tag, and
//! trusts no other one any more. A CPU that runs on no root may not be asked at all, so it forgets
//! which tags it has given.
//!
//! *A space that dies* leaves its tag behind. No other space is taken for it, because the
//! [numbers](SpaceId) of spaces do not repeat, although their frames do.
//!
//! *More spaces than tags.* The tag that was used longest ago is given away, and flushed. Each CPU
//! does that for itself, so no tag is the same on two CPUs, and none runs out for all.
//!
//! After Linux (`choose_new_asid` in `arch/x86/mm/tlb.c`), which compares the `tlb_gen` of a
//! process with that of one of six tags of the CPU.

use crate::space::{Noted, SpaceId};

/// The most tags that a CPU remembers.
pub const TAGS_MAX: usize = 6;

/// What a CPU has cached under a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Slot {
    /// Of which space; `None` if nothing of it is used again.
    space: Option<SpaceId>,
    /// The generation of the space up to which nothing stale is among it.
    clean: u64,
    /// The number of the load that used it last.
    used: u64,
}

/// The tags of a CPU.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    slots: [Slot; TAGS_MAX],
    loads: u64,
}

impl Tags {
    /// The CPU, whose interrupts are masked, is about to stop using the tag of the space that it
    /// has run on, if it has run on one.
    pub(crate) fn leave(&mut self, noted: &Noted) {
        for slot in &mut self.slots {
            if slot.space == noted.space {
                slot.clean = noted.clean;
            } else if noted.others_stale {
                *slot = Slot::default();
            }
        }
    }

    /// No tag is trusted any more.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// A tag for a space that has been flushed so often, and whether what is cached under it is the
    /// space's and clean.
    /// There are `count` tags.
    pub(crate) fn enter(&mut self, count: usize, space: SpaceId, generation: u64) -> (u32, bool) {
        self.loads += 1;
        let slots = self.slots[..count].iter_mut().enumerate();
        // That of the space, or else the one that was used longest ago, unused ones before all.
        let by_use = |(_, slot): &(usize, &mut Slot)| (slot.space != Some(space), slot.used);
        let (tag, slot) = slots.min_by_key(by_use).expect("there is a tag");
        let keeps = slot.space == Some(space) && slot.clean == generation;
        *slot = Slot { space: Some(space), clean: generation, used: self.loads };
        (tag as u32, keeps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(number: u64) -> SpaceId {
        SpaceId::new(number).expect("spaces are numbered from 1")
    }

    /// A CPU that runs on one space after the other.
    struct Runner {
        count: usize,
        tags: Tags,
        noted: Noted,
    }

    impl Runner {
        fn new(count: usize) -> Self {
            Self { count, tags: Tags::default(), noted: Noted::default() }
        }

        fn run(&mut self, number: u64, generation: u64) -> (u32, bool) {
            self.tags.leave(&self.noted);
            let space = space(number);
            self.noted = Noted { space: Some(space), clean: generation, others_stale: false };
            self.tags.enter(self.count, space, generation)
        }
    }

    #[test]
    fn a_space_that_was_not_flushed_meanwhile_is_kept() {
        let mut cpu = Runner::new(2);
        assert_eq!([cpu.run(1, 7), cpu.run(2, 7)], [(0, false), (1, false)]);
        assert_eq!(
            [cpu.run(1, 7), cpu.run(2, 7), cpu.run(1, 7)],
            [(0, true), (1, true), (0, true)]
        );
    }

    #[test]
    fn a_space_that_was_flushed_meanwhile_is_not_kept() {
        let mut cpu = Runner::new(2);
        cpu.run(1, 7);
        cpu.run(2, 7);
        assert_eq!(cpu.run(1, 8), (0, false));
        assert_eq!(cpu.run(2, 7), (1, true), "the other one was not");
        assert_eq!(cpu.run(1, 8), (0, true), "it has been flushed");
    }

    #[test]
    fn what_was_noted_last_is_remembered() {
        let mut cpu = Runner::new(2);
        cpu.run(1, 7);
        cpu.noted.clean = 9;
        cpu.run(2, 7);
        assert_eq!(cpu.run(1, 9), (0, true), "it has served the requests");
        cpu.run(2, 7);
        assert_eq!(cpu.run(1, 10), (0, false));
    }

    #[test]
    fn the_tag_that_was_used_longest_ago_is_given_away() {
        for count in 1..=TAGS_MAX {
            let (mut cpu, more) = (Runner::new(count), count as u64 + 1);
            for number in 1..more {
                assert_eq!(cpu.run(number, 0), (number as u32 - 1, false), "unused ones first");
            }
            for number in 1..more {
                assert_eq!(cpu.run(number, 0), (number as u32 - 1, count > 1 || more == 2));
            }
            assert_eq!(cpu.run(more, 0), (0, false), "that of the first space");
            assert_eq!(cpu.run(1, 0), (1 % count as u32, false), "that of the second one");
        }
    }

    #[test]
    fn a_request_of_no_space_leaves_the_current_tag() {
        let mut cpu = Runner::new(3);
        for number in 1..=3 {
            cpu.run(number, 0);
        }
        cpu.noted.others_stale = true;
        assert_eq!([cpu.run(1, 0), cpu.run(2, 0)], [(0, false), (1, false)]);
        assert_eq!(cpu.run(3, 0), (2, true), "it was flushed then");
    }

    #[test]
    fn no_tag_is_kept_after_all_were_forgotten() {
        let mut cpu = Runner::new(2);
        cpu.run(1, 0);
        cpu.run(2, 0);
        cpu.tags.forget();
        cpu.noted = Noted::default();
        assert_eq!([cpu.run(2, 0), cpu.run(1, 0)], [(0, false), (1, false)]);
    }
}
