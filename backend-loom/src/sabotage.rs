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

/// Whether read-modify-writes of entries are two steps.
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
