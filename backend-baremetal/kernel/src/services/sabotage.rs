//! A world broken at its seams, on demand: what a harness that works must notice.

use core::fmt;

use spin::Once;
use weft_scenarios::scenario;

/// How the world is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sabotage {
    /// It is whole.
    None,
    /// Translations are not flushed.
    NoShootdown,
    /// Updates of entries are a load and a store.
    TornUpdates,
    /// What is retired is freed at once, without a grace period.
    FreedAtOnce,
    /// What is retired is never freed.
    NeverFreed,
    /// Grace periods do not wait for this CPU.
    ForgottenCpu(u32),
    /// An entry of a finished table is overwritten behind the core's back.
    TablesChanged,
    /// A node that a race leaves has a child that it does not count.
    LostCount,
    /// A node that a race leaves is locked.
    LockKept,
    /// A node that a race leaves leads to one that was taken out of it.
    StrayKept,
}

/// Those that have a name and nothing else.
const NAMED: [(Sabotage, &str); 9] = [
    (Sabotage::None, "none"),
    (Sabotage::NoShootdown, "no-shootdown"),
    (Sabotage::TornUpdates, "torn-updates"),
    (Sabotage::FreedAtOnce, "freed-at-once"),
    (Sabotage::NeverFreed, "never-freed"),
    (Sabotage::TablesChanged, "tables-changed"),
    (Sabotage::LostCount, "lost-count"),
    (Sabotage::LockKept, "lock-kept"),
    (Sabotage::StrayKept, "stray-kept"),
];

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::ForgottenCpu(cpu) = self {
            return write!(f, "forgotten-cpu-{cpu}");
        }
        let named = NAMED.iter().find(|(sabotage, _)| sabotage == self);
        let (_, name) = named.expect("every sabotage but one has a name");
        f.write_str(name)
    }
}

static CHOSEN: Once<Sabotage> = Once::new();

impl Sabotage {
    /// The sabotage of this name.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn parse(name: &str) -> Self {
        let forgotten = || name.strip_prefix("forgotten-cpu-")?.parse().ok();
        let named = NAMED.iter().find(|(_, known)| *known == name).map(|(sabotage, _)| *sabotage);
        let sabotage = named.or_else(|| forgotten().map(Self::ForgottenCpu));
        sabotage.unwrap_or_else(|| panic!("there is no sabotage called {name}"))
    }

    /// The sabotage of a twin, if the kernel can play it. It cannot weaken its own orderings.
    pub(crate) fn of(twin: scenario::Sabotage) -> Option<Self> {
        match twin {
            scenario::Sabotage::FreedAtOnce => Some(Self::FreedAtOnce),
            scenario::Sabotage::ForgottenCpu(cpu) => Some(Self::ForgottenCpu(cpu)),
            scenario::Sabotage::TornUpdates => Some(Self::TornUpdates),
            scenario::Sabotage::Weakened(_) => None,
        }
    }

    /// Breaks the world, from now on.
    pub(crate) fn choose(self) {
        CHOSEN.call_once(|| self);
    }

    /// Whether the world is broken in this way.
    pub(crate) fn is_chosen(self) -> bool {
        CHOSEN.get() == Some(&self)
    }

    /// How the world is broken.
    pub(crate) fn chosen() -> Self {
        CHOSEN.get().copied().unwrap_or(Self::None)
    }
}
