//! The command line: what to run, how often, how broken.

use weft_protocol::argument;
use weft_scenarios::sabotage::{Sabotage, Side};

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// What to run.
    pub(crate) task: Task,
    /// How often.
    pub(crate) repeat: u64,
    /// The seed of everything random.
    pub(crate) seed: u64,
    /// How the world is broken, if it is.
    pub(crate) sabotage: Option<Sabotage>,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Task {
    /// Say what there is.
    List,
    /// A scenario.
    Scenario(&'static str),
    /// A test of the kernel itself.
    SelfTest(&'static str),
}

impl Options {
    /// Reads a command line.
    ///
    /// # Panics
    ///
    /// If it has a word that is not known, or asks for nothing: then whoever wrote it has another
    /// protocol in mind.
    pub(crate) fn parse(line: &'static str) -> Self {
        let mut options = Self { task: Task::List, repeat: 1, seed: 1, sabotage: None };
        let mut task = None;
        for word in line.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                argument::LIST => task = Some(Task::List),
                argument::SCENARIO => task = Some(Task::Scenario(value)),
                argument::SELF_TEST => task = Some(Task::SelfTest(value)),
                argument::REPEAT => options.repeat = number(word, value),
                argument::SEED => options.seed = number(word, value),
                argument::SABOTAGE => options.sabotage = Some(sabotage(value)),
                _ => panic!("the command line has an unknown word: {word}"),
            }
        }
        options.task = task.expect("the command line asks for nothing");
        options
    }
}

fn sabotage(name: &str) -> Sabotage {
    let sabotage = name.parse::<Sabotage>().and_then(|sabotage| sabotage.on(Side::Machine));
    sabotage.unwrap_or_else(|refused| panic!("{refused}"))
}

fn number(word: &str, value: &str) -> u64 {
    value.parse().unwrap_or_else(|_| panic!("the command line has no number here: {word}"))
}
