//! A world broken at its seams, on demand: what a harness that works must notice.

use spin::Once;

/// How the world is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sabotage {
    /// It is whole.
    None,
    /// Translations are not flushed.
    NoShootdown,
    /// What is retired is freed at once, without a grace period.
    FreedAtOnce,
    /// Grace periods do not wait for this CPU.
    ForgottenCpu(u32),
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
            "freed-at-once" => Self::FreedAtOnce,
            _ => match forgotten(name) {
                Some(cpu) => Self::ForgottenCpu(cpu),
                None => panic!("there is no sabotage called {name}"),
            },
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
