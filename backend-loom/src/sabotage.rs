//! The world, broken at its seams on purpose.
//!
//! A detector that cannot fire is a defect, so every check also runs against worlds in which one
//! ordering site is a step weaker, grace periods are skipped, or one CPU is forgotten. The core
//! carries no switches for that: it asks the backend for the ordering of a site and hands what it
//! detaches to the backend's reclamation, and those are what is broken here.
//!
//! A process runs one world. It is chosen once, before anything is explored.

use std::panic::Location;
use std::sync::OnceLock;

use weft_core::sites::{ALL, AnySite, FenceOrder, FenceSite, Order, Place, Row, Site};
use weft_scenarios::scenario::Sabotage;

use crate::coverage::CoreLine;
use crate::report::SabotageName;

static CHOSEN: OnceLock<SabotageName> = OnceLock::new();

/// Breaks the world for the rest of this process, or leaves it whole.
///
/// # Panics
///
/// If a different choice was made before.
pub(crate) fn choose(sabotage: SabotageName) {
    let chosen = CHOSEN.get_or_init(|| sabotage.clone());
    assert!(*chosen == sabotage, "a process runs one world, and this one runs {chosen}");
}

fn chosen() -> &'static SabotageName {
    CHOSEN.get().unwrap_or(&SabotageName::None)
}

/// By which step an access is weaker in this world, if it is.
#[track_caller]
fn step(row: &Row, place: Option<Place>) -> Option<usize> {
    let caller = Location::caller();
    match chosen() {
        SabotageName::Weakened { index, step, line, .. } if *index == row.index => {
            let is_meant = line.as_ref().is_none_or(|line| line.has(place, caller));
            is_meant.then_some(*step)
        }
        _ => None,
    }
}

/// The ordering of an access in this world.
#[track_caller]
pub(crate) fn order(site: &'static Site) -> Order {
    let step = step(&site.row, site.place);
    step.map_or(site.order, |step| site.order.weaker()[step])
}

/// The ordering of a fence in this world.
#[track_caller]
pub(crate) fn fence_order(site: &'static FenceSite) -> FenceOrder {
    let step = step(&site.row, site.place);
    step.map_or(site.order, |step| site.order.weaker()[step])
}

/// Whether what is retired is freed at once.
pub(crate) fn frees_at_once() -> bool {
    *chosen() == SabotageName::FreedAtOnce
}

/// Whether grace periods forget `cpu`.
pub(crate) fn forgets(cpu: u32) -> bool {
    *chosen() == SabotageName::ForgottenCpu { cpu }
}

/// Whether read-modify-writes of entries, exchanges and swaps alike, are two steps.
pub(crate) fn tears_updates() -> bool {
    *chosen() == SabotageName::TornUpdates
}

/// Every way to weaken a site by one step, on this line if one is given.
pub fn weakenings(site: AnySite, line: Option<&CoreLine>) -> impl Iterator<Item = SabotageName> {
    (0..site.weakenings()).map(move |step| weakening(site.row(), step, line.cloned()))
}

fn weakening(row: &Row, step: usize, line: Option<CoreLine>) -> SabotageName {
    SabotageName::Weakened { site: row.name.to_owned(), index: row.index, step, line }
}

/// What a sabotage is called in tokens and on command lines; [`decode`] reads it.
pub fn encode(sabotage: &SabotageName) -> String {
    match sabotage {
        SabotageName::None => "-".to_owned(),
        SabotageName::Weakened { site, step, line, .. } => {
            let step = if *step == 0 { String::new() } else { format!(".{step}") };
            let line = line.as_ref().map_or_else(String::new, |line| format!("@{line}"));
            format!("{site}{step}{line}")
        }
        SabotageName::TornUpdates => "torn-updates".to_owned(),
        SabotageName::FreedAtOnce => "freed-at-once".to_owned(),
        SabotageName::ForgottenCpu { cpu } => format!("{FORGOTTEN_CPU}{cpu}"),
    }
}

const FORGOTTEN_CPU: &str = "forgotten-cpu-";

/// Reads what a sabotage is called.
///
/// # Errors
///
/// One sentence that says what is wrong and what would be right.
pub fn decode(code: &str) -> Result<SabotageName, String> {
    match code {
        "-" => return Ok(SabotageName::None),
        "torn-updates" => return Ok(SabotageName::TornUpdates),
        "freed-at-once" => return Ok(SabotageName::FreedAtOnce),
        _ => {}
    }
    if let Some(cpu) = code.strip_prefix(FORGOTTEN_CPU) {
        let cpu = cpu.parse().map_err(|_| unknown(code))?;
        return Ok(SabotageName::ForgottenCpu { cpu });
    }
    let (site, line) = match code.split_once('@') {
        Some((site, line)) => (site, Some(line.parse()?)),
        None => (code, None),
    };
    let (site, step) = site.split_once('.').unwrap_or((site, "0"));
    let step: usize = step.parse().map_err(|_| unknown(code))?;
    let found = ALL.iter().find(|found| found.row().name == site);
    let found = found.ok_or_else(|| unknown(code))?;
    if step >= found.weakenings() {
        let (name, steps) = (found.row().name, found.weakenings());
        return Err(format!("site {name} can be weakened in {steps} ways, so no step {step}"));
    }
    Ok(weakening(found.row(), step, line))
}

fn unknown(code: &str) -> String {
    format!(
        "unknown sabotage {code:?}: use the name of a site, with .<step> if it is not the first \
         one, and with @<file>:<line> for one line of the core, or freed-at-once, torn-updates, \
         {FORGOTTEN_CPU}<number>, or - for none"
    )
}

impl From<Sabotage> for SabotageName {
    fn from(sabotage: Sabotage) -> Self {
        match sabotage {
            Sabotage::Weakened(site) => weakening(site.row(), 0, None),
            Sabotage::TornUpdates => Self::TornUpdates,
            Sabotage::FreedAtOnce => Self::FreedAtOnce,
            Sabotage::ForgottenCpu(cpu) => Self::ForgottenCpu { cpu },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_read_back() {
        let others = [
            SabotageName::None,
            SabotageName::TornUpdates,
            SabotageName::FreedAtOnce,
            SabotageName::ForgottenCpu { cpu: 1 },
        ];
        let line = "core/src/run.rs:170".parse().expect("it is a line");
        let sites = || ALL.iter().copied();
        let everywhere = sites().flat_map(|site| weakenings(site, None));
        let on_a_line = sites().flat_map(|site| weakenings(site, Some(&line)));
        for sabotage in everywhere.chain(on_a_line).chain(others) {
            assert_eq!(decode(&encode(&sabotage)), Ok(sabotage));
        }
    }

    #[test]
    fn a_site_goes_by_its_name() {
        let found = decode("WALK_ENTRY").expect("the site exists");
        assert!(
            matches!(found, SabotageName::Weakened { site, step: 0, .. } if site == "WALK_ENTRY")
        );
        assert_eq!(
            encode(&decode("WALK_ENTRY@core/src/run.rs:7").expect("it can be read")),
            "WALK_ENTRY@core/src/run.rs:7"
        );
    }

    #[test]
    fn unknown_sabotages_are_refused() {
        let name = "forgotten-cpu-";
        for code in [
            "",
            "x",
            "w0.0",
            "WALK_ENTRY.9",
            "WALK_ENTRY.",
            "WALK_ENTRY@",
            name,
            "forgotten-cpu-A",
            "LOCK_CONTENDED",
            "WALK_ENTRY@run.rs:7",
            "WALK_ENTRY@core/src/run.rs",
        ] {
            assert!(decode(code).is_err(), "{code:?}");
        }
    }
}
