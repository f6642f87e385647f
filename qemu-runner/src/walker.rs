//! The same table, walked by somebody else: the core's pages beside those of QEMU's monitor.
//!
//! The monitor's `info tlb` walks the tables that the first processor runs on and prints a line for
//! every page (QEMU, target/i386/monitor.c, `print_pte`):
//!
//! ```text
//! 0000000000201000: 0000000000a57000 X---A---W
//! ```
//!
//! address, physical address, and nine letters or dashes: not executed (`X`), global (`G`), huge
//! (`P`), dirty (`D`), accessed (`A`), the second and first bit of the cache policy (`C`, `T`),
//! user (`U`), writable (`W`). *Not shown, hence not compared:* the third bit of the cache policy,
//! and whether a huge page has 2 MiB or 1 GiB, other than by the lines that are there or not.
//!
//! Compared is the lower half, where the user lives.

use std::collections::BTreeMap;
use std::fmt;

use weft_core::address::Level;
use weft_core::format::PageFlags;
use weft_core::geometry::{FourLevels, Geometry as _};

use crate::protocol::{DISAGREEMENT, Line};

/// The monitor's command.
pub(crate) const COMMAND: &str = "info tlb";
/// The first address that is not a user's.
const USER_END: u64 = 1 << 47;
/// How many differences are told.
const TOLD_MAX: usize = 4;
/// What the count of pages is called among the metrics of a run.
pub const AGREED: &str = "pages agreed";

/// A page, as the monitor can tell it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Page {
    frame: u64,
    letters: String,
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} {}", self.frame, self.letters)
    }
}

type Pages = BTreeMap<u64, Page>;

/// How the two walks compare.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// They are the same, of so many pages.
    Agreed(u64),
    /// They differ: one sentence, with addresses.
    Differ(String),
    /// They could not be compared: one sentence.
    Impossible(String),
}

/// Compares the pages that the kernel has printed with what the monitor has.
pub fn compare(lines: &[Line<String>], monitor: Result<&str, &str>) -> Comparison {
    let both = monitor
        .map_err(str::to_owned)
        .and_then(|text| Ok((core_pages(lines)?, monitor_pages(text)?)));
    let (core, monitor) = match both {
        Ok(both) => both,
        Err(sentence) => return Comparison::Impossible(sentence),
    };
    let mut differences = Vec::new();
    for (vaddr, page) in &core {
        match monitor.get(vaddr) {
            Some(other) if other == page => {}
            Some(other) => differences.push((*vaddr, format!("{other}, not {page}"))),
            None => differences.push((*vaddr, format!("nothing, not {page}"))),
        }
    }
    for (vaddr, page) in monitor.iter().filter(|(vaddr, _)| !core.contains_key(vaddr)) {
        differences.push((*vaddr, format!("{page}, not nothing")));
    }
    if differences.is_empty() {
        return Comparison::Agreed(core.len() as u64);
    }
    differences.sort();
    let told = differences.iter().take(TOLD_MAX);
    let told: Vec<String> = told.map(|(vaddr, what)| format!("{vaddr:#x}: {what}")).collect();
    Comparison::Differ(format!(
        "{DISAGREEMENT} with the core's at {} of {} pages; at {}",
        differences.len(),
        core.len().max(monitor.len()),
        told.join("; at ")
    ))
}

/// The core's pages, one by one.
fn core_pages(lines: &[Line<String>]) -> Result<Pages, String> {
    let mut pages = Pages::new();
    for line in lines {
        let Line::Pages { vaddr, frame, level, flags, cache, count } = line else { continue };
        if !(1..=3).contains(level) {
            return Err(format!("the kernel prints a page of level {level}"));
        }
        let span = FourLevels::entry_span(Level::new(*level as u8));
        let letters = letters(PageFlags::from_bits_truncate(*flags as u16), *cache, *level > 1);
        for index in 0..*count {
            let page = Page { frame: frame + index * span, letters: letters.clone() };
            if pages.insert(vaddr + index * span, page).is_some() {
                return Err(format!("the kernel prints page {index} at {vaddr:#x} twice"));
            }
        }
    }
    if pages.is_empty() { Err("the kernel prints no page".to_owned()) } else { Ok(pages) }
}

fn letters(flags: PageFlags, cache: u64, huge: bool) -> String {
    let all = [
        ('X', !flags.contains(PageFlags::EXECUTE)),
        ('G', flags.contains(PageFlags::GLOBAL)),
        ('P', huge),
        // Of a page that may not be written the core keeps it where no processor looks: hardware
        // takes the two together for a shadow stack.
        ('D', flags.contains(PageFlags::DIRTY | PageFlags::WRITE)),
        ('A', flags.contains(PageFlags::ACCESSED)),
        ('C', cache & 2 != 0),
        ('T', cache & 1 != 0),
        ('U', flags.contains(PageFlags::USER)),
        ('W', flags.contains(PageFlags::WRITE)),
    ];
    all.into_iter().map(|(letter, is_set)| if is_set { letter } else { '-' }).collect()
}

/// The monitor's pages of the lower half.
fn monitor_pages(text: &str) -> Result<Pages, String> {
    let mut pages = Pages::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (vaddr, page) =
            monitor_page(line).ok_or_else(|| format!("the monitor prints {line:?}"))?;
        if vaddr < USER_END && pages.insert(vaddr, page).is_some() {
            return Err(format!("the monitor prints {vaddr:#x} twice"));
        }
    }
    Ok(pages)
}

fn monitor_page(line: &str) -> Option<(u64, Page)> {
    let (vaddr, rest) = line.split_once(':')?;
    let mut words = rest.split_whitespace();
    let frame = u64::from_str_radix(words.next()?, 16).ok()?;
    let letters = words.next().filter(|letters| letters.len() == 9)?.to_owned();
    let vaddr = u64::from_str_radix(vaddr.trim(), 16).ok()?;
    words.next().is_none().then_some((vaddr, Page { frame, letters }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two small pages that follow each other, read-only and executed; a huge one.
    const CORE: [&str; 2] = ["@pages\t8192\t4096\t1\t18\t4\t2", "@pages\t2097152\t0\t2\t33\t3\t1"];
    const MONITOR: &str = "0000000000002000: 0000000000001000 ----A----\r\n\
                           0000000000003000: 0000000000002000 ----A----\r\n\
                           0000000000200000: 0000000000000000 X-PD-CT-W\r\n\
                           ffffc00000000000: 0000000000000000 XGPDA---W\r\n";

    fn compared(monitor: &str) -> Comparison {
        let lines = CORE.map(|line| Line::parse(line).expect("a line"));
        compare(&lines, Ok(monitor))
    }

    #[test]
    fn the_same_pages_agree() {
        assert_eq!(compared(MONITOR), Comparison::Agreed(3));
    }

    #[test]
    fn whatever_differs_is_told_with_its_address() {
        let lines: Vec<&str> = MONITOR.split_inclusive('\n').collect();
        let extra = "0000000000005000: 0000000000001000 ---------\r\n";
        let without = |index: usize| {
            lines.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, line)| *line).collect()
        };
        let cases: [(String, &str); 5] = [
            (
                MONITOR.replace(": 0000000000002000", ": 0000000000004000"),
                "at 0x3000: 0x4000 ----A",
            ),
            (MONITOR.replace("X-PD-CT-W", "X-PD-CT--"), "at 0x200000: 0x0 X-PD-CT--, not 0x0 X"),
            (without(2), "at 0x200000: nothing, not 0x0 X-PD-CT-W"),
            (without(0), "at 0x2000: nothing"),
            (format!("{MONITOR}{extra}"), "at 0x5000: 0x1000 ---------, not nothing"),
        ];
        for (monitor, told) in cases {
            let Comparison::Differ(sentence) = compared(&monitor) else { panic!("{monitor}") };
            assert!(sentence.starts_with(DISAGREEMENT) && sentence.contains(told), "{sentence}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_agreement() {
        for monitor in ["PG disabled\r\n", "2000: 1000 ----", "x: 1000 ----A----"] {
            assert!(matches!(compared(monitor), Comparison::Impossible(_)), "{monitor}");
        }
        assert!(matches!(compare(&[], Ok("")), Comparison::Impossible(_)));
        assert!(matches!(compare(&[], Err("no answer")), Comparison::Impossible(_)));
    }
}
