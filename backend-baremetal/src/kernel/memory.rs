//! Memory: the direct map, the heap, and the machine that the core runs on.
//!
//! The largest usable range below 4 GiB that is clear of the image and of modules is ours: its
//! first bytes are the heap, the rest is the [`Region`] that all frames come from. What lies below
//! 1 MiB stays as it is: boot information, firmware tables, the start of other processors.

use core::ops::Range;

use spin::{Once, mutex::SpinMutex};
use talc::{TalcLock, source::Manual};
use weft_backend_baremetal::backend::{Machine, Parts};
use weft_backend_baremetal::frame::Region;
use weft_backend_baremetal::world::ScenarioTables;
use weft_core::address::{FRAME_SIZE, Paddr};
use weft_core::geometry::FourLevels;

use crate::boot::BootInformation;
use crate::metal::Metal;

/// The machine that the core runs on here.
pub(crate) type MetalMachine = Machine<FourLevels, ScenarioTables, Metal>;

/// Where physical address 0 is mapped. `boot.s` has the same number.
pub(crate) const DIRECT_MAP: u64 = 0xffff_c000_0000_0000;

/// Where the image is linked: this far above where it is loaded. `kernel.ld` has the same number.
pub(crate) const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

const LOW_MEMORY: u64 = 1 << 20;
const REACHED_BY_BOOT_TABLES: u64 = 1 << 32;
const HEAP_BYTES: u64 = 4 << 20;

#[global_allocator]
static HEAP: TalcLock<SpinMutex<()>, Manual> = TalcLock::new(Manual);

static PARTS: Once<Parts<FourLevels, ScenarioTables, Metal>> = Once::new();

unsafe extern "C" {
    static image_end: u8;
}

/// Where a physical address is in the direct map.
pub(crate) fn at(address: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((DIRECT_MAP + address) as usize)
}

/// Takes the memory. Called once, on the boot tables.
pub(crate) fn init(boot: &BootInformation) -> MetalMachine {
    let ours = largest(boot);
    let (heap, frames) = (ours.start, ours.start + HEAP_BYTES);
    assert!(frames < ours.end, "the machine has too little memory for a heap");
    // SAFETY: the range is usable memory, mapped by the direct map, that nobody else uses: see
    // `largest`.
    let claimed = unsafe { HEAP.lock().claim(at(heap), HEAP_BYTES as usize) };
    claimed.expect("the heap is large enough to be managed");
    // SAFETY: as above; the region begins where the heap ends.
    let region = unsafe { Region::new(at(0), Paddr::new(frames)..Paddr::new(ours.end)) };
    Machine::new(PARTS.call_once(|| Parts::new(region, Metal)))
}

/// The largest range of usable memory that nobody has a claim to.
fn largest(boot: &BootInformation) -> Range<u64> {
    let image = &raw const image_end as u64 - IMAGE_BASE;
    let mut best = 0..0;
    for usable in &boot.usable {
        let mut range = usable.start.max(LOW_MEMORY)..usable.end.min(REACHED_BY_BOOT_TABLES);
        if range.contains(&LOW_MEMORY) {
            range.start = image;
        }
        for module in boot.modules.iter().filter(|module| !module.is_empty()) {
            if range.contains(&module.start) {
                range.end = module.start;
            }
        }
        range = range.start.next_multiple_of(FRAME_SIZE)..range.end & !(FRAME_SIZE - 1);
        if range.end.saturating_sub(range.start) > best.end - best.start {
            best = range;
        }
    }
    best
}
