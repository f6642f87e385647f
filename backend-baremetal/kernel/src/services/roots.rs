//! What a processor has to know of address spaces: where the kernel's half begins, the kernel's
//! root, and how a root is loaded.
//!
//! *Tags.* Where processors have them (PCIDs), the kernel's root has one and each of those that the
//! core gives to users' roots another one. To load a root under its tag flushes what is cached
//! under it, or does not (Intel SDM, volume 3A, section 5.10.4.1). The kernel's half is global: it
//! is cached for all tags at once, but for its upper levels, and those are flushed with all tags.
//!
//! The table itself is `space`, which is built on the processors that ask here.

use core::sync::atomic::{AtomicBool, Ordering};

use spin::Once;
use weft_core::address::Paddr;
use weft_core::sync::TaggedRoot;
use x86_64::PhysAddr;
use x86_64::instructions::tlb::Pcid;
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags};
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
    unsafe { load(None) };
}

/// The physical address of the kernel's root.
pub(crate) fn kernel() -> Paddr {
    *KERNEL.get().expect("the kernel's address space was built")
}

/// The tag of what is cached of the kernel's root. Those of users follow it.
const KERNELS_TAG: u16 = 0;
/// The bit of CPUID's leaf 1 in ECX that says whether there are tags (PCIDs).
const HAS_TAGS: u32 = 1 << 17;

/// Whether processors tag translations.
static TAGGED: AtomicBool = AtomicBool::new(false);

/// Has the calling processor tag translations, if it can. Called once on each, on its first root.
pub(crate) fn set_up_tags() {
    if core::arch::x86_64::__cpuid(1).ecx & HAS_TAGS != 0 {
        // SAFETY: the processor has the feature, and the root was loaded under the kernel's tag.
        unsafe { Cr4::update(|flags| flags.insert(Cr4Flags::PCID)) };
        TAGGED.store(true, Ordering::Relaxed);
    }
}

/// Whether processors tag translations.
pub(crate) fn are_tagged() -> bool {
    TAGGED.load(Ordering::Relaxed)
}

/// Translates through `root` from now on, or through the kernel's, and says whether what is cached
/// of it was kept. Without tags everything is forgotten but what is global.
///
/// # Safety
///
/// The table maps the kernel, and lives until another one is loaded on this processor.
pub(crate) unsafe fn load(root: Option<TaggedRoot>) -> bool {
    let (address, tag, keeps) = match root {
        Some(TaggedRoot { root, tag, keeps }) => (root, KERNELS_TAG + 1 + tag as u16, keeps),
        None => (kernel(), KERNELS_TAG, false),
    };
    let frame = PhysFrame::containing_address(PhysAddr::new(address.as_u64()));
    if !are_tagged() {
        // SAFETY: by the caller's contract.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
        return false;
    }
    let tag = Pcid::new(tag).expect("there are 4096 tags");
    if keeps {
        // SAFETY: by the caller's contract; processors that tag translations have the bit.
        unsafe { Cr3::write_pcid_no_flush(frame, tag) };
    } else {
        // SAFETY: by the caller's contract.
        unsafe { Cr3::write_pcid(frame, tag) };
    }
    keeps
}

/// Forgets what is cached under the current tag. Translations of users are not global.
pub(crate) fn flush() {
    let (frame, tag) = Cr3::read_raw();
    // SAFETY: it is the root that is loaded.
    unsafe { Cr3::write_raw(frame, tag) };
}
