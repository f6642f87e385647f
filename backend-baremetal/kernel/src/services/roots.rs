//! What a processor has to know of address spaces: where the kernel's half begins, the kernel's
//! root, and how a root is loaded.
//!
//! The table itself is `space`, which is built on the processors that ask here.

use spin::Once;
use weft_core::address::Paddr;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;

/// Where the kernel's half begins. It ends where addresses end.
pub(crate) const HALF: u64 = 0xffff_8000_0000_0000;

/// The physical address of the kernel's root.
static KERNEL: Once<Paddr> = Once::new();

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
