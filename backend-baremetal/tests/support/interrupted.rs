//! A format that lets something else happen in the middle of an operation.
//!
//! Threads meet in those few instructions once in a while only. A table's format is a parameter,
//! though, and is asked in the middle of every operation; so the format here is that of x86-64 with
//! an interruption: when it is asked a certain question, something else happens first.

use std::cell::RefCell;

use weft_core::address::{Level, Paddr};
use weft_core::format::{Decoded, EntryFormat, Fences, Property, RawItem, X86_64};

/// What the format is asked when the interruption comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    /// How an item is written: asked by a split, of every part.
    Item,
    /// Whether hardware may write what was read just now.
    MayWrite,
    /// What an entry leads to that was read just now.
    Decode,
}

struct Interruption {
    at: Question,
    body: Box<dyn FnOnce()>,
}

thread_local! {
    static INTERRUPTION: RefCell<Option<Interruption>> = const { RefCell::new(None) };
}

/// Lets `body` run when the format is asked this question the next time.
pub(crate) fn interrupt(at: Question, body: Box<dyn FnOnce()>) {
    INTERRUPTION.set(Some(Interruption { at, body }));
}

/// Checks that the interruption happened.
pub(crate) fn assert_interrupted() {
    assert!(INTERRUPTION.take().is_none(), "nothing interrupted the change");
}

fn asked(question: Question) {
    let interruption = INTERRUPTION.with_borrow_mut(|next| next.take_if(|it| it.at == question));
    if let Some(interruption) = interruption {
        (interruption.body)();
    }
}

/// The format of x86-64, with an interruption in the middle of an operation.
#[derive(Debug)]
pub(crate) struct Interrupted;

// SAFETY: everything is passed on to a format that keeps the promise.
unsafe impl EntryFormat for Interrupted {
    const HARDWARE_BITS: u64 = X86_64::HARDWARE_BITS;
    const LEAF_FRAME_BITS: u64 = X86_64::LEAF_FRAME_BITS;
    const FENCES: Fences = X86_64::FENCES;

    fn must_flush(old: Property, new: Property) -> bool {
        X86_64::must_flush(old, new)
    }

    fn frame(frame: Paddr) -> u64 {
        X86_64::frame(frame)
    }

    fn is_present(entry: u64) -> bool {
        X86_64::is_present(entry)
    }

    fn maps_pages_at(level: Level) -> bool {
        X86_64::maps_pages_at(level)
    }
    fn holds(frame: Paddr) -> bool {
        X86_64::holds(frame)
    }
    fn node(frame: Paddr) -> u64 {
        X86_64::node(frame)
    }
    fn item(item: RawItem) -> u64 {
        asked(Question::Item);
        X86_64::item(item)
    }
    fn decode(entry: u64, level: Level) -> Decoded {
        asked(Question::Decode);
        X86_64::decode(entry, level)
    }
    fn hardware_may_write(entry: u64) -> bool {
        asked(Question::MayWrite);
        X86_64::hardware_may_write(entry)
    }
}
