//! The kernel's address space, built with the core.
//!
//! It is an ordinary table of the core, a [`KernelTable`]: it manages the upper half of the root.
//!
//! ```text
//! 0xffffc00000000000  the direct map: memory, 2 MiB pages, written, not executed
//! 0xfffffe0000000000  windows: pages that come and go
//! 0xfffffe8000000000  device windows: not cached
//! 0xffffff0000000000  stacks: each above a page that is not mapped
//! 0xffffffff80100000  the image: code is executed, constants are read, data is written
//! ```
//!
//! The rest of the upper half is free, and the lower half belongs to users. Once built, the root
//! is made [`Permanent`]: user roots share its entries. Memory and image are mapped untracked,
//! since they are not counted; a stack's frames are owned by the table.
//!
//! All of it is made and changed by cursors, through [`change`]. They flush what they unmap or
//! tighten by themselves: on every processor, global translations too, since the table is no
//! space's.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use weft_core::address::{FRAME_SIZE, Level, Paddr, Vaddr};
use weft_core::cpu::ReadSide;
use weft_core::cursor::Cursor;
use weft_core::format::{CachePolicy, PageFlags, Property};
use weft_core::frame::Frame;
use weft_core::geometry::{FourLevels, Geometry};
use weft_core::item::MappedItem;
use weft_core::node::{Node, NodeRef};
use weft_core::permanent::Permanent;
use weft_scenarios::tables::KernelTable;
use weft_scenarios::world::World;

use super::metal::{self, MetalMachine};
use super::roots::{self, HALF};
use crate::machine::boot::{BootInformation, DIRECT_MAP, IMAGE_BASE};
use crate::machine::cpu::CPUS_MAX;

/// The kernel's table.
pub(crate) type Space = Permanent<KernelTable<MetalMachine>>;
pub(crate) type Root<'g> = NodeRef<'g, KernelTable<MetalMachine>>;
/// A part of the kernel's half, locked.
pub(crate) type KernelCursor<'g> = Cursor<'g, KernelTable<MetalMachine>>;

/// Where pages are mapped that go again.
pub(crate) const WINDOWS: u64 = 0xffff_fe00_0000_0000;
const DEVICES: u64 = 0xffff_fe80_0000_0000;
const STACKS: u64 = 0xffff_ff00_0000_0000;
const HUGE: Level = Level::new(2);
/// What the kernel may read, and every user's table has.
pub(crate) const READ: PageFlags = PageFlags::GLOBAL;

/// The first address for the next stack.
static NEXT_STACK_AREA: AtomicU64 = AtomicU64::new(STACKS);

unsafe extern "C" {
    static image_text_start: u8;
    static image_text_end: u8;
    static image_rodata_end: u8;
    static image_data_end: u8;
    static image_stack_start: u8;
    static image_end: u8;
}

/// Pages that follow each other, here and in memory.
struct Pages {
    vaddr: u64,
    frame: u64,
    bytes: u64,
    level: Level,
    property: Property,
}

/// The kernel's root, to change what it maps.
pub(crate) fn root_of<'g>(space: &'g Space, section: &'g ReadSide<'_, MetalMachine>) -> Root<'g> {
    // SAFETY: what the kernel stands on, its image, its stacks and the direct map, is mapped once
    // and stays. Windows come and go; devices and stacks are added where nothing was.
    unsafe { space.borrow(section) }
}

/// Changes a part of the kernel's table, which is locked meanwhile. What is unmapped or tightened
/// has gone from the caches of all processors when this returns.
pub(crate) fn change<T>(
    root: Root<'_>,
    range: Range<u64>,
    change: impl FnOnce(&mut KernelCursor<'_>) -> T,
) -> T {
    let cursor = Cursor::lock(root, Vaddr::new(range.start)..Vaddr::new(range.end));
    let mut cursor = cursor.expect("the kernel has memory for its tables");
    change(&mut cursor)
}

/// Maps pages of memory that is not counted.
fn map(root: Root<'_>, pages: &Pages) {
    let bytes = pages.bytes.next_multiple_of(FourLevels::entry_span(pages.level));
    let memory = root.backend().untracked_memory();
    change(root, pages.vaddr..pages.vaddr + bytes, |cursor| {
        let Range { start, end } = cursor.range();
        let page = |vaddr: Vaddr| {
            let frame = Paddr::new(pages.frame + vaddr.as_u64() - start.as_u64());
            let page = memory.page(frame, pages.level, pages.property);
            MappedItem::Untracked(page.expect("it is in memory"))
        };
        if pages.level == Level::LEAF {
            cursor.map_pages(end, page).expect("pages of the kernel are mapped once");
        }
        while cursor.vaddr() < end {
            cursor.map(page(cursor.vaddr())).expect("pages of the kernel are mapped once");
        }
    });
}

/// Builds the kernel's address space and runs on it. Called once, on the boot tables.
pub(crate) fn init(machine: MetalMachine, boot: &BootInformation) -> Space {
    let cpu = metal::online(&machine, CPUS_MAX);
    let section = cpu.read_side();
    let root = Node::allocate(&machine, FourLevels::ROOT).expect("the kernel has memory");
    let end = boot.usable.iter().map(|range| range.end).max().unwrap_or(0);
    map(
        root.borrow(&section),
        &Pages {
            vaddr: DIRECT_MAP,
            frame: 0,
            bytes: end,
            level: HUGE,
            property: Property::new(READ | PageFlags::WRITE),
        },
    );
    map_image(root.borrow(&section));
    let frame = root.paddr();
    let space = Permanent::new(root, &section).expect("the kernel has memory for its tables");
    // SAFETY: the table maps the image, where we run and have our stack, and the direct map, and it
    // is permanent.
    unsafe { roots::begin(frame) };
    // SAFETY: (1) we run on it; (2) `root_of` is the only way to change it, and says how it is
    // used.
    let space = unsafe { space.carry() };
    drop(section);
    space
}

/// Maps the image: each part with no more rights than it needs.
fn map_image(root: Root<'_>) {
    let symbol = |symbol: *const u8| symbol as u64;
    let (text, text_end) = (&raw const image_text_start, &raw const image_text_end);
    let (rodata_end, data_end) = (&raw const image_rodata_end, &raw const image_data_end);
    let (stack, end) = (&raw const image_stack_start, &raw const image_end);
    let parts = [
        (text, text_end, READ | PageFlags::EXECUTE),
        (text_end, rodata_end, READ),
        (rodata_end, data_end, READ | PageFlags::WRITE),
        // The page between data and stack is not mapped.
        (stack, end, READ | PageFlags::WRITE),
    ];
    for (from, to, flags) in parts {
        let pages = Pages {
            vaddr: symbol(from),
            frame: symbol(from) - IMAGE_BASE,
            bytes: symbol(to) - symbol(from),
            level: Level::LEAF,
            property: Property::new(flags),
        };
        map(root, &pages);
    }
}

/// Maps a page of device registers, not cached, and says where.
pub(crate) fn map_device(space: &Space, machine: MetalMachine, frame: u64) -> *mut u8 {
    let cpu = metal::online(&machine, CPUS_MAX);
    let section = cpu.read_side();
    let property = Property { flags: READ | PageFlags::WRITE, cache: CachePolicy::Uncached };
    let vaddr = DEVICES + frame % (1 << 32);
    let pages = Pages { vaddr, frame, bytes: FRAME_SIZE, level: Level::LEAF, property };
    map(root_of(space, &section), &pages);
    core::ptr::with_exposed_provenance_mut(vaddr as usize)
}

/// Maps a stack of `pages` pages above a page that stays absent, and gives its upper end.
pub(crate) fn stack(space: &Space, machine: MetalMachine, pages: u64) -> u64 {
    let cpu = metal::online(&machine, CPUS_MAX);
    let section = cpu.read_side();
    let bytes = (pages + 1) * FRAME_SIZE;
    let guard_page = NEXT_STACK_AREA.fetch_add(bytes, Ordering::Relaxed);
    let first_page = guard_page + FRAME_SIZE;
    change(root_of(space, &section), first_page..guard_page + bytes, |cursor| {
        let page = |_| MappedItem::Tracked {
            frame: Frame::allocate(&machine).expect("the kernel has memory for its stacks"),
            property: Property::new(READ | PageFlags::WRITE),
        };
        cursor.map_pages(cursor.range().end, page).expect("no two stacks share a page");
    });
    guard_page + bytes
}

/// How many pages of the kernel can be both written and executed.
pub(crate) fn count_wrong(space: &Space, machine: MetalMachine) -> u64 {
    let cpu = metal::online(&machine, CPUS_MAX);
    let section = cpu.read_side();
    let both = PageFlags::WRITE | PageFlags::EXECUTE;
    let end = Vaddr::new(0);
    let half = space.look(&section, Vaddr::new(HALF)..end);
    let mut wrong = 0;
    let visited = half.expect("the kernel manages its half").visit(end, |_, page| {
        wrong += u64::from(page.property.flags.contains(both));
    });
    visited.expect("the half ends where it ends");
    wrong
}

/// The addresses of the image's code.
pub(crate) fn code() -> Range<u64> {
    &raw const image_text_start as u64..&raw const image_text_end as u64
}

/// An address of the image's constants.
pub(crate) fn constants() -> u64 {
    code().end
}

/// An address in the page below the boot stack.
pub(crate) fn guard_page() -> u64 {
    &raw const image_data_end as u64
}
