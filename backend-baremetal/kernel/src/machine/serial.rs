//! The serial port: what is printed comes out as whole lines, whoever prints.
//!
//! The lock is taken with interrupts off, since a trap handler may print as well. What is inside
//! it cannot fault, and allocates nothing. Only a non-maskable interrupt or a panic can come in
//! between: both break the lock.

use core::fmt::{self, Write};

use spin::mutex::SpinMutex;
use weft_protocol::Line;
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
/// Bit of the line status register: the transmitter takes a byte.
const READY: u8 = 1 << 5;
/// Bit of the line status register: a byte was received.
const RECEIVED: u8 = 1;
/// How often a broken lock was tried before.
const TRIES_BEFORE_BREAKING: u32 = 100_000;

static LOCK: SpinMutex<()> = SpinMutex::new(());

/// Sets the port up: 115200 baud, 8 bits, no parity, one stop bit, FIFO on, no interrupts.
pub(crate) fn init() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 0xc7), (4, 3)] {
        // SAFETY: these are registers of the serial port, which nobody else uses.
        unsafe { Port::<u8>::new(COM1 + register).write(value) };
    }
}

/// Waits until somebody has written a byte to the port.
pub(crate) fn wait_for_input() {
    // SAFETY: reading the status register has no effect.
    while unsafe { Port::<u8>::new(COM1 + 5).read() } & RECEIVED == 0 {
        core::hint::spin_loop();
    }
    // SAFETY: reading the byte takes it, and it is for the caller.
    let _byte = unsafe { Port::<u8>::new(COM1).read() };
}

struct Transmitter;

impl Write for Transmitter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: reading the status register has no effect.
            while unsafe { Port::<u8>::new(COM1 + 5).read() } & READY == 0 {
                core::hint::spin_loop();
            }
            // SAFETY: the transmitter is ready, by the loop above.
            unsafe { Port::<u8>::new(COM1).write(byte) };
        }
        Ok(())
    }
}

/// Prints what is given, in one piece.
pub(crate) fn print(text: fmt::Arguments<'_>) {
    interrupts::without_interrupts(|| {
        let _lock = LOCK.lock();
        let _cannot_fail = Transmitter.write_fmt(text);
    });
}

/// Prints a line with a meaning.
pub(crate) fn line<T: fmt::Display>(line: &Line<T>) {
    print(format_args!("{line}\n"));
}

/// Prints a line with a meaning, after [`break_lock`]: whoever had the lock may have been in the
/// middle of a line.
pub(crate) fn line_amidst<T: fmt::Display>(line: &Line<T>) {
    print(format_args!("\n{line}\n"));
}

/// Makes the lock free, also if whoever holds it never gives it back.
pub(crate) fn break_lock() {
    for _ in 0..TRIES_BEFORE_BREAKING {
        if LOCK.try_lock().is_some() {
            return;
        }
        core::hint::spin_loop();
    }
    // SAFETY: the holder is stuck or is interrupted by the caller, which is going to end the
    // machine. In the worst case two lines mix.
    unsafe { LOCK.force_unlock() };
}

/// Takes the lock and keeps it, for the test that a hang with it is still reported.
pub(crate) fn lock_for_good() {
    interrupts::disable();
    let _kept = core::mem::ManuallyDrop::new(LOCK.lock());
}
