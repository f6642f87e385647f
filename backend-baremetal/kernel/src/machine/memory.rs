//! Memory: the heap, and what is left for frames.
//!
//! The largest usable range below 4 GiB that is clear of the image and of modules is ours: its
//! first bytes are the heap, all frames come from the rest. What lies below 1 MiB stays as it is:
//! boot information, firmware tables, the start of other processors.

use core::ops::Range;

use spin::mutex::SpinMutex;
use talc::{TalcLock, source::Manual};
use weft_core::address::{FRAME_SIZE, Paddr};

use super::boot::{BootInformation, IMAGE_BASE, at};

const LOW_MEMORY: u64 = 1 << 20;
const REACHED_BY_BOOT_TABLES: u64 = 1 << 32;
const HEAP_BYTES: u64 = 4 << 20;

#[global_allocator]
static HEAP: TalcLock<SpinMutex<()>, Manual> = TalcLock::new(Manual);

unsafe extern "C" {
    static image_end: u8;
}

/// Takes the memory, and says which part of it is for frames. Called once, on the boot tables.
pub(crate) fn init(boot: &BootInformation) -> Range<Paddr> {
    let ours = largest(boot);
    let (heap, frames) = (ours.start, ours.start + HEAP_BYTES);
    assert!(frames < ours.end, "the machine has too little memory for a heap");
    // SAFETY: the range is usable memory, mapped by the direct map, that nobody else uses: see
    // `largest`.
    let claimed = unsafe { HEAP.lock().claim(at(heap), HEAP_BYTES as usize) };
    claimed.expect("the heap is large enough to be managed");
    Paddr::new(frames)..Paddr::new(ours.end)
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
