//! Self-test: the table as the core walks it is the table as somebody else walks it.
//!
//! A random user's table is built while this processor runs on it: pages of all three sizes,
//! tracked and untracked, with all sorts of rights and cache policies, some of them split,
//! protected, replaced or taken away later, some used by the processor. Then three descriptions
//! have to agree:
//!
//! 1. a map from addresses to pages, kept beside the table by this test;
//! 2. the core's own walk of the table, compared with the map here;
//! 3. the walk of the machine's monitor (`info tlb`), which shares no code with the core. The
//!    runner asks for it and compares it with the core's walk, of which we print every page. We
//!    wait until it has, so that nothing changes in between.
//!
//! With `sabotage=tables-changed` one entry is overwritten behind the core's back between 2 and 3,
//! in a way that depends on the seed. The runner has to notice, and name the address.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use weft_backend_baremetal::protocol::Line;
use weft_core::address::{CpuId, FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cpu::Cpu;
use weft_core::entry::{Child, ChildRef};
use weft_core::format::{CachePolicy, EntryFormat, PageFlags, Property, RawItem, X86_64};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::guard::Guard;
use weft_core::item::{Frame, MappedItem};
use weft_core::node::{Node, NodeRef};
use weft_core::range_lock::lock_covering;
use weft_core::sites::{ENTRY_RETRY, PUBLISH_ITEM};
use weft_core::sync::Word;
use weft_scenarios::tables::UserTable;
use weft_scenarios::world::{Machine, World};

use crate::memory::MetalMachine;
use crate::random::Random;
use crate::sabotage::Sabotage;
use crate::selftest::Kernel;
use crate::shootdown::{self, Flush};
use crate::{metal, serial, smp};

/// How many changes are tried.
const CHANGES: u64 = 20_000;
/// After how many changes this processor is quiescent.
const QUIESCENT_EVERY: u64 = 64;
/// The most huge pages that are split: each becomes 512 pages.
const SPLITS_MAX: u64 = 24;
/// Bits of physical addresses that pages are given. Nobody uses those that are not memory.
const PHYSICAL_BITS: u32 = 40;
/// What the entry that was changed behind the core's back is reported as.
const CHANGED_AT: &str = "entry changed at";

type Table = UserTable<MetalMachine>;
type Root = Node<Table>;
type CoreCpu = Cpu<MetalMachine>;

/// Pages by address.
type Pages = BTreeMap<u64, RawItem>;

/// The table under construction, and what it should be.
struct Builder {
    machine: MetalMachine,
    root: Root,
    own: CoreCpu,
    random: Random,
    expected: Pages,
    splits: u64,
    done: Counts,
}

/// What was done how often.
#[derive(Default)]
struct Counts {
    mapped: u64,
    detached: u64,
    subtrees: u64,
    protected: u64,
    used: u64,
}

/// Builds a table, has it compared, and takes it down.
pub(crate) fn everybody_sees_the_same_table(kernel: &Kernel) {
    let (machine, seed) = (kernel.machine, kernel.seed);
    let frames = machine.region().live();
    let boot = Cpu::online(&machine, CpuId::new(smp::online() as u32)).expect("nobody is online");
    let world = Machine::of_kernel(&machine, boot, kernel.space);
    let root = world.user_root();
    assert!(world.finish_set_up().is_none(), "the kernel runs on its only table");
    metal::play(CpuId::new(0));
    let mut own = Cpu::online(&machine, CpuId::new(0)).expect("nobody is online");
    own.activate(&root).expect("it is a root");
    let mut builder = Builder {
        machine,
        root,
        own,
        random: Random::new(seed, 0),
        expected: Pages::new(),
        splits: 0,
        done: Counts::default(),
    };
    for change in 0..CHANGES {
        builder.change();
        if change % QUIESCENT_EVERY == 0 {
            builder.own.quiescent();
        }
    }
    let pages = builder.walk();
    assert!(pages == builder.expected, "the core walks another table than the one that was built");
    report(&builder, &pages);
    let before = Sabotage::TablesChanged.is_chosen().then(|| builder.change_an_entry(seed));
    serial::line(&Line::<&str>::Ready {});
    serial::wait_for_input();
    if let Some((frame, index, bits)) = before {
        // SAFETY: as where it was changed.
        unsafe { machine.region().word(frame, index) }.store(bits, &PUBLISH_ITEM);
    }
    let Builder { root, own, .. } = builder;
    drop(root);
    drop(own);
    let left = machine.region().live();
    assert!(left == frames, "leak: {frames} frames were in use before, {left} after");
}

/// Prints every page, those in one line that follow each other in both spaces, and the counts.
fn report(builder: &Builder, pages: &Pages) {
    let mut line: Option<(u64, RawItem, u64)> = None;
    let print = |(vaddr, first, count): (u64, RawItem, u64)| {
        serial::line(&Line::<&str>::Pages {
            vaddr,
            frame: first.frame.as_u64(),
            level: u64::from(first.level.as_u8()),
            flags: u64::from(first.property.flags.bits()),
            cache: first.property.cache as u64,
            count,
        });
    };
    for (&vaddr, page) in pages {
        line = Some(match line {
            Some((start, first, count)) => {
                let bytes = count * FourLevels::entry_span(first.level);
                let next = RawItem { frame: first.frame.plus(bytes), ..first };
                if vaddr == start + bytes && *page == next {
                    (start, first, count + 1)
                } else {
                    print((start, first, count));
                    (vaddr, *page, 1)
                }
            }
            None => (vaddr, *page, 1),
        });
    }
    line.into_iter().for_each(print);
    let at_level = |level| pages.values().filter(|page| page.level == Level::new(level)).count();
    let Counts { mapped, detached, subtrees, protected, used } = builder.done;
    for (name, value) in [
        ("pages of 4 KiB", at_level(1) as u64),
        ("pages of 2 MiB", at_level(2) as u64),
        ("pages of 1 GiB", at_level(3) as u64),
        ("pages mapped", mapped),
        ("entries detached", detached),
        ("sub-trees detached", subtrees),
        ("pages protected", protected),
        ("huge pages split", builder.splits),
        ("pages used", used),
    ] {
        serial::line(&Line::Metric { name, value });
        assert!(value > 0, "the random table has none of these: {name}");
    }
}

impl Builder {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// An address of a page of `level`: in few nodes, so that changes meet each other, but huge
    /// pages mostly where no node is.
    fn address(&mut self, level: Level) -> Vaddr {
        let mut path = [0; 4];
        let crowded = [512, 6, 4, 3];
        for (depth, bound) in crowded.into_iter().enumerate().skip(usize::from(level.as_u8()) - 1) {
            path[depth] = self.below(bound) as usize;
        }
        if level > Level::LEAF && self.below(32) != 0 {
            path[usize::from(level.as_u8()) - 1] = self.below(512) as usize;
        }
        // The lower half of the root, from end to end.
        path[3] = [0, 101, 255][path[3]];
        FourLevels::address(&path)
    }

    fn property(&mut self) -> Property {
        let policies = [
            CachePolicy::WriteBack,
            CachePolicy::WriteThrough,
            CachePolicy::UncachedMinus,
            CachePolicy::Uncached,
            CachePolicy::WriteCombining,
            CachePolicy::WriteProtected,
        ];
        let mut flags = PageFlags::from_bits_truncate(self.below(256) as u8);
        flags.remove(PageFlags::TRACKED);
        Property { flags, cache: policies[self.below(6) as usize] }
    }

    /// One random change.
    fn change(&mut self) {
        let level = match self.below(64) {
            0 => Level::new(3),
            1..6 => Level::new(2),
            _ => Level::LEAF,
        };
        let vaddr = self.address(level);
        match self.below(16) {
            0..8 => self.map(vaddr, level),
            8..10 => self.detach(vaddr, level),
            10..13 => self.protect(vaddr, level),
            _ => self.use_page(vaddr),
        }
    }

    /// Calls `change` with the locked node of `level` for `vaddr`, after splitting whatever huge
    /// page is in the way, if any more may be split.
    fn with_node(
        &mut self,
        vaddr: Vaddr,
        level: Level,
        change: impl FnOnce(&mut Guard<'_, Table>, usize, &mut Pages),
    ) -> bool {
        let section = self.own.read_side();
        let node = lock_covering(self.root.borrow(&section), vaddr, level);
        let mut node = node.expect("there is memory enough");
        while node.level() > level {
            if self.splits == SPLITS_MAX {
                return false;
            }
            self.splits += 1;
            let above = node.level();
            let mut entry = node.entry(FourLevels::index(vaddr, above)).expect("in range");
            node = entry.split().expect("a huge page ended the way");
            let (below, span) = (node.level(), FourLevels::entry_span(node.level()));
            let start = vaddr.as_u64() & !(FourLevels::entry_span(above) - 1);
            let huge = self.expected.remove(&start).expect("the huge page is known");
            for index in 0..FourLevels::ENTRIES as u64 {
                let frame = huge.frame.plus(index * span);
                let part = RawItem { frame, level: below, ..huge };
                self.expected.insert(start + index * span, part);
            }
        }
        change(&mut node, FourLevels::index(vaddr, level), &mut self.expected);
        true
    }

    /// Maps a page, whatever was there.
    fn map(&mut self, vaddr: Vaddr, level: Level) {
        let mut property = self.property();
        let item = if level == Level::LEAF && self.below(4) == 0 {
            let frame = Frame::allocate(&self.machine).expect("there is memory enough");
            MappedItem::Tracked { frame, property }
        } else {
            let (span, random) = (FourLevels::entry_span(level), self.random.next());
            let frame = Paddr::new(random & ((1 << PHYSICAL_BITS) - 1) & !(span - 1));
            MappedItem::Untracked { frame, level, property }
        };
        let frame = match &item {
            MappedItem::Tracked { frame, .. } => {
                property.flags |= PageFlags::TRACKED;
                frame.paddr()
            }
            MappedItem::Untracked { frame, .. } => *frame,
        };
        let mut subtree = false;
        let mapped = self.with_node(vaddr, level, |node, index, expected| {
            let mut entry = node.entry(index).expect("in range");
            subtree = matches!(entry.child(), ChildRef::Node(_));
            entry.replace(Child::Item(item)).expect("a page fits here").retire();
            forget(expected, vaddr, level);
            expected.insert(vaddr.as_u64(), RawItem { frame, level, property });
        });
        self.done.mapped += u64::from(mapped);
        self.done.subtrees += u64::from(subtree);
    }

    /// Takes out whatever is there, a sub-tree perhaps.
    fn detach(&mut self, vaddr: Vaddr, level: Level) {
        let (mut some, mut subtree) = (false, false);
        self.with_node(vaddr, level, |node, index, expected| {
            let mut entry = node.entry(index).expect("in range");
            some = !matches!(entry.child(), ChildRef::Absent);
            subtree = matches!(entry.child(), ChildRef::Node(_));
            entry.detach().expect("the entry is managed").retire();
            forget(expected, vaddr, level);
        });
        self.done.detached += u64::from(some);
        self.done.subtrees += u64::from(subtree);
    }

    /// Gives the page that is there, if any, another property.
    fn protect(&mut self, vaddr: Vaddr, level: Level) {
        let mut property = self.property();
        let mut protected = false;
        self.with_node(vaddr, level, |node, index, expected| {
            let mut entry = node.entry(index).expect("in range");
            if let Ok(before) = entry.protect(|_| property) {
                let page = expected.get_mut(&vaddr.as_u64()).expect("the page is known");
                assert!(
                    before == page.property,
                    "{vaddr:?} had another property than it was given"
                );
                let tracked = before.flags & PageFlags::TRACKED;
                property.flags |= tracked;
                page.property = property;
                protected = true;
            }
        });
        if protected {
            shootdown::flush_running(Flush::Page(vaddr.as_u64()));
        }
        self.done.protected += u64::from(protected);
    }

    /// Reads or writes the next page that is memory of ours; hardware notes that. What is global
    /// is left alone: its translation would survive the user.
    fn use_page(&mut self, vaddr: Vaddr) {
        let write = self.below(2) == 0;
        let is_used = |page: &RawItem| {
            let flags = page.property.flags;
            flags.contains(PageFlags::TRACKED) && !flags.contains(PageFlags::GLOBAL)
        };
        let mut next = self.expected.range_mut(vaddr.as_u64()..);
        let Some((&vaddr, page)) = next.find(|(_, page)| is_used(page)) else { return };
        let (vaddr, flags) = (Vaddr::new(vaddr), &mut page.property.flags);
        if write {
            let written = self.machine.user_write(vaddr, 1);
            let may = flags.contains(PageFlags::WRITE);
            assert!(written == may, "{vaddr:?} was written: {written}, may be written: {may}");
            if may {
                flags.insert(PageFlags::ACCESSED | PageFlags::DIRTY);
            }
        } else {
            assert!(self.machine.user_read(vaddr).is_some(), "{vaddr:?} cannot be read");
            flags.insert(PageFlags::ACCESSED);
        }
        self.done.used += 1;
    }

    /// What the core sees.
    fn walk(&self) -> Pages {
        let section = self.own.read_side();
        let mut pages = Pages::new();
        collect(self.root.borrow(&section), 0, &mut pages);
        pages
    }

    /// Overwrites an entry of a leaf, and says where it is and what it was.
    fn change_an_entry(&mut self, seed: u64) -> (Paddr, usize, u64) {
        let is_small = |(&vaddr, page): (&u64, &RawItem)| {
            (page.level == Level::LEAF).then_some(Vaddr::new(vaddr))
        };
        let small: Vec<Vaddr> = self.expected.iter().filter_map(is_small).collect();
        loop {
            let vaddr = small[self.random.below(small.len() as u64) as usize];
            let section = self.own.read_side();
            let leaf = lock_covering(self.root.borrow(&section), vaddr, Level::LEAF);
            let leaf = leaf.expect("the leaf exists");
            let mut index = FourLevels::index(vaddr, Level::LEAF);
            let new = match seed % 4 {
                0 => leaf.read_raw(index) ^ FRAME_SIZE,
                1 => leaf.read_raw(index) ^ 1 << 1, // the right to write
                2 => 0,
                _ => {
                    let mut absent =
                        (0..FourLevels::ENTRIES).filter(|index| leaf.read_raw(*index) == 0);
                    // A leaf that came out of a split may have no room.
                    let Some(free) = absent.next() else { continue };
                    index = free;
                    let (frame, property) = (Paddr::new(0), Property::default());
                    X86_64::item(RawItem { frame, level: Level::LEAF, property })
                }
            };
            let start = vaddr.as_u64() & !(FourLevels::entry_span(Level::new(2)) - 1);
            let value = start + index as u64 * FRAME_SIZE;
            serial::line(&Line::Metric { name: CHANGED_AT, value });
            let frame = leaf.node().paddr();
            // SAFETY: not what the core expects, which is what is tested; the frame is a node, the
            // index one of its entries, and the entry is put back before anybody uses it.
            let word = unsafe { self.machine.region().word(frame, index) };
            let before = word.load(&ENTRY_RETRY);
            word.store(new, &PUBLISH_ITEM);
            return (frame, index, before);
        }
    }
}

/// Forgets every page in the range of an entry of `level`.
fn forget(expected: &mut Pages, vaddr: Vaddr, level: Level) {
    let start = vaddr.as_u64();
    let end = start + FourLevels::entry_span(level);
    while let Some((&page, _)) = expected.range(start..end).next() {
        expected.remove(&page);
    }
}

fn collect(node: NodeRef<'_, Table>, start: u64, pages: &mut Pages) {
    let entries = if node.level() == FourLevels::ROOT {
        FourLevels::lower_half()
    } else {
        0..FourLevels::ENTRIES
    };
    for index in entries {
        let vaddr = start + index as u64 * FourLevels::entry_span(node.level());
        match node.walk(index) {
            ChildRef::Node(child) => collect(child, vaddr, pages),
            ChildRef::Item(page) => {
                pages.insert(vaddr, *page);
            }
            ChildRef::Absent | ChildRef::Shared => {}
        }
    }
}
