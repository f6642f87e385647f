//! Mistakes: a role as a caller once wrote it wrongly.
//!
//! Most historical races were in code that calls a page table: it freed a frame and flushed
//! afterwards, or looked at an entry before it took the lock. Such a bug is no broken world, but a
//! second version of one role, in the same file: [`Scenario::MISTAKES`]. Where a mistake is made,
//! [`roles`] has the wrong version in place of the right one, and all else is the same race.
//!
//! A mistake is a [`Sabotage`] as any other, spelled `mistake-<name>`, and is run and caught as a
//! twin is.

use core::fmt;

use crate::sabotage::{Sabotage, is_kebab};
use crate::scenario::{Cpus, Number, Role, Scenario};
use crate::world::World;

/// The most mistakes of a scenario.
const MISTAKES_MAX: usize = 8;

/// A wrong version of a role, and the message that must be the consequence; see [`mistake`].
pub struct Mistake<S: Scenario<B>, B: World> {
    /// What it is called: words of lower-case letters and digits, joined by `-`.
    pub name: &'static str,
    /// The role, by its number in [`Scenario::CPUS`].
    pub role: usize,
    /// What the role does differently: a clause that goes on after the role's name.
    pub what: &'static str,
    /// The wrong version.
    pub play: Role<S, B>,
    /// A part of the message that it must be caught with.
    pub message: &'static str,
}

impl<S: Scenario<B>, B: World> Mistake<S, B> {
    /// What it is called as a sabotage.
    pub const fn sabotage(&self) -> Sabotage {
        Sabotage::Mistake(self.name)
    }
}

impl<S: Scenario<B>, B: World> Clone for Mistake<S, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Scenario<B>, B: World> Copy for Mistake<S, B> {}

impl<S: Scenario<B>, B: World> fmt::Debug for Mistake<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, role, what, message, .. } = self;
        let mut fields = f.debug_struct("Mistake");
        fields.field("name", name).field("role", role).field("what", what);
        fields.field("message", message).finish_non_exhaustive()
    }
}

/// A wrong version of role number `role`: `what` says in which way, `message` is a part of the
/// message that it must be caught with.
///
/// # Panics
///
/// At build time, if the name is not made of lower-case words joined by `-`, or a text is empty.
#[track_caller]
pub const fn mistake<S: Scenario<B>, B: World>(
    name: &'static str,
    role: usize,
    what: &'static str,
    play: Role<S, B>,
    message: &'static str,
) -> Mistake<S, B> {
    assert!(is_kebab(name), "a mistake's name is made of lower-case words that `-` joins");
    assert!(!what.is_empty(), "say what the role does differently");
    assert!(!message.is_empty(), "a mistake without a message would be caught by any failure");
    Mistake { name, role, what, play, message }
}

/// The mistakes of a scenario; see [`mistakes`].
pub struct Mistakes<S: Scenario<B>, B: World> {
    mistakes: [Option<Mistake<S, B>>; MISTAKES_MAX],
}

impl<S: Scenario<B>, B: World> Mistakes<S, B> {
    /// No mistakes.
    pub const NONE: Self = Self { mistakes: [None; MISTAKES_MAX] };

    /// The mistakes in order.
    pub fn iter(&self) -> impl Iterator<Item = Mistake<S, B>> + '_ {
        self.mistakes.iter().copied().flatten()
    }
}

impl<S: Scenario<B>, B: World> fmt::Debug for Mistakes<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The counts of mistakes that a list may have.
#[diagnostic::on_unimplemented(
    message = "a list of mistakes has 1 to 8",
    label = "this list has another length",
    note = "a scenario without mistakes leaves out the constant"
)]
pub trait MistakeCount {}
macro_rules! mistake_counts {
    ($($count:literal),+) => { $(impl MistakeCount for Number<$count> {})+ };
}
mistake_counts!(1, 2, 3, 4, 5, 6, 7, 8);

/// The mistakes of a scenario.
///
/// # Panics
///
/// At build time, if a mistake is of a role that there is not, or two have one name.
///
/// ```compile_fail,E0277
/// # use weft_scenarios::prelude::*;
/// fn none<S: Scenario<B>, B: World>() -> Mistakes<S, B> {
///     mistakes([])
/// }
/// ```
#[track_caller]
pub const fn mistakes<S: Scenario<B>, B: World, const N: usize>(
    list: [Mistake<S, B>; N],
) -> Mistakes<S, B>
where
    Number<N>: MistakeCount,
{
    let mut mistakes = [None; MISTAKES_MAX];
    let mut index = 0;
    while index < N {
        let mistake = list[index];
        assert!(mistake.role < S::CPUS.count(), "a mistake is of a role that the scenario has not");
        let mut earlier = 0;
        while earlier < index {
            assert!(!is_same(list[earlier].name, mistake.name), "two mistakes have one name");
            earlier += 1;
        }
        mistakes[index] = Some(mistake);
        index += 1;
    }
    Mistakes { mistakes }
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// For harnesses: the roles of a scenario as they are played in a world. They are the right ones,
/// but for the role that a mistake is about.
///
/// # Panics
///
/// If the scenario has no such mistake.
pub fn roles<S: Scenario<B>, B: World>(world: Option<Sabotage>) -> Cpus<S, B> {
    let mut cpus = S::CPUS;
    if let Some(sabotage @ Sabotage::Mistake(_)) = world {
        let made = S::MISTAKES.iter().find(|mistake| mistake.sabotage() == sabotage);
        let made = made.unwrap_or_else(|| panic!("the scenario has no {sabotage}"));
        cpus.exchange(made.role, made.play);
    }
    cpus
}
