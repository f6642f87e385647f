//! A world broken at its seams, on demand: what a harness that works must notice.

use spin::Once;
use weft_scenarios::sabotage::Sabotage;

static CHOSEN: Once<Sabotage> = Once::new();

/// Breaks the world, from now on.
pub(crate) fn choose(sabotage: Sabotage) {
    CHOSEN.call_once(|| sabotage);
}

/// Whether the world is broken in this way.
pub(crate) fn is_chosen(sabotage: Sabotage) -> bool {
    chosen() == Some(sabotage)
}

/// How the world is broken, if it is.
pub(crate) fn chosen() -> Option<Sabotage> {
    CHOSEN.get().copied()
}
