//! Memory of the host that nothing was written to, in a process with one exploration at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_explorer::{Arena, Atomic, Options, Verdict, explore, spawn};

#[global_allocator]
static ARENA: Arena = Arena;

/// Explores a program that leaks a block and publishes its address; says which one it was.
fn leak() -> u64 {
    static ADDRESS: AtomicU64 = AtomicU64::new(0);
    let options = Options { arena: true, ..Options::default() };
    let report = explore(&options, || {
        let (leaked, word) = (Box::into_raw(Box::new(7)), Atomic::new(0));
        let address = leaked.addr() as u64;
        ADDRESS.store(address, Ordering::Relaxed);
        let word = std::sync::Arc::new(word);
        let other = std::sync::Arc::clone(&word);
        spawn(move || other.store(address, Ordering::Release));
        word.load(Ordering::Acquire);
    });
    assert_eq!(report.verdict, Verdict::Exhausted, "{:?}", report.failure);
    assert_eq!(report.executions, 2);
    ADDRESS.load(Ordering::Relaxed)
}

/// What stood in memory before the host got it leads nowhere: a leaked block that it would lead to
/// has the same address in every run.
#[test]
fn what_stood_in_new_memory_of_the_host_is_nothing() {
    const WORDS: usize = 100;
    let address = leak();
    drop(vec![address; WORDS]);
    let new = Vec::<u64>::with_capacity(WORDS);
    assert_eq!(leak(), address);
    let mut grown = Vec::<u64>::with_capacity(1);
    drop(vec![address; WORDS]);
    grown.reserve_exact(WORDS);
    assert_eq!(leak(), address);
    drop((new, grown));
}
