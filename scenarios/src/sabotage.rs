//! Ways to break the world at its seams: the only list, and the only spelling.
//!
//! A scenario names its twins with these, the commands take them after `--sabotage`, replay tokens
//! and documents hold them, and so does the kernel's command line. Some can be carried out by the
//! models alone, some by the machine alone; see [`Side`].

use alloc::borrow::ToOwned as _;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use weft_core::sites::{ALL, AnySite, Place};

/// Where the core's sources are, seen from the workspace.
pub const CORE: &str = "core/src/";

/// A way to break the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sabotage {
    /// An ordering is a step weaker.
    Weakened(Weakening),
    /// An update of an entry is a load and a store, so that hardware comes in between.
    TornUpdates,
    /// What is retired is freed at once, without a grace period.
    FreedAtOnce,
    /// Grace periods do not wait for this CPU.
    ForgottenCpu(u32),
    /// Translations are not flushed.
    NoShootdown,
    /// Translations are flushed when something is retired: after the range was unlocked.
    LateShootdown,
    /// Of what is to be flushed, all but the first page is forgotten.
    PartialShootdown,
    /// A CPU waits with interrupts masked for those that it has asked to flush.
    MaskedShootdown,
    /// This CPU is never asked to flush.
    ForgottenHolder(u32),
    /// What is cached under the tag of a root that is loaded is kept, whatever was asked for.
    TagsKept,
    /// What is retired is never freed.
    NeverFreed,
    /// An entry of a finished table is overwritten behind the core's back.
    TablesChanged,
    /// A node that a race leaves has a child that it does not count.
    LostCount,
    /// A node that a race leaves is locked.
    LockKept,
    /// A node that a race leaves leads to one that was taken out of it.
    StrayKept,
    /// A role is played as a caller once wrote it: the scenario's mistake of this name.
    Mistake(&'static str),
}

/// Which ordering is weaker, and where.
#[derive(Clone, Copy, Debug)]
pub struct Weakening {
    /// The site.
    pub site: AnySite,
    /// Which of its weaker orderings.
    pub step: usize,
    /// The line whose accesses are meant; all accesses of the site if there is none.
    pub line: Option<Place>,
}

impl PartialEq for Weakening {
    fn eq(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.site.row().index, it.step, it.line);
        key(self) == key(other)
    }
}

impl Eq for Weakening {}

/// Who carries a sabotage out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The model checkers: `just model-check`.
    Models,
    /// The kernel on a machine: `just qemu`.
    Machine,
}

/// Those that have a name and nothing else, the ones for both sides first.
const NAMED: [(Sabotage, &str); 12] = [
    (Sabotage::TornUpdates, "torn-updates"),
    (Sabotage::FreedAtOnce, "freed-at-once"),
    (Sabotage::NoShootdown, "no-shootdown"),
    (Sabotage::LateShootdown, "late-shootdown"),
    (Sabotage::PartialShootdown, "partial-shootdown"),
    (Sabotage::MaskedShootdown, "masked-shootdown"),
    (Sabotage::TagsKept, "tags-kept"),
    (Sabotage::NeverFreed, "never-freed"),
    (Sabotage::TablesChanged, "tables-changed"),
    (Sabotage::LostCount, "lost-count"),
    (Sabotage::LockKept, "lock-kept"),
    (Sabotage::StrayKept, "stray-kept"),
];

/// What a mistake's name follows.
const MISTAKE: &str = "mistake-";

/// A sabotage of the CPU with a number.
type Numbered = fn(u32) -> Sabotage;

/// Those that have a name and the number of a CPU.
const NUMBERED: [(Numbered, &str); 2] =
    [(Sabotage::ForgottenCpu, "forgotten-cpu-"), (Sabotage::ForgottenHolder, "forgotten-holder-")];

impl Sabotage {
    /// All names, with CPU 0 for those that have a number, and sites by their first step.
    pub fn names() -> Vec<String> {
        let named = NAMED.iter().map(|(_, name)| (*name).to_owned());
        let numbered = NUMBERED.iter().map(|(make, _)| make(0).to_string());
        let sites = ALL.iter().map(|site| site.row().name.to_owned());
        named.chain(numbered).chain(sites).collect()
    }

    /// The first way to weaken a site, everywhere.
    pub const fn weakened(site: AnySite) -> Self {
        Self::Weakened(Weakening { site, step: 0, line: None })
    }

    /// Whether this side can carry it out.
    pub const fn is_for(self, side: Side) -> bool {
        match self {
            // A kernel has its orderings compiled in.
            Self::Weakened(_)
            | Self::LateShootdown
            | Self::PartialShootdown
            | Self::MaskedShootdown
            | Self::TagsKept => matches!(side, Side::Models),
            Self::TornUpdates
            | Self::FreedAtOnce
            | Self::NeverFreed
            | Self::NoShootdown
            | Self::ForgottenHolder(_)
            | Self::ForgottenCpu(_)
            | Self::Mistake(_) => true,
            Self::TablesChanged | Self::LostCount | Self::LockKept | Self::StrayKept => {
                matches!(side, Side::Machine)
            }
        }
    }

    /// The same, once it is clear that this side can carry it out.
    ///
    /// # Errors
    ///
    /// One sentence that says which command can.
    pub fn on(self, side: Side) -> Result<Self, String> {
        if self.is_for(side) {
            return Ok(self);
        }
        let (able, command) = match side {
            Side::Models => ("the machine", "qemu"),
            Side::Machine => ("the models", "model-check"),
        };
        Err(format!("{self} can only break {able}: use `just {command} --sabotage {self}`"))
    }

    /// How many CPUs a scenario has at least that can be run in this world.
    pub const fn cpus_min(self) -> usize {
        match self {
            Self::ForgottenCpu(cpu) | Self::ForgottenHolder(cpu) => cpu as usize + 1,
            _ => 0,
        }
    }

    /// What to say where no scenario has as many CPUs, but at most `most`.
    pub fn too_few(self, most: usize) -> String {
        let (cpu, last) = (self.cpus_min().saturating_sub(1), most.saturating_sub(1));
        format!("no selected scenario has a CPU {cpu}: name one of 0 to {last}")
    }

    /// Its name, and for an ordering from what to what it changes.
    pub fn described(self) -> String {
        let Self::Weakened(weakening) = self else { return self.to_string() };
        format!("{self} {}", weakening.change())
    }
}

impl Weakening {
    /// From what to what the ordering changes.
    pub fn change(self) -> String {
        match self.site {
            AnySite::Access(site) => {
                format!("{:?}->{:?}", site.order, site.order.weaker()[self.step])
            }
            AnySite::Fence(site) => {
                format!("{:?}->{:?}", site.order, site.order.weaker()[self.step])
            }
        }
    }
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weakened(weakening) => weakening.fmt(f),
            Self::ForgottenCpu(cpu) => write!(f, "{}{cpu}", NUMBERED[0].1),
            Self::ForgottenHolder(cpu) => write!(f, "{}{cpu}", NUMBERED[1].1),
            Self::Mistake(name) => write!(f, "{MISTAKE}{name}"),
            _ => {
                let named = NAMED.iter().find(|(sabotage, _)| sabotage == self);
                let (_, name) = named.expect("all others have a name");
                f.write_str(name)
            }
        }
    }
}

impl fmt::Display for Weakening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.site.row().name)?;
        if self.step > 0 {
            write!(f, ".{}", self.step)?;
        }
        match self.line {
            Some(Place { file, line }) => write!(f, "@{file}:{line}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Sabotage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some((sabotage, _)) = NAMED.iter().find(|(_, known)| *known == name) {
            return Ok(*sabotage);
        }
        for (make, prefix) in NUMBERED {
            if let Some(cpu) = name.strip_prefix(prefix) {
                return cpu.parse().map(make).map_err(|_| unknown(name));
            }
        }
        if let Some(mistake) = name.strip_prefix(MISTAKE) {
            return match is_kebab(mistake) {
                // Kept for good, as the file of a line is.
                true => Ok(Self::Mistake(mistake.to_owned().leak())),
                false => Err(unknown(name)),
            };
        }
        let (site, line) = match name.split_once('@') {
            Some((site, line)) => (site, Some(place(line)?)),
            None => (name, None),
        };
        let (site, step) = site.split_once('.').unwrap_or((site, "0"));
        let step: usize = step.parse().map_err(|_| unknown(name))?;
        let site = ALL.iter().copied().find(|found| found.row().name == site);
        let site = site.ok_or_else(|| unknown(name))?;
        if step >= site.weakenings() {
            let (site, steps) = (site.row().name, site.weakenings());
            return Err(format!("site {site} can be weakened in {steps} ways, so no step {step}"));
        }
        Ok(Self::Weakened(Weakening { site, step, line }))
    }
}

/// Whether a name is made of words of lower-case letters and digits, joined by `-`.
pub const fn is_kebab(name: &str) -> bool {
    let name = name.as_bytes();
    let mut in_word = false;
    let mut index = 0;
    while index < name.len() {
        match name[index] {
            b'a'..=b'z' | b'0'..=b'9' => in_word = true,
            b'-' if in_word => in_word = false,
            _ => return false,
        }
        index += 1;
    }
    in_word
}

/// A line of the core, as `core/src/run.rs:170`. The file's name is kept for good: a process reads
/// a few of them.
fn place(text: &str) -> Result<Place, String> {
    let place = || {
        let (file, line) = text.split_once(':')?;
        let is_file = file.starts_with(CORE) && file.ends_with(".rs");
        let line = line.parse().ok().filter(|_| is_file)?;
        Some(Place { file: file.to_owned().leak(), line })
    };
    place().ok_or_else(|| format!("{text:?} is no line of the core, as {CORE}run.rs:100 is"))
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = NAMED.iter().map(|(_, name)| *name).collect();
    let numbered = NUMBERED.map(|(_, prefix)| format!("{prefix}<number>"));
    format!(
        "unknown sabotage {name:?}: use {}, {}, {MISTAKE}<name> for a mistake of a caller, or the \
         name of a site, with .<step> if it is not the first one, and with @<file>:<line> for one \
         line of the core",
        names.join(", "),
        numbered.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Sabotage> {
        let line = Some(Place { file: "core/src/run.rs", line: 170 });
        let weakenings = ALL.iter().flat_map(|&site| {
            let steps = (0..site.weakenings()).flat_map(move |step| [(step, None), (step, line)]);
            steps.map(move |(step, line)| Sabotage::Weakened(Weakening { site, step, line }))
        });
        let named = NAMED.iter().map(|(sabotage, _)| *sabotage);
        let numbered = NUMBERED.into_iter().flat_map(|(make, _)| [0, 1, 200].map(make));
        let mistakes = ["frees-first", "x", "sends-2-requests"].map(Sabotage::Mistake);
        weakenings.chain(named).chain(numbered).chain(mistakes).collect()
    }

    #[test]
    fn names_are_read_back() {
        for sabotage in all() {
            assert_eq!(sabotage.to_string().parse(), Ok(sabotage));
        }
        for name in ["WALK_ENTRY@core/src/run.rs:7", "forgotten-holder-0", "forgotten-cpu-1"] {
            let sabotage: Sabotage = name.parse().expect("it can be read");
            assert_eq!(sabotage.to_string(), name);
        }
    }

    #[test]
    fn names_are_words_of_command_lines() {
        for sabotage in all() {
            let name = sabotage.to_string();
            assert!(!name.contains(|c: char| c.is_whitespace() || c == '='), "{name}");
        }
    }

    #[test]
    fn unknown_names_are_refused() {
        let codes = [
            "",
            "x",
            "w0.0",
            "-",
            "WALK_ENTRY.",
            "FORGOTTEN-CPU-1",
            "forgotten-cpu-",
            "none",
            "mistake-",
            "mistake--x",
            "mistake-x-",
            "mistake-Frees-first",
            "mistake-frees first",
        ];
        for code in codes {
            let refused = code.parse::<Sabotage>().expect_err(code);
            assert!(refused.starts_with("unknown sabotage"), "{refused}");
        }
        for (code, part) in [
            ("WALK_ENTRY.9", "can be weakened in 1 ways, so no step 9"),
            ("LOCK_CONTENDED", "can be weakened in 0 ways"),
            ("WALK_ENTRY@", "is no line of the core"),
            ("WALK_ENTRY@run.rs:7", "is no line of the core"),
            ("WALK_ENTRY@core/src/run.rs", "is no line of the core"),
        ] {
            let refused = code.parse::<Sabotage>().expect_err(code);
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn the_other_side_is_named_where_this_one_cannot() {
        for sabotage in all() {
            let able = [Side::Models, Side::Machine].map(|side| sabotage.on(side));
            assert!(able.iter().any(Result::is_ok), "{sabotage}");
            for refused in able.into_iter().filter_map(Result::err) {
                assert!(refused.ends_with(&format!("--sabotage {sabotage}`")), "{refused}");
            }
        }
        let refused = Sabotage::LostCount.on(Side::Models).expect_err("models count themselves");
        assert!(refused.contains("the machine: use `just qemu"), "{refused}");
        let weakened = Sabotage::weakened(ALL[0]).on(Side::Machine);
        let refused = weakened.expect_err("orderings are compiled in");
        assert!(refused.contains("the models: use `just model-check"), "{refused}");
    }
}
