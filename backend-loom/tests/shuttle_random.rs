//! Random programs under the shuttle engine: every outcome is sequentially consistent.
//!
//! The programs and the enumerator are those of loom's soundness gate. Sampling promises no
//! complete set; that most programs show theirs anyway says that the schedulers do their work.

mod random_programs;

use std::time::Duration;

use random_programs::{enumerate, explore, generate, well_formed};
use weft_backend_loom::engine::Search;
use weft_backend_loom::shuttle::Shuttle;

#[test]
fn outcomes_are_sequentially_consistent() {
    let programs = 60;
    let mut complete = 0;
    for seed in 1..=programs {
        let threads = generate(seed, true);
        let search = Search {
            time: Duration::from_secs(600),
            executions: Some(300),
            seed,
            ..Search::new(2)
        };
        let (exploration, outcomes) = explore::<Shuttle>(&search, &threads);
        assert_eq!(exploration.failure, None, "seed {seed}: {threads:?}");
        assert!(outcomes.iter().all(|outcome| well_formed(&threads, outcome)));
        let expected = enumerate(&threads);
        let invented: Vec<_> = outcomes.difference(&expected).collect();
        assert!(invented.is_empty(), "seed {seed}: {threads:?} invents {invented:?}");
        complete += u64::from(outcomes.len() == expected.len());
    }
    assert!(complete * 10 >= programs * 9, "{complete} of {programs} complete");
}
