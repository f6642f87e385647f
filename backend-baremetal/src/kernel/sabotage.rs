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
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::NoShootdown => f.write_str("no-shootdown"),
            Self::TornUpdates => f.write_str("torn-updates"),
            Self::FreedAtOnce => f.write_str("freed-at-once"),
            Self::NeverFreed => f.write_str("never-freed"),
            Self::TablesChanged => f.write_str("tables-changed"),
            Self::ForgottenCpu(cpu) => write!(f, "forgotten-cpu-{cpu}"),
        }
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
        let forgotten = |name: &str| name.strip_prefix("forgotten-cpu-")?.parse().ok();
        match name {
            "none" => Self::None,
            "no-shootdown" => Self::NoShootdown,
            "torn-updates" => Self::TornUpdates,
            "freed-at-once" => Self::FreedAtOnce,
            "never-freed" => Self::NeverFreed,
            "tables-changed" => Self::TablesChanged,
            _ => match forgotten(name) {
                Some(cpu) => Self::ForgottenCpu(cpu),
                None => panic!("there is no sabotage called {name}"),
            },
        }
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
}
