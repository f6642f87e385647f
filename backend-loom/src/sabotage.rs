//! The world, broken at its seams on purpose.
//!
//! A detector that cannot fire is a defect, so every check also runs against worlds in which one
//! ordering site is a step weaker, grace periods are skipped, or one CPU is forgotten. The core
//! carries no switches for that: it asks the backend for the ordering of a site and hands what it
//! detaches to the backend's reclamation, and those are what is broken here.
//!
//! A process runs one world. It is chosen once, before anything is explored.

use std::sync::OnceLock;

use weft_core::sites::{ALL, AnySite, FenceOrder, FenceSite, Order, Site};
use weft_scenarios::scenario::Sabotage;

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

/// The ordering of an access in this world.
pub(crate) fn order(site: &'static Site) -> Order {
    match chosen() {
        SabotageName::Weakened { index, step, .. } if *index == site.row.index => {
            site.order.weaker()[*step]
        }
        _ => site.order,
    }
}

/// The ordering of a fence in this world.
pub(crate) fn fence_order(site: &'static FenceSite) -> FenceOrder {
    match chosen() {
        SabotageName::Weakened { index, step, .. } if *index == site.row.index => {
            site.order.weaker()[*step]
        }
        _ => site.order,
    }
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

/// Every way to weaken one site by one step.
pub fn weakenings() -> Vec<SabotageName> {
    let steps = |site: &AnySite| {
        let row = *site.row();
        (0..site.weakenings()).map(move |step| weakening(&row, step))
    };
    ALL.iter().flat_map(steps).collect()
}

fn weakening(row: &weft_core::sites::Row, step: usize) -> SabotageName {
    SabotageName::Weakened { site: row.name.to_owned(), index: row.index, step }
}

/// A short form of a sabotage, for tokens and command lines; [`decode`] reads it.
pub fn encode(sabotage: &SabotageName) -> String {
    match sabotage {
        SabotageName::None => "-".to_owned(),
        SabotageName::Weakened { index, step, .. } => format!("w{index}.{step}"),
        SabotageName::TornUpdates => "torn".to_owned(),
        SabotageName::FreedAtOnce => "free".to_owned(),
        SabotageName::ForgottenCpu { cpu } => format!("cpu{cpu}"),
    }
}

/// Reads the short form of a sabotage. A weakened site may also be given by its name, and the
/// step, if it is the first, left out.
///
/// # Errors
///
/// One sentence that says what is wrong and what would be right.
pub fn decode(code: &str) -> Result<SabotageName, String> {
    match code {
        "-" => return Ok(SabotageName::None),
        "torn" => return Ok(SabotageName::TornUpdates),
        "free" => return Ok(SabotageName::FreedAtOnce),
        _ => {}
    }
    if let Some(cpu) = code.strip_prefix("cpu") {
        let cpu = cpu.parse().map_err(|_| unknown(code))?;
        return Ok(SabotageName::ForgottenCpu { cpu });
    }
    let (site, step) = code.split_once('.').unwrap_or((code, "0"));
    let step: usize = step.parse().map_err(|_| unknown(code))?;
    let numbered = || site.strip_prefix('w')?.parse::<usize>().ok();
    let index = ALL.iter().position(|found| found.row().name == site).or_else(numbered);
    let index = index.ok_or_else(|| unknown(code))?;
    let found = ALL.get(index).ok_or_else(|| {
        format!("there is no site {index}: the table of sites ends at {}", ALL.len() - 1)
    })?;
    if step >= found.weakenings() {
        let (name, steps) = (found.row().name, found.weakenings());
        return Err(format!("site {name} can be weakened in {steps} ways, so no step {step}"));
    }
    Ok(weakening(found.row(), step))
}

fn unknown(code: &str) -> String {
    format!(
        "unknown sabotage {code:?}: use a site's name or w<index>, with .<step> if it is not the \
         first, or free, torn, cpu<n>, or - for none"
    )
}

impl From<Sabotage> for SabotageName {
    fn from(sabotage: Sabotage) -> Self {
        match sabotage {
            Sabotage::Weakened(site) => weakening(site.row(), 0),
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
        for sabotage in weakenings().into_iter().chain(others) {
            assert_eq!(decode(&encode(&sabotage)), Ok(sabotage));
        }
    }

    #[test]
    fn a_site_goes_by_its_name_too() {
        let found = decode("WALK_ENTRY").expect("the site exists");
        assert!(
            matches!(found, SabotageName::Weakened { site, step: 0, .. } if site == "WALK_ENTRY")
        );
    }

    #[test]
    fn unknown_sabotages_are_refused() {
        for code in ["", "x", "w", "w999.0", "w0.9", "cpu", "cpuA", "LOCK_CONTENDED", "w0.", "w-1"]
        {
            assert!(decode(code).is_err(), "{code:?}");
        }
    }
}
