//! What frames, places and values are called in a counterexample.
//!
//! A frame is called by what it was allocated for: N for nodes, S for the words of address spaces,
//! F for memory that pages map. One that was never allocated is mapped memory, too.

use std::collections::BTreeMap;

use weft_core::address::Level;
use weft_core::format::{Decoded, EntryFormat as _, PageFlags, X86_64};
use weft_core::sync::FrameUse;

use crate::engine::Operation;
use crate::ghost::{Label, Record, Step};
use crate::memory::POISON;

/// What tells an entry that leads somewhere.
const PRESENT: u64 = 1;

/// Which frame is used for what.
pub(super) struct Names {
    uses: BTreeMap<u64, FrameUse>,
}

impl Names {
    /// Learns the uses from records and, where a CPU has not run again, from what it touched.
    pub(super) fn new(
        records: &[Record],
        labels: &BTreeMap<u32, Label>,
        operations: &[Operation],
    ) -> Self {
        // A frame of the model is a node unless something says otherwise.
        let frames = labels.values().filter_map(|label| label.frame);
        let mut uses: BTreeMap<u64, FrameUse> =
            frames.map(|frame| (frame, FrameUse::Node)).collect();
        let touched = operations.iter().filter_map(|operation| labels.get(&operation.word?));
        for label in touched.filter(|label| label.name == "contents") {
            uses.extend(label.frame.map(|frame| (frame, FrameUse::Data)));
        }
        for record in records {
            if let Step::Allocate(frame, purpose) = record.step {
                uses.insert(frame.frame_number(), purpose);
            }
        }
        Self { uses }
    }

    pub(super) fn is_node(&self, frame: u64) -> bool {
        self.uses.get(&frame) == Some(&FrameUse::Node)
    }

    fn is_space(&self, frame: Option<u64>) -> bool {
        frame.and_then(|frame| self.uses.get(&frame)) == Some(&FrameUse::Space)
    }

    pub(super) fn frame(&self, number: u64) -> String {
        let letter = match self.uses.get(&number) {
            Some(FrameUse::Node) => 'N',
            Some(FrameUse::Space) => 'S',
            Some(FrameUse::Data) | None => 'F',
        };
        format!("{letter}{number}")
    }

    /// A message in which frames are called as everywhere: what says it calls all of them N.
    pub(super) fn in_message(&self, message: &str) -> String {
        let (mut text, mut told) = (String::new(), 0);
        for (at, end, frame) in mentioned(message) {
            text += &message[told..at];
            text += &self.frame(frame);
            told = end;
        }
        text + &message[told..]
    }

    pub(super) fn place(&self, label: Label) -> String {
        match (label.frame, label.index, label.name) {
            (Some(frame), Some(0), _) if self.is_space(label.frame) => {
                format!("{}.generation", self.frame(frame))
            }
            (Some(frame), Some(_), _) if self.is_space(label.frame) => {
                format!("{}.holders", self.frame(frame))
            }
            (Some(frame), Some(index), _) => format!("{}[{index}]", self.frame(frame)),
            (Some(frame), None, "lock") => self.frame(frame),
            (Some(frame), None, name) => format!("{}.{name}", self.frame(frame)),
            (None, _, name) => name.to_owned(),
        }
    }

    pub(super) fn is_entry(&self, label: Label) -> bool {
        label.name == "entry" && !self.is_space(label.frame)
    }

    /// The frame that a value of this place leads to.
    pub(super) fn target(&self, label: Label, value: u64) -> Option<u64> {
        let leads = self.is_entry(label) && value & PRESENT != 0;
        leads.then_some((value & X86_64::LEAF_FRAME_BITS) >> 12)
    }

    pub(super) fn value(&self, label: Label, value: u64) -> String {
        let Some(frame) = self.target(label, value) else {
            return match (self.is_entry(label), value) {
                (true, 0) => "absent".to_owned(),
                (true, POISON) => "poison".to_owned(),
                (true, value) => format!("not present, {value:#x}"),
                (false, value) => value.to_string(),
            };
        };
        let name = self.frame(frame);
        let rights =
            if self.is_node(frame) { String::new() } else { format!(" {}", rights(value)) };
        format!("{name}{rights}{}", noted(value))
    }
}

/// Where a message mentions frames, and which.
fn mentioned(message: &str) -> impl Iterator<Item = (usize, usize, u64)> {
    message.match_indices('N').filter_map(|(at, _)| {
        let digits = message[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
        let is_in_a_word = message[..at].ends_with(char::is_alphanumeric);
        let end = at + 1 + digits;
        let frame = message[at + 1..end].parse().ok().filter(|_| !is_in_a_word)?;
        Some((at, end, frame))
    })
}

/// The frames that a message mentions.
pub(super) fn frames_in(message: &str) -> Vec<u64> {
    mentioned(message).map(|(_, _, frame)| frame).collect()
}

/// The rights of a page, as in `rwxu`; a dash stands for each that is missing.
fn rights(entry: u64) -> String {
    let flags = flags(entry);
    // Whatever an entry maps can be read.
    let mut text = String::from("r");
    for (flag, letter) in
        [(PageFlags::WRITE, 'w'), (PageFlags::EXECUTE, 'x'), (PageFlags::USER, 'u')]
    {
        text.push(if flags.contains(flag) { letter } else { '-' });
    }
    text
}

/// What hardware has noted.
fn noted(entry: u64) -> String {
    let flags = flags(entry);
    let bits = [(PageFlags::ACCESSED, "+A"), (PageFlags::DIRTY, "+D")];
    bits.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, text)| *text).collect()
}

/// The flags of a present entry. What tells a huge page is a matter of its cache policy here.
fn flags(entry: u64) -> PageFlags {
    match X86_64::decode(entry, Level::LEAF) {
        Decoded::Item(item) => item.property.flags,
        _ => PageFlags::empty(),
    }
}
