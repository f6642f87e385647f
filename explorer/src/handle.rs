//! What the objects of a program share: a location, and the execution that it was made in.
//!
//! A location is named by the thread that creates it and a counter, so the same object has the same
//! name in every run; data of a mutex may carry an object from one run into the replay of the
//! next, and it still means the same. That is the only way in which an object of an earlier run
//! may be used: then the run makes it too, at the same line, if not yet then before it is over. An
//! object that was kept outside of the program is not made again, and is refused by its name.

use std::panic::Location;

use crate::engine::{Engine, Outcome, Stop, with};
use crate::event::{NO_LOCATION, Payload};
use crate::graph::split;
use crate::inert::is_inert;
use crate::report::{FailureKind, SourcePlace};

/// Names a location of the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handle {
    pub(crate) location: u32,
    exploration: u32,
    run: u64,
    made_at: &'static Location<'static>,
}

/// An object of an earlier run, used before this run has made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Early {
    handle: Handle,
    at: &'static Location<'static>,
}

impl Handle {
    /// Creates a location. While the thread unwinds there is nothing to create.
    pub(crate) fn create(
        initial: u64,
        payload: Payload,
        name: Option<&'static str>,
        made_at: &'static Location<'static>,
    ) -> Handle {
        if is_inert() {
            return Handle { location: NO_LOCATION, exploration: 0, run: 0, made_at };
        }
        with(|engine| Handle {
            location: engine.create(initial, name, payload, made_at),
            exploration: engine.exploration(),
            run: engine.run.number,
            made_at,
        })
    }

    /// The location, if it belongs to the execution that is going on.
    #[inline]
    pub(crate) fn enter(
        self,
        engine: &mut Engine,
        at: &'static Location<'static>,
    ) -> Result<u32, Stop> {
        if self.run == engine.run.number { Ok(self.location) } else { self.enter_old(engine, at) }
    }

    fn enter_old(self, engine: &mut Engine, at: &'static Location<'static>) -> Result<u32, Stop> {
        if self.exploration != engine.exploration() {
            return Err(engine.misuse(
                at,
                "an object of another exploration is used: create all shared objects inside the \
                 program, anew in each execution",
            ));
        }
        match engine.made_at(self.location) {
            Some(made_at) if made_at == self.made_at => Ok(self.location),
            Some(_) => Err(self.refuse(engine, at)),
            // No thread has an object that it will only make later.
            None if split(self.location).0 == engine.current_thread() => {
                Err(self.refuse(engine, at))
            }
            None => {
                let early = &mut engine.run.early;
                if !early.iter().any(|other| other.handle.location == self.location) {
                    early.push(Early { handle: self, at });
                }
                Ok(self.location)
            }
        }
    }

    fn refuse(self, engine: &mut Engine, at: &'static Location<'static>) -> Stop {
        let name = engine.search.graph.name(self.location);
        let message = format!(
            "{name}, made at {}:{}, was kept from an earlier execution: create all shared objects \
             inside the program, anew in each execution ({at})",
            self.made_at.file(),
            self.made_at.line()
        );
        engine.fail(FailureKind::Misuse, message, Some(SourcePlace::of(at)))
    }
}

impl Engine {
    /// At the end of a complete run: everything that was used has been made.
    pub(crate) fn check_early(&mut self) -> Outcome {
        for Early { handle, at } in std::mem::take(&mut self.run.early) {
            if self.made_at(handle.location) != Some(handle.made_at) {
                handle.refuse(self, at);
                return Outcome::Failed;
            }
        }
        Outcome::Complete
    }
}
