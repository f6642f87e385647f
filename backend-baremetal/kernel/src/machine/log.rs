//! The log: `tracing` events as lines on the serial port.
//!
//! Without `std`, `tracing` has one dispatcher for the whole kernel; it needs the heap. Spans are
//! printed when they are made, and not tracked.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

use super::{cpu, serial};

/// Writes fields, the message without its name.
struct Fields<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Formatting into the serial port does not fail.
        let _cannot_fail = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Metadata, and how to visit the fields: one `Display`, so one line under one lock.
struct Entry<'a, F: Fn(&mut Fields<'_, '_>)>(&'a Metadata<'a>, F);

impl<F: Fn(&mut Fields<'_, '_>)> fmt::Display for Entry<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(metadata, visit) = self;
        write!(f, "{:>5} cpu{} {}", metadata.level(), cpu::id(), metadata.target())?;
        if metadata.is_span() {
            write!(f, " {}", metadata.name())?;
        }
        f.write_str(":")?;
        visit(&mut Fields(f));
        Ok(())
    }
}

struct SerialSubscriber;

static NEXT_SPAN: AtomicU64 = AtomicU64::new(1);

impl Subscriber for SerialSubscriber {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let visit = |fields: &mut Fields<'_, '_>| span.record(fields);
        serial::print(format_args!("{}\n", Entry(span.metadata(), visit)));
        Id::from_u64(NEXT_SPAN.fetch_add(1, Ordering::Relaxed))
    }
    fn event(&self, event: &Event<'_>) {
        let visit = |fields: &mut Fields<'_, '_>| event.record(fields);
        serial::print(format_args!("{}\n", Entry(event.metadata(), visit)));
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

/// Starts the log. Needs the heap.
pub(crate) fn init() {
    let only_once = dispatcher::set_global_default(Dispatch::new(SerialSubscriber));
    only_once.expect("the log is started once");
}
