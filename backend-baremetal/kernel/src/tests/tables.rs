//! Self-test: the table as the core walks it is the table as somebody else walks it.
//!
//! A random user's table is built with cursors while this processor runs on it; see `builder`. Then
//! three descriptions have to agree:
//!
//! 1. what the specification makes of the same changes, a map from pages to mappings;
//! 2. what the core's cursors say of the whole half, those that lock and those that do not,
//!    compared with the map here;
//! 3. the walk of the machine's monitor (`info tlb`), which shares no code with the core. The
//!    runner asks for it and compares it with the core's walk, of which we print every page. We
//!    wait until it has, so that nothing changes in between.
//!
//! With `sabotage=tables-changed` one entry is overwritten behind the core's back between 2 and 3,
//! in a way that depends on the seed. The runner has to notice, and name the address.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use weft_core::address::{CpuId, FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::find::lock_covering;
use weft_core::format::{EntryFormat, Property, RawItem, X86_64};
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::sites::{ENTRY_RETRY, PUBLISH_ITEM};
use weft_core::sync::Word;
use weft_protocol::Line;
use weft_scenarios::random::Random;
use weft_scenarios::sabotage::Sabotage;
use weft_scenarios::world::Machine;

use super::builder::{Builder, Counts, Pages, address};
use super::kernel::Kernel;
use crate::machine::{cpu, serial};
use crate::services::metal;
use crate::services::sabotage::is_chosen;

/// How many changes are tried.
const CHANGES: u64 = 20_000;
/// After how many changes this processor is quiescent.
const QUIESCENT_EVERY: u64 = 64;
/// What the entry that was changed behind the core's back is reported as.
const CHANGED_AT: &str = "entry changed at";

/// Builds a table, has it compared, and takes it down.
pub(crate) fn everybody_sees_the_same_table(kernel: &Kernel) {
    let (machine, seed) = (kernel.machine, kernel.seed);
    let frames = machine.region().live();
    let boot = metal::online(&machine, cpu::online());
    let world = Machine::of_kernel(&machine, boot, kernel.space);
    let space = world.user_space();
    assert!(world.finish_set_up().is_none(), "the kernel runs on its only table");
    metal::play(CpuId::new(0));
    let mut own = metal::online(&machine, 0);
    own.activate(&space).expect("it is a root");
    let mut builder = Builder {
        machine,
        space,
        own,
        random: Random::stream(seed, 0),
        expected: Pages::new(BTreeMap::new()),
        done: Counts::default(),
    };
    for change in 0..CHANGES {
        builder.change();
        if change % QUIESCENT_EVERY == 0 {
            builder.own.quiescent();
        }
    }
    builder.look_at_everything();
    report(&builder.expected, &builder.done);
    let before = is_chosen(Sabotage::TablesChanged).then(|| change_an_entry(&mut builder, seed));
    serial::line(&Line::<&str>::Ready {});
    serial::wait_for_input();
    if let Some((frame, index, bits)) = before {
        // SAFETY: as where it was changed.
        unsafe { machine.region().word(frame, index) }.store(bits, &PUBLISH_ITEM);
    }
    let Builder { space, own, .. } = builder;
    drop(space);
    drop(own);
    metal::rest();
    let left = machine.region().live();
    assert!(left == frames, "leak: {frames} frames were in use before, {left} after");
}

/// Prints every page, those in one line that follow each other in both spaces, and the counts.
fn report(pages: &Pages, done: &Counts) {
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
    for (&page, item) in pages.mappings() {
        let vaddr = address(page).as_u64();
        line = Some(match line {
            Some((start, first, count)) => {
                let bytes = count * FourLevels::entry_span(first.level);
                let next = RawItem { frame: first.frame.plus(bytes), ..first };
                if vaddr == start + bytes && *item == next {
                    (start, first, count + 1)
                } else {
                    print((start, first, count));
                    (vaddr, *item, 1)
                }
            }
            None => (vaddr, *item, 1),
        });
    }
    line.into_iter().for_each(print);
    let items = || pages.mappings().values();
    let at_level = |level| items().filter(|item| item.level == Level::new(level)).count();
    for (name, value) in [
        ("pages of 4 KiB", at_level(1) as u64),
        ("pages of 2 MiB", at_level(2) as u64),
        ("pages of 1 GiB", at_level(3) as u64),
        ("pages mapped", done.mapped),
        ("pages refused", done.refused),
        ("frames unmapped", done.unmapped),
        ("sub-trees unmapped", done.subtrees),
        ("pages protected", done.protected),
        ("huge pages split", done.split),
        ("huge pages merged", done.merged),
        ("pages used", done.used),
    ] {
        serial::line(&Line::Metric { name, value });
        assert!(value > 0, "the random table has none of these: {name}");
    }
}

/// Overwrites an entry of a leaf, and says where it is and what it was.
fn change_an_entry(builder: &mut Builder, seed: u64) -> (Paddr, usize, u64) {
    let is_small =
        |(&page, item): (&u64, &RawItem)| (item.level == Level::LEAF).then_some(address(page));
    let small: Vec<Vaddr> = builder.expected.mappings().iter().filter_map(is_small).collect();
    loop {
        let vaddr = small[builder.random.below(small.len() as u64) as usize];
        let section = builder.own.read_side();
        let leaf = lock_covering(builder.space.borrow(&section), vaddr, Level::LEAF);
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
        let word = unsafe { builder.machine.region().word(frame, index) };
        let before = word.load(&ENTRY_RETRY);
        word.store(new, &PUBLISH_ITEM);
        return (frame, index, before);
    }
}
