//! The independent walk: what a table's entries say, read by code that is nobody's.
//!
//! It knows two entry formats by heart and shares nothing with the tables that it looks at. It
//! looks at every entry from the root on, so it also sees pages where none should be.

use std::ops::Range;

use crate::memory::ENTRIES;
use crate::workload::frame_of;

/// The address in an entry of either format: no frame here is beyond 48 bits.
pub const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Writable, in an entry of x86-64.
pub const WRITABLE: u64 = 1 << 1;
/// Accessed and dirty, in an entry of x86-64.
pub const USED: u64 = 1 << 5 | 1 << 6;
/// The same, where a page may not be written: dirty is then in a bit that hardware ignores, because
/// bit 6 would make it a page of a shadow stack.
const USED_READ_ONLY: u64 = 1 << 5 | 1 << 58;

/// How entries are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// x86-64: present 0, writable 1, accessed 5, dirty 6, page size 7, dirty and read-only 58.
    X86,
    /// AArch64, stage 1: valid 0, table or page 1, read-only 7.
    Aarch64,
}

/// A table, as it is in memory.
pub trait Tree {
    /// Where the root is.
    fn root(&self) -> u64;

    /// How entries are written.
    fn format(&self) -> Format {
        Format::X86
    }

    /// An entry of a node.
    fn entry(&self, node: u64, index: usize) -> u64;

    /// Sets bits of an entry.
    fn set(&self, node: u64, index: usize, bits: u64);
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Pages of 4 KiB in the range, each with the frame it should have.
    pub pages: u64,
    /// Those of them that can be written.
    pub writable: u64,
    /// Those of them that hardware has used and written.
    pub used: u64,
    /// Pages of 2 MiB in the range, each with the frame it should have.
    pub huge: u64,
    /// Pages with a frame that is not theirs.
    pub wrong: u64,
}

/// Looks at every page in the range.
pub fn walk(tree: &dyn Tree, range: &Range<u64>) -> Found {
    let format = tree.format();
    let mut found = Found::default();
    pages(tree, range, &mut |_, _, page| {
        if page.frame != frame_of(page.vaddr) {
            found.wrong += 1;
        } else if page.level == 2 {
            found.huge += 1;
        } else {
            let (is_writable, is_used) = match format {
                Format::X86 => (page.entry & WRITABLE != 0, is_used(page.entry)),
                Format::Aarch64 => (page.entry & 1 << 7 == 0, false),
            };
            found.pages += 1;
            found.writable += u64::from(is_writable);
            found.used += u64::from(is_used);
        }
    });
    found
}

/// Whether hardware has used and written a page, by its entry of x86-64. Tables may know nothing of
/// shadow stacks.
fn is_used(entry: u64) -> bool {
    let is_kept = entry & WRITABLE == 0 && entry & USED_READ_ONLY == USED_READ_ONLY;
    entry & USED == USED || is_kept
}

/// Uses and writes every page in the range, as hardware does: its bits are then set.
pub fn use_pages(tree: &dyn Tree, range: &Range<u64>) {
    pages(tree, range, &mut |node, index, _| tree.set(node, index, USED));
}

/// A page that was found.
struct Page {
    vaddr: u64,
    level: u32,
    frame: u64,
    entry: u64,
}

fn pages(tree: &dyn Tree, range: &Range<u64>, seen: &mut dyn FnMut(u64, usize, Page)) {
    node(tree, range, seen, (tree.root(), 4, 0));
}

fn node(
    tree: &dyn Tree,
    range: &Range<u64>,
    seen: &mut dyn FnMut(u64, usize, Page),
    (node_at, level, start): (u64, u32, u64),
) {
    let span = 1_u64 << (3 + 9 * level);
    for index in 0..ENTRIES {
        let vaddr = start + index as u64 * span;
        if vaddr >= range.end || vaddr + span <= range.start {
            continue;
        }
        let entry = tree.entry(node_at, index);
        if entry & 1 == 0 {
            continue;
        }
        let is_page = match tree.format() {
            Format::X86 => level == 1 || entry & 1 << 7 != 0,
            Format::Aarch64 => level == 1 || entry & 2 == 0,
        };
        if is_page {
            // Bit 12 of a huge page is no bit of its address.
            let frame = entry & ADDRESS & !(span - 1);
            seen(node_at, index, Page { vaddr, level, frame, entry });
        } else {
            node(tree, range, seen, (entry & ADDRESS, level - 1, vaddr));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::memory::Arena;
    use crate::workload::{START, Span};

    struct Single {
        arena: Arena,
        root: u64,
    }

    impl Tree for Single {
        fn root(&self) -> u64 {
            self.root
        }

        fn entry(&self, node: u64, index: usize) -> u64 {
            self.arena.word(node, index).load(Ordering::Relaxed)
        }

        fn set(&self, node: u64, index: usize, bits: u64) {
            self.arena.word(node, index).fetch_or(bits, Ordering::Relaxed);
        }
    }

    #[test]
    fn pages_are_found_where_they_are() {
        let arena = Arena::new(8).expect("the host has a few pages");
        let nodes: Vec<u64> = (0..4).map(|_| arena.allocate().expect("there are seven")).collect();
        let tree = Single { arena, root: nodes[0] };
        tree.set(nodes[0], 0, nodes[1] | 3);
        tree.set(nodes[1], 64, nodes[2] | 3);
        tree.set(nodes[2], 0, nodes[3] | 3);
        tree.set(nodes[2], 1, frame_of(START + (2 << 20)) | 0x83);
        tree.set(nodes[3], 5, frame_of(START + 5 * 4096) | 0x63);
        tree.set(nodes[3], 6, frame_of(START + 6 * 4096) | 1);
        tree.set(nodes[3], 7, frame_of(START) | 3);
        let range = Span::whole(1024).range();
        let expected = Found { pages: 2, writable: 1, used: 1, huge: 1, wrong: 1 };
        assert_eq!(walk(&tree, &range), expected);
        use_pages(&tree, &range);
        assert_eq!(walk(&tree, &range), Found { used: 2, ..expected });
        // One that was used, and is read-only since; and one that only says so.
        tree.set(nodes[3], 8, frame_of(START + 8 * 4096) | 1 << 58 | 0x21);
        tree.set(nodes[3], 9, frame_of(START + 9 * 4096) | 1 << 58 | 0x23);
        let more = Found { pages: 4, writable: 2, used: 3, ..expected };
        assert_eq!(walk(&tree, &range), more);
    }
}
