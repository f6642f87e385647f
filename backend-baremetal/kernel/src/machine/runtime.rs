//! What compiled code expects from a C runtime, the panic handler, and the exit.
//!
//! The precompiled `core` and `alloc` refer to the memory functions, to `strlen` and to unwinding,
//! which never happens: the kernel's profile aborts. The memory functions are naked, because a
//! loop in Rust may be compiled into a call of the very function that it is in.

use core::arch::naked_asm;
use core::fmt::Write;
use core::panic::PanicInfo;

use weft_protocol::{EXIT_CODE_BAD, EXIT_CODE_GOOD, EXIT_PORT, Line};
use x86_64::instructions::{hlt, interrupts, port::Port};

use super::{cpu, serial};

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcpy(_to: *mut u8, _from: *const u8, _bytes: usize) -> *mut u8 {
    naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memmove(_to: *mut u8, _from: *const u8, _bytes: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "mov r8, rdi",
        "sub r8, rsi",
        "cmp r8, rdx",
        "jb 2f", // the target begins inside the source: copy backwards
        "rep movsb",
        "ret",
        "2: lea rdi, [rdi + rdx - 1]",
        "lea rsi, [rsi + rdx - 1]",
        "std",
        "rep movsb",
        "cld",
        "ret",
    )
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memset(_to: *mut u8, _byte: i32, _bytes: usize) -> *mut u8 {
    naked_asm!("mov r8, rdi", "mov eax, esi", "mov rcx, rdx", "rep stosb", "mov rax, r8", "ret")
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn memcmp(_left: *const u8, _right: *const u8, _bytes: usize) -> i32 {
    naked_asm!(
        "xor eax, eax",
        "mov rcx, rdx",
        "test rcx, rcx",
        "jz 2f",
        "repe cmpsb",
        "movzx eax, byte ptr [rdi - 1]",
        "movzx ecx, byte ptr [rsi - 1]",
        "sub eax, ecx",
        "2: ret",
    )
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn bcmp(_left: *const u8, _right: *const u8, _bytes: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn strlen(_text: *const u8) -> usize {
    naked_asm!(
        "xor eax, eax",
        "2: cmp byte ptr [rdi + rax], 0",
        "je 3f",
        "inc rax",
        "jmp 2b",
        "3: ret"
    )
}

/// Never called: there is nothing to unwind.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() -> ! {
    stop()
}

/// Never called: landing pads of precompiled code end in it.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    stop()
}

/// Does nothing more on this processor.
pub(crate) fn stop() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

/// How the machine exits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// All went well.
    Good,
    /// Something failed.
    Bad,
}

/// Ends the machine.
pub(crate) fn exit(exit: Exit) -> ! {
    let code = if exit == Exit::Good { EXIT_CODE_GOOD } else { EXIT_CODE_BAD };
    // SAFETY: the port is that of the exit device; on a machine without one nothing happens.
    unsafe { Port::<u32>::new(EXIT_PORT).write(code) };
    stop()
}

/// Text of bounded length: what does not fit is left out.
struct Brief<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Brief<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("(unreadable)")
    }
}

impl<const N: usize> Write for Brief<N> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for letter in text.chars() {
            let mut bytes = [0; 4];
            let bytes = letter.encode_utf8(&mut bytes).as_bytes();
            let room = self.bytes.get_mut(self.length..self.length + bytes.len());
            room.ok_or(core::fmt::Error)?.copy_from_slice(bytes);
            self.length += bytes.len();
        }
        Ok(())
    }
}

/// The path of a source file, from the folder of the workspace on. Scenario files are collected by
/// a way that leads up from the build's output; what follows the last step up is the path.
fn shortened(file: &str) -> &str {
    file.rsplit_once("../").map_or(file, |(_, path)| path)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    // The panic may come from inside a print, on this processor.
    serial::break_lock();
    let mut message = Brief::<1024>::new();
    let _cut_off = write!(message, "{}", info.message());
    let mut location = Brief::<256>::new();
    if let Some(place) = info.location() {
        let _cut_off = write!(location, "{}:{}", shortened(place.file()), place.line());
    }
    serial::line_amidst(&Line::Panic {
        cpu: cpu::id() as u64,
        message: message.text(),
        location: location.text(),
    });
    exit(Exit::Bad)
}
