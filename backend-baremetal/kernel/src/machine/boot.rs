//! What the boot loader leaves: the first instructions, the direct map, and what there is.
//!
//! The boot information is that of the Xen PVH protocol (xen/include/public/arch-x86/hvm/
//! start_info.h): memory map, command line, modules, and where the ACPI tables begin. The list of
//! processors is in the ACPI table called MADT (ACPI specification 6.5, section 5.2.12).

use core::arch::global_asm;
use core::ffi::{CStr, c_char};
use core::ops::Range;

global_asm!(include_str!("boot.s"), options(att_syntax, raw));

/// Where physical address 0 is mapped. `boot.s` has the same number.
pub(crate) const DIRECT_MAP: u64 = 0xffff_c000_0000_0000;

/// Where the image is linked: this far above where it is loaded. `kernel.ld` has the same number.
pub(crate) const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;

/// The first number of the boot information.
const START_INFO_MAGIC: u32 = 0x336e_c578;
/// The kind of memory that may be used.
const USABLE: u32 = 1;
/// How many ranges of each sort are looked at.
const RANGES_MAX: usize = 16;

#[derive(Clone, Copy)]
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    command_line: u64,
    acpi: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct MemoryMapEntry {
    address: u64,
    bytes: u64,
    kind: u32,
    reserved: u32,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Module {
    address: u64,
    bytes: u64,
    command_line: u64,
    reserved: u64,
}

/// What the boot loader told us.
#[derive(Clone, Debug)]
pub(crate) struct BootInformation {
    /// Usable memory.
    pub(crate) usable: [Range<u64>; RANGES_MAX],
    /// What must not be overwritten although it is usable.
    pub(crate) modules: [Range<u64>; RANGES_MAX],
    /// The command line.
    pub(crate) command_line: &'static str,
    acpi: u64,
}

/// Where a physical address is in the direct map.
pub(crate) fn at(address: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut((DIRECT_MAP + address) as usize)
}

/// A value at a physical address.
///
/// # Safety
///
/// There is a `T` at the address, below 4 GiB, that the boot loader wrote and nobody changes.
unsafe fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the direct map covers 4 GiB, of the boot tables and of the final ones as far as
    // there is memory; what is there, by the caller's contract.
    unsafe { at(address).cast::<T>().read_unaligned() }
}

impl BootInformation {
    /// Reads the boot information at a physical address.
    ///
    /// # Safety
    ///
    /// A PVH boot loader wrote it there, and neither it nor what it leads to was overwritten.
    pub(crate) unsafe fn read(address: u64) -> Self {
        // SAFETY: by the caller's contract.
        let start: StartInfo = unsafe { read(address) };
        assert!(start.magic == START_INFO_MAGIC, "the boot loader speaks another protocol");
        assert!(start.version >= 1, "the boot loader gives no memory map");
        let (mut usable, mut modules) =
            ([const { 0..0 }; RANGES_MAX], [const { 0..0 }; RANGES_MAX]);
        let mut free = usable.iter_mut();
        for index in 0..u64::from(start.memory_map_entries) {
            let address = start.memory_map + index * size_of::<MemoryMapEntry>() as u64;
            // SAFETY: the boot information counts the entries.
            let entry: MemoryMapEntry = unsafe { read(address) };
            if entry.kind == USABLE
                && entry.bytes > 0
                && let Some(range) = free.next()
            {
                *range = entry.address..entry.address + entry.bytes;
            }
        }
        assert!(start.modules as usize <= RANGES_MAX, "too many modules to keep clear of");
        for (index, range) in modules.iter_mut().take(start.modules as usize).enumerate() {
            let address = start.module_list + (index * size_of::<Module>()) as u64;
            // SAFETY: the boot information counts the modules.
            let module: Module = unsafe { read(address) };
            *range = module.address..module.address + module.bytes;
        }
        let command_line = if start.command_line == 0 {
            ""
        } else {
            // SAFETY: the boot loader put a C string there, below 1 MiB, where nothing is given
            // out.
            let text = unsafe { CStr::from_ptr(at(start.command_line).cast::<c_char>()) };
            text.to_str().expect("the command line is text")
        };
        Self { usable, modules, command_line, acpi: start.acpi }
    }

    /// Calls `found` with the identifier of every enabled processor.
    ///
    /// # Safety
    ///
    /// The ACPI tables are as the firmware left them.
    pub(crate) unsafe fn for_each_processor(&self, mut found: impl FnMut(u32)) {
        // SAFETY: by the caller's contract the tables below are there; see `table`.
        let madt = unsafe { self.table(*b"APIC") }.expect("the firmware lists the processors");
        // SAFETY: every table has its length at 4.
        let end = madt + u64::from(unsafe { read::<u32>(madt + 4) });
        let mut entry = madt + 44;
        while entry < end {
            // SAFETY: entries of the table begin with kind and length.
            let [kind, bytes] = unsafe { read::<[u8; 2]>(entry) };
            if kind == 0 {
                // SAFETY: entries of this kind have an identifier at 3 and flags at 4.
                let [id, flags] = unsafe { read::<[u8; 2]>(entry + 3) };
                if flags & 1 != 0 {
                    found(u32::from(id));
                }
            }
            assert!(bytes > 0, "the list of processors has an entry without length");
            entry += u64::from(bytes);
        }
    }

    /// Where the ACPI table with this signature is.
    ///
    /// # Safety
    ///
    /// The ACPI tables are as the firmware left them.
    unsafe fn table(&self, signature: [u8; 4]) -> Option<u64> {
        // SAFETY: the root pointer has its revision at 15.
        let revision = unsafe { read::<u8>(self.acpi + 15) };
        // SAFETY: the address of the RSDT is at 16.
        let short = u64::from(unsafe { read::<u32>(self.acpi + 16) });
        let (root, bytes) = if revision >= 2 {
            // SAFETY: from revision 2 on, the address of the XSDT is at 24.
            (unsafe { read::<u64>(self.acpi + 24) }, 8)
        } else {
            (short, 4)
        };
        // SAFETY: every table has its length at 4.
        let end = root + u64::from(unsafe { read::<u32>(root + 4) });
        (root + 36..end).step_by(bytes).find_map(|pointer| {
            let table = if bytes == 8 {
                // SAFETY: the XSDT holds 64-bit pointers to tables.
                unsafe { read::<u64>(pointer) }
            } else {
                // SAFETY: the RSDT holds 32-bit pointers to tables.
                u64::from(unsafe { read::<u32>(pointer) })
            };
            // SAFETY: every table begins with its signature.
            (unsafe { read::<[u8; 4]>(table) } == signature).then_some(table)
        })
    }
}
