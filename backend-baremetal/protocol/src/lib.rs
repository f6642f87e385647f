//! What the kernel says on its serial port: lines, the same on both ends. The kernel writes them,
//! `qemu-runner` reads them, and no text of theirs is written twice.
//!
//! A line that begins with `@` says what happened in a form that a program reads; every other
//! line is log, for people. After the `@` come the name of the line and its values, separated by
//! tabs. Texts escape what would end them. Nothing is allocated where a line is written, so that a
//! trap handler can write one.
//!
//! A run that went well says, in this order: [`Line::Boot`], [`Line::Announce`] with the number of
//! scenarios to come, for each of them [`Line::Start`], its findings and [`Line::Passed`], and at
//! the end [`Line::Done`] with the number of scenarios that passed. Then the machine exits with
//! [`EXIT_GOOD`]. Whoever reads demands all of it: a kernel that stops in between has failed.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use core::fmt::{self, Display, Write};

/// Where the kernel writes its exit code.
pub const EXIT_PORT: u16 = 0xf4;
/// What the kernel writes there if all went well. QEMU doubles it and adds 1.
pub const EXIT_CODE_GOOD: u32 = 0x10;
/// What the kernel writes there if something failed.
pub const EXIT_CODE_BAD: u32 = 0x11;
/// QEMU's exit status if all went well.
pub const EXIT_GOOD: i32 = exit_status(EXIT_CODE_GOOD);
/// QEMU's exit status if something failed.
pub const EXIT_BAD: i32 = exit_status(EXIT_CODE_BAD);

const fn exit_status(code: u32) -> i32 {
    (code << 1 | 1) as i32
}

/// How the message begins that the runner fails a run with where two walks differ; see
/// [`Line::Ready`].
pub const DISAGREEMENT: &str = "the machine's own walk disagrees";

/// Words of the kernel's command line, each `word=value` or a word alone.
pub mod argument {
    /// Say which scenarios there are, and stop.
    pub const LIST: &str = "list";
    /// Run this scenario.
    pub const SCENARIO: &str = "scenario";
    /// Run this test of the kernel itself.
    pub const SELF_TEST: &str = "self-test";
    /// Repeat it so many times.
    pub const REPEAT: &str = "repeat";
    /// The seed of delays, rotation and preemption.
    pub const SEED: &str = "seed";
    /// Break the world in this way.
    pub const SABOTAGE: &str = "sabotage";
}

/// Escapes what passes through.
struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            match letter {
                '\\' => self.0.write_str("\\\\")?,
                '\t' => self.0.write_str("\\t")?,
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                letter => self.0.write_char(letter)?,
            }
        }
        Ok(())
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next()? {
                '\\' => '\\',
                't' => '\t',
                'n' => '\n',
                'r' => '\r',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(plain)
}

macro_rules! value {
    (write u64 $value:ident $f:ident) => {
        write!($f, "{}", $value)?
    };
    (write T $value:ident $f:ident) => {
        write!(Escape($f), "{}", $value)?
    };
    (parse u64 $value:expr) => {
        $value.parse().ok()?
    };
    (parse T $value:expr) => {
        unescape($value)?
    };
}

macro_rules! lines {
    ($($(#[$about:meta])* $name:ident $word:literal {
        $($(#[$about_field:meta])* $field:ident: $kind:ident,)*
    })+) => {
        /// A line with a meaning. `T` is what its texts are.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Line<T> {
            $($(#[$about])* $name { $($(#[$about_field])* $field: $kind,)* },)+
        }

        impl<T: Display> Display for Line<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name { $($field,)* } => {
                        f.write_str(concat!("@", $word))?;
                        $(f.write_char('\t')?; value!(write $kind $field f);)*
                        Ok(())
                    })+
                }
            }
        }

        impl Line<String> {
            /// The meaning of a line, if it has one.
            pub fn parse(line: &str) -> Option<Self> {
                let mut values = line.strip_prefix('@')?.split('\t');
                let line = match values.next()? {
                    $($word => Self::$name { $($field: value!(parse $kind values.next()?),)* },)+
                    _ => return None,
                };
                values.next().is_none().then_some(line)
            }
        }
    };
}

lines! {
    /// The kernel runs, on its own page tables and all processors.
    Boot "boot" {
        /// How many processors there are.
        cpus: u64,
        /// How many frames the machine has.
        frames: u64,
    }
    /// There is a scenario of this name: the answer to `list`.
    Scenario "scenario" {
        /// The name of its file.
        name: T,
        /// Its title.
        title: T,
        /// How many roles it has.
        roles: u64,
    }
    /// In a world that is broken like this a scenario or self-test must fail: part of the answer to
    /// `list`.
    Twin "twin" {
        /// The scenario or self-test.
        name: T,
        /// How the world is broken, as [`argument::SABOTAGE`] takes it.
        sabotage: T,
        /// Parts of messages, separated by `|`: one of them is in the message it fails with.
        messages: T,
    }
    /// A caller's mistake that a scenario can be run with: part of the answer to `list`.
    Mistake "mistake" {
        /// The scenario.
        name: T,
        /// The mistake, as [`argument::SABOTAGE`] takes it.
        sabotage: T,
    }
    /// There is a self-test of this name: the answer to `list`.
    SelfTest "self-test" {
        /// Its name.
        name: T,
    }
    /// So many scenarios are going to be run.
    Announce "announce" {
        /// The number.
        count: u64,
    }
    /// A scenario begins.
    Start "start" {
        /// Its name.
        name: T,
        /// How often it will be repeated.
        repetitions: u64,
    }
    /// How often a scenario ended in some way.
    Outcome "outcome" {
        /// The outcome.
        name: T,
        /// Its grade.
        grade: T,
        /// How often.
        times: u64,
    }
    /// How often a situation was met.
    Situation "situation" {
        /// The situation.
        name: T,
        /// How often.
        times: u64,
    }
    /// A count or a size.
    Metric "metric" {
        /// What was counted.
        name: T,
        /// How much.
        value: u64,
    }
    /// Pages of a user's table, as the core walks it, that follow each other there and in memory.
    Pages "pages" {
        /// The address of the first.
        vaddr: u64,
        /// The physical address that it maps.
        frame: u64,
        /// The level of its entry, 1 for the smallest pages.
        level: u64,
        /// The bits of its flags, as the core has them.
        flags: u64,
        /// Its cache policy: the index into the page attribute table.
        cache: u64,
        /// How many there are.
        count: u64,
    }
    /// Every page was printed, and the machine runs on that table. It waits for a byte on the
    /// serial port: so long the runner compares the pages with the walk of the machine's monitor.
    Ready "ready" {}
    /// A scenario went well.
    Passed "passed" {
        /// Its name.
        name: T,
        /// How often it was repeated.
        repetitions: u64,
    }
    /// Something failed, and the machine stops.
    Panic "panic" {
        /// On which processor.
        cpu: u64,
        /// What.
        message: T,
        /// Where in the source.
        location: T,
    }
    /// The answer of a processor to the question where it is.
    Hang "hang" {
        /// Which processor.
        cpu: u64,
        /// The address of the instruction that it was about to run.
        rip: u64,
        /// Whether it could be interrupted: 0 or 1.
        interruptible: u64,
    }
    /// Everything was run.
    Done "done" {
        /// How many scenarios passed.
        passed: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let texts = ["", "plain", "tab\tnew line\nbackslash\\ return\r", "\\t"];
        for text in texts {
            let line = Line::Panic { cpu: 3, message: text, location: "core/src/node.rs:1" };
            let read = Line::parse(&line.to_string()).expect("the line is well formed");
            let Line::Panic { cpu, message, location } = read else { panic!("another line") };
            assert_eq!((cpu, message.as_str()), (3, text));
            assert_eq!(location, "core/src/node.rs:1");
        }
        let line = Line::<&str>::Boot { cpus: 4, frames: u64::MAX };
        assert_eq!(line.to_string(), "@boot\t4\t18446744073709551615");
    }

    #[test]
    fn what_is_not_a_line_has_no_meaning() {
        for line in
            ["", "boot", "@", "@nothing", "@boot", "@boot\t1", "@boot\t1\t2\t3", "@boot\ta\t1"]
        {
            assert_eq!(Line::parse(line), None, "{line:?}");
        }
        assert_eq!(Line::parse("@done\t1"), Some(Line::Done { passed: 1 }));
        assert_eq!(Line::parse("@self-test\tbad\\escape"), None);
    }

    #[test]
    fn exit_codes_are_those_of_the_device() {
        assert_eq!((EXIT_GOOD, EXIT_BAD), (33, 35));
    }
}
