//! Random sampling, for programs too large to explore.
//!
//! The exploration is a tree: at each event that has options, one branch per option. A *descent*
//! runs the program with the default options, then goes through the events that had others, and at
//! each picks one option at random, the default among them; if it is not the default, the program
//! is run again from there. The product of the numbers of options along the way is an unbiased
//! estimate of the number of leaves (Knuth, "Estimating the efficiency of backtrack programs",
//! 1975); averaged over descents that end in a complete execution, of the number of executions. Its
//! variance is large: it says whether an exploration takes minutes or years.

use crate::choices::{Alternative, Search};
use crate::engine::{Engine, Outcome, with};
use crate::options::{Options, Sample};
use crate::report::{Report, Verdict};
use crate::run::run_once;
use crate::workers::{Found, Installed, Shared};

/// xorshift64*, Vigna 2016.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        (number % bound as u64) as usize
    }
}

/// Where a descent stands after the options of one run have been drawn.
enum Drawn {
    /// All defaults: the run stands.
    Leaf,
    /// Another graph has to be run.
    Again,
    /// The option that was drawn is not consistent.
    DeadEnd,
}

/// Draws among the options that the last run left open. `weight` is multiplied by their number.
fn draw(search: &mut Search, random: &mut Random, weight: &mut f64) -> Drawn {
    let mut open = std::mem::take(&mut search.alternatives);
    let mut first = 0;
    while first < open.len() {
        let position = open[first].position();
        let same = |alternative: &Alternative| alternative.position() == position;
        let count = open[first..].iter().take_while(|alternative| same(alternative)).count();
        let drawn = random.below(count + 1);
        *weight *= (count + 1) as f64;
        if drawn == count {
            first += count;
            continue;
        }
        let mut runs = search.apply(open.swap_remove(first + drawn));
        // A revisit leads to the places of its write; a conflict to the revisits that it queued.
        while !runs {
            let mut further = std::mem::take(&mut search.alternatives);
            if further.is_empty() {
                return Drawn::DeadEnd;
            }
            *weight *= further.len() as f64;
            runs = search.apply(further.swap_remove(random.below(further.len())));
        }
        return Drawn::Again;
    }
    Drawn::Leaf
}

/// Makes random descents, on the calling thread.
pub(crate) fn explore_randomly(
    options: &Options,
    program: &dyn Fn(),
    sample: Sample,
) -> (Report, Option<Found>) {
    let shared = Shared::new(options);
    let mut report = Report::new(options.model);
    let mut random = Random::new(sample.seed);
    let (mut found, mut total, mut descents) = (None, 0.0, 0);
    let new_search = || Search::new(options.model, options.deviations_max);
    let _installed = Installed::new(Engine::new(options, new_search(), shared.exploration));
    while descents < sample.count && (found.is_none() || options.keep_going) {
        let estimate = (descents > 0).then(|| total / descents as f64);
        if !shared.goes_on(estimate) {
            break;
        }
        with(|engine| engine.search = new_search());
        let mut weight = 1.0;
        loop {
            let outcome = run_once(program);
            if matches!(outcome, Outcome::Failed | Outcome::Redundant) {
                found = found.or(shared.record(&mut report, outcome));
                break;
            }
            match with(|engine| draw(&mut engine.search, &mut random, &mut weight)) {
                Drawn::Again => {
                    report.runs += 1;
                    continue;
                }
                Drawn::DeadEnd => {
                    report.runs += 1;
                    report.conflicts += 1;
                }
                Drawn::Leaf => {
                    shared.record(&mut report, outcome);
                    if outcome == Outcome::Complete {
                        total += weight;
                    }
                }
            }
            break;
        }
        descents += 1;
    }
    report.estimate = (descents > 0).then(|| total / descents as f64);
    report.verdict = match found {
        Some(_) => Verdict::Failed,
        None if shared.is_cut_short() => Verdict::CutShort,
        None => Verdict::Sampled(descents),
    };
    report.elapsed = shared.elapsed();
    (report, found)
}
