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

use weft_core::sites::{
    ACTIVATE_ORDER, AnySite, FLUSH_ORDER, FenceOrder, FenceSite, GENERATION_RAISED,
    GENERATION_SEEN, Order, Place, Row, Site,
};
use weft_scenarios::sabotage::{Sabotage, Side, Weakening};

use crate::chosen::EngineName;
use crate::coverage::CoreLine;
use crate::engine::Caching;

static CHOSEN: OnceLock<Option<Sabotage>> = OnceLock::new();

/// Breaks the world for the rest of this process, or leaves it whole.
///
/// # Panics
///
/// If a different choice was made before.
pub(crate) fn choose(sabotage: Option<Sabotage>) {
    let chosen = *CHOSEN.get_or_init(|| sabotage);
    let name = encode(chosen);
    assert!(chosen == sabotage, "a process runs one world, and this one runs {name}");
}

/// How the world is broken, if it is.
pub(crate) fn chosen() -> Option<Sabotage> {
    CHOSEN.get().copied().flatten()
}

/// Whether an access belongs to this line, whose site was named at `place` and that `caller` makes:
/// it belongs to both lines.
fn belongs(line: Place, place: Option<Place>, caller: &Location<'_>) -> bool {
    let is_call = line.line == caller.line() && line.file == caller.file();
    is_call || place == Some(line)
}

/// By which step an access is weaker in this world, if it is.
#[track_caller]
fn step(row: &Row, place: Option<Place>) -> Option<usize> {
    let caller = Location::caller();
    match chosen() {
        Some(Sabotage::Weakened(Weakening { site, step, line })) => {
            let is_meant = site.row().index == row.index
                && line.is_none_or(|line| belongs(line, place, caller));
            is_meant.then_some(step)
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

/// Whether the world is broken in this way.
pub(crate) fn is(sabotage: Sabotage) -> bool {
    chosen() == Some(sabotage)
}

/// Every way to weaken a site by one step on this line.
pub fn weakenings(site: AnySite, line: &CoreLine) -> impl Iterator<Item = Sabotage> + use<> {
    // A sabotage is a plain value, so what it names stays for good: the core has few lines.
    let line = Some(Place { file: line.file.clone().leak(), line: line.line });
    let weakening = move |step| Sabotage::Weakened(Weakening { site, step, line });
    (0..site.weakenings()).map(weakening)
}

/// Sites whose weakening shows in what caches of translations may still have, and in no data race:
/// where loads are not old, a CPU finds out in time that it has something to forget.
const CACHES: [AnySite; 4] = [
    AnySite::Fence(&ACTIVATE_ORDER),
    AnySite::Fence(&FLUSH_ORDER),
    AnySite::Access(&GENERATION_SEEN),
    AnySite::Access(&GENERATION_RAISED),
];

/// Whether an engine shows this world as it is.
///
/// * loom lets a plain store fall between the read and the write of a read-modify-write, so torn
///   updates break things there that they do not break.
/// * loom and threads have hardware that keeps nothing, so flushes that are missing show nowhere.
/// * shuttle has one order of all accesses, and does not miss a fence that only makes one. It draws
///   what hardware keeps: of 20 seeds with 2,000 executions each, all caught every twin without a
///   flush, with a part of it, that leaves a CPU out, or that keeps tags, but 5 missed one with a
///   late flush, which shows only between an unlock and the retirement behind it.
/// * A mistake of a caller may be of any kind, so the engine that explores everything is the one
///   that has to show it.
pub fn is_shown_by(engine: EngineName, sabotage: Sabotage) -> bool {
    match (sabotage, engine) {
        (Sabotage::TornUpdates, EngineName::Loom) => false,
        (Sabotage::Mistake(_), engine) => engine == EngineName::Explorer,
        (Sabotage::LateShootdown, engine) => engine.traits().caching == Caching::Windows,
        (
            Sabotage::NoShootdown
            | Sabotage::PartialShootdown
            | Sabotage::MaskedShootdown
            | Sabotage::TagsKept
            | Sabotage::ForgottenHolder(_),
            engine,
        ) => engine.traits().caching.is_modelled(),
        (Sabotage::Weakened(weakening), engine) => {
            let row = weakening.site.row().index;
            let fences = matches!(
                weakening.site,
                AnySite::Fence(fence) if fence.order == FenceOrder::SeqCst
            );
            (engine != EngineName::Shuttle || !fences)
                && (engine.traits().caching == Caching::Windows
                    || !CACHES.iter().any(|site| site.row().index == row))
        }
        _ => true,
    }
}

/// What a world is called that is whole, in tokens and documents.
const WHOLE: &str = "-";

/// What a world is called in tokens and documents; [`decode`] reads it.
pub fn encode(sabotage: Option<Sabotage>) -> String {
    sabotage.map_or_else(|| WHOLE.to_owned(), |sabotage| sabotage.to_string())
}

/// Reads what a world is called.
///
/// # Errors
///
/// One sentence that says what is wrong and what would be right: there is no such sabotage, or no
/// model can carry it out.
pub fn decode(name: &str) -> Result<Option<Sabotage>, String> {
    if name == WHOLE {
        return Ok(None);
    }
    name.parse::<Sabotage>()?.on(Side::Models).map(Some)
}

/// For fields of requests and reports: the world's name.
pub(crate) mod name {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};
    use weft_scenarios::sabotage::Sabotage;

    pub(crate) fn serialize<S: Serializer>(
        sabotage: &Option<Sabotage>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(*sabotage))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Sabotage>, D::Error> {
        super::decode(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use weft_core::sites::ALL;

    use super::*;

    #[test]
    fn an_access_belongs_to_the_line_that_names_its_site_and_to_that_of_the_call() {
        let named = Place { file: "core/src/node.rs", line: 7 };
        let caller = Location::caller();
        let call = Place { file: caller.file(), line: caller.line() };
        assert!(belongs(named, Some(named), caller));
        assert!(belongs(call, Some(named), caller));
        assert!(!belongs(named, None, caller));
        assert!(!belongs(Place { line: 8, ..named }, Some(named), caller));
        assert!(!belongs(Place { line: call.line + 1, ..call }, Some(named), caller));
    }

    #[test]
    fn worlds_are_read_back() {
        let line = CoreLine { file: "core/src/run.rs".to_owned(), line: 170 };
        let weaker = ALL.iter().flat_map(|site| weakenings(*site, &line)).map(Some);
        let others = [None, Some(Sabotage::TornUpdates), Some(Sabotage::Mistake("frees-first"))];
        for world in weaker.chain(others) {
            assert_eq!(decode(&encode(world)), Ok(world));
        }
        assert_eq!(encode(None), "-");
    }

    #[test]
    fn what_only_a_machine_can_break_is_refused() {
        let refused = decode("lost-count").expect_err("models count themselves");
        assert!(refused.contains("use `just qemu --sabotage lost-count`"), "{refused}");
        assert!(decode("").is_err());
    }
}
