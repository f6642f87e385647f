//! What detectors say when a condition is broken: the only list, and the only spelling.
//!
//! A twin, a mistake and a mutant count as caught only with the message of the invariant that they
//! break. So each message is one of these, or the invariant's own words: the reason of a forbidden
//! outcome, or what a scenario asserts. The core has no such list, and says a few of them itself; a
//! test compares, and finds what a detector says that is not listed here.

/// A message, and what it means.
#[derive(Clone, Copy, Debug)]
pub struct Detector {
    /// What the message contains.
    pub says: &'static str,
    /// Who says it.
    pub by: By,
    /// What it means.
    pub means: &'static str,
}

/// Who says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Model memory, and the harness of the models.
    Models,
    /// The kernel on a machine.
    Machine,
    /// Both.
    Both,
}

macro_rules! detectors {
    ($($name:ident = $says:literal, $by:ident, $means:literal;)+) => {
        $(#[doc = $means] pub const $name: &str = $says;)+
        /// All of them.
        pub const ALL: &[Detector] =
            &[$(Detector { says: $says, by: By::$by, means: $means }),+];
    };
}

detectors! {
    USE_AFTER_FREE = "use after free", Both,
        "A frame is used that was freed, or nothing orders the use before the freeing.";
    USE_BEFORE_ALLOCATION = "use before allocation", Models,
        "A frame is used, and nothing orders the use behind its allocation.";
    DATA_RACE = "data race", Models,
        "Two CPUs access plain data or the contents of a page, one of them writes, and nothing \
         orders them.";
    NO_FRAME = "is used as a frame, and is none", Models,
        "An address was decoded that no frame has.";
    CORRUPT_ENTRY = "corrupt entry", Both,
        "An entry has bits that no entry has, such as the poison of a freed frame.";
    ROOT_FREED = "a CPU frees the root it runs on", Models,
        "The last owner of a root gives it up while the CPU's register still has it.";
    OVERWRITTEN = "a store overwrites an entry that hardware may be writing", Models,
        "An entry whose accessed or dirty bit hardware may set is changed by a plain store.";
    LEAK = "leak: ", Both,
        "Frames are in use after everything was given up.";
    NO_REFERENCE = "a reference is added to a frame without any", Models,
        "An owner is made of a frame that has none, and may be free.";
    GIVEN_UP_TWICE = "a reference is given up twice", Models,
        "A frame loses an owner that it has not.";
    NOT_HELD = "is unlocked by a CPU that does not hold it", Models,
        "A lock is given back twice, or by another CPU.";
    HELD_AT_END = "a lock is held by a CPU that has ended", Models,
        "A role is over, and a lock was not given back.";
    HANDLER_LOCK = "a lock that an interrupt handler takes is held with interrupts on", Models,
        "The handler would wait for good for the CPU that it has interrupted.";
    DEADLOCK = "deadlock: ", Models,
        "Every CPU that has not ended waits. A twin that is to end so says `deadlock`.";
    NOT_LINEARIZABLE = "history is not linearizable", Both,
        "No order of the operations, one after the other, explains the answers.";
    OTHER_TABLE = "a reachable node is of another table", Both,
        "Afterwards a node hangs in a table of another configuration.";
    WRONG_LEVEL = "a reachable node is not of the level below its parent's", Both,
        "Afterwards a node hangs at a level that is not its own.";
    UNATTACHED = "a node with a parent may be given another one", Both,
        "Afterwards a node is in a table, and is not marked as such.";
    STILL_LOCKED = "a node is still locked after all CPUs have ended", Both,
        "Afterwards the lock of a node is taken.";
    STRAY_LEFT = "a reachable node is marked stray", Both,
        "Afterwards a node that was taken out is in the table.";
    LOST_COUNT = "a node has lost count", Both,
        "Afterwards a node counts other children than it has.";
    NOT_LISTED = "is not listed", Both,
        "A scenario names an outcome, or meets a situation, that it does not list.";
    NOT_OF_RACE = "a situation is met by a CPU of the race", Models,
        "A scenario notes a situation in its set-up, or in its check.";
    MANY_POINTS = "a loop that does not wait?", Models,
        "An execution does not end. This is never a catch.";
    KERNEL_FAULT = "page fault at", Machine,
        "The kernel itself has touched what is not mapped.";
    UNANSWERED = "does not answer a request", Machine,
        "A processor waits with interrupts off, or its handler does.";
}
