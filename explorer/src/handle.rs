//! What the objects of a program share: a location, and the execution that it was made in.
//!
//! A location is named by the thread that creates it and a counter, so the same object has the same
//! name in every run; data of a mutex may carry an object from one run into the replay of the
//! next, and it still means the same. That is the only way in which an object of an earlier run
//! may be used: then the run has made it too, at the same line. An object that was kept outside of
//! the program is not made again, and is refused by its name.

use std::panic::Location;

use crate::engine::{Engine, Stop, with};
use crate::event::{NO_LOCATION, Payload};
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
            _ => Err(self.refuse(engine, at)),
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
