//! What a processor has to know of address spaces: the kernel's root, which addresses are the
//! kernel's, whether they are being changed, and how a root is loaded.
//!
//! The table itself is `space`, which is built on the processors that ask here.

use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;
use weft_core::address::{Paddr, Vaddr};
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Where the kernel's half begins. It ends where addresses end.
pub(crate) const HALF: u64 = 0xffff_8000_0000_0000;

/// The physical address of the kernel's root.
static KERNEL: Once<Paddr> = Once::new();
/// How many processors are changing the kernel's table.
static CHANGING: AtomicU64 = AtomicU64::new(0);

/// The kernel's table is being changed for as long as this lives.
#[derive(Debug)]
pub(crate) struct Change(());

impl Drop for Change {
    fn drop(&mut self) {
        CHANGING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Notes that the calling processor changes the kernel's table.
pub(crate) fn change() -> Change {
    CHANGING.fetch_add(1, Ordering::Relaxed);
    Change(())
}

/// Whether any processor may be changing the kernel's table; true if the calling one is.
pub(crate) fn is_changing() -> bool {
    CHANGING.load(Ordering::Relaxed) != 0
}

/// Whether an address is in the kernel's half.
pub(crate) fn is_kernel(vaddr: Vaddr) -> bool {
    vaddr.as_u64() >= HALF
}

/// Makes `root` the kernel's, and translates through it. Called once.
///
/// # Safety
///
/// The table maps the kernel, and lives for good.
pub(crate) unsafe fn begin(root: Paddr) {
    KERNEL.call_once(|| root);
    // SAFETY: by the caller's contract.
    unsafe { load(root) };
}

/// The physical address of the kernel's root.
pub(crate) fn kernel() -> Paddr {
    *KERNEL.get().expect("the kernel's address space was built")
}

/// Translates through `root` from now on.
///
/// # Safety
///
/// The table maps the kernel, and lives until another one is loaded on this processor.
pub(crate) unsafe fn load(root: Paddr) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root.as_u64()));
    // SAFETY: by the caller's contract.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}
