//! A history that is not linearizable, drawn: a lane per CPU, a bar per step, and both maps.
//!
//! The drawing is made of the message, which says all of it, and is the same from a model and from
//! a machine. A bar ends where a step begins that is known to come behind it: bars that overlap may
//! have come in either order.

use maud::{Markup, html};

/// What a message begins with that has a history in it.
const SAYS: &str = "history is not linearizable: ";

/// Sizes, in pixels.
const LEFT: usize = 60;
const COLUMN: usize = 190;
const LINE: usize = 15;
const GAP: usize = 14;

/// What CPUs did, and the maps before and behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The CPU of each step, and its operations.
    steps: Vec<(usize, Vec<String>)>,
    /// Pairs of steps of which the first was over before the second began.
    before: Vec<(usize, usize)>,
    first: String,
    last: String,
}

impl History {
    /// The history that a message tells, if it tells one.
    pub fn of(message: &str) -> Option<Self> {
        let told = message.lines().next()?.strip_prefix(SAYS)?;
        let mut history = Self {
            steps: Vec::new(),
            before: Vec::new(),
            first: String::new(),
            last: String::new(),
        };
        for part in told.split("; ") {
            if let Some(maps) = part.strip_prefix("at first ") {
                let (first, last) = maps.split_once(", in the end ")?;
                (history.first, history.last) = (first.to_owned(), last.to_owned());
            } else if let Some(steps) = part.strip_prefix("CPU ") {
                let (cpu, steps) = steps.split_once(": ")?;
                let cpu = cpu.parse().ok()?;
                for step in steps.split(", ") {
                    history.steps.push((cpu, step.split(" with ").map(str::to_owned).collect()));
                }
            } else {
                let (one, other) = part.split_once(" before ")?;
                let pair = (history.named(one, true)?, history.named(other, false)?);
                history.before.push(pair);
            }
        }
        (!history.first.is_empty()).then_some(history)
    }

    /// The step that has this operation, as its last one or its first: `"query 0 = #5" of CPU 1`.
    fn named(&self, text: &str, is_last: bool) -> Option<usize> {
        let (operation, cpu) = text.strip_prefix('"')?.split_once("\" of CPU ")?;
        let cpu: usize = cpu.parse().ok()?;
        self.steps.iter().position(|(by, operations)| {
            let end = if is_last { operations.last() } else { operations.first() };
            *by == cpu && end.is_some_and(|it| it == operation)
        })
    }

    /// All pairs of steps of which one is before the other.
    fn order(&self) -> Vec<(usize, usize)> {
        let of_one_cpu = (1..self.steps.len()).map(|it| (it - 1, it));
        let of_one_cpu =
            of_one_cpu.filter(|(one, other)| self.steps[*one].0 == self.steps[*other].0);
        of_one_cpu.chain(self.before.iter().copied()).collect()
    }

    /// In which column each step begins, and before which it has ended.
    fn columns(&self) -> Vec<(usize, usize)> {
        let order = self.order();
        let mut begins = vec![0; self.steps.len()];
        // So many times at most a step moves because of the one before it.
        for _ in 0..self.steps.len() {
            for (one, other) in &order {
                begins[*other] = begins[*other].max(begins[*one] + 1);
            }
        }
        let ends = begins.iter().max().map_or(0, |last| last + 1);
        let end = |step: usize| {
            let next =
                order.iter().filter(|(one, _)| *one == step).map(|(_, other)| begins[*other]);
            next.min().unwrap_or(ends)
        };
        (0..self.steps.len()).map(|step| (begins[step], end(step))).collect()
    }

    /// The drawing.
    pub fn draw(&self) -> Markup {
        let columns = self.columns();
        let cpus = self.steps.iter().map(|(cpu, _)| cpu + 1).max().unwrap_or(0);
        let lines = self.steps.iter().map(|(_, operations)| operations.len()).max().unwrap_or(1);
        let height = lines * LINE + 8;
        let top = |cpu: usize| 8 + cpu * (height + GAP);
        let widest = columns.iter().map(|(_, end)| *end).max().unwrap_or(0);
        let (width, all) = (LEFT + widest * COLUMN, top(cpus));
        html! {
            div .history {
                div {
                    svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(all)
                        viewBox={ "0 0 " (width) " " (all) } role="img"
                        aria-label="operations on a time line" {
                        @for cpu in 0..cpus {
                            @let middle = top(cpu) + height / 2;
                            text .head x="0" y=(middle + 4) { "CPU " (cpu) }
                            line .lane x1=(LEFT) x2=(width) y1=(middle) y2=(middle) {}
                        }
                        @for ((cpu, operations), (begin, end)) in self.steps.iter().zip(&columns) {
                            @let left = LEFT + begin * COLUMN + 4;
                            @let wide = (end - begin) * COLUMN - 8;
                            g .box {
                                rect x=(left) y=(top(*cpu)) width=(wide) height=(height) rx="5" {}
                                @for (number, operation) in operations.iter().enumerate() {
                                    @let line = top(*cpu) + 16 + number * LINE;
                                    text x=(left + 8) y=(line) { (operation) }
                                }
                            }
                        }
                    }
                    p .soft {
                        "Time goes to the right. Steps that overlap may have come in either order."
                    }
                }
                table {
                    tr { th { "at first" } th { "in the end" } }
                    tr { td { (map(&self.first)) } td { (map(&self.last)) } }
                }
            }
        }
    }
}

/// A map, a line per page.
fn map(text: &str) -> Markup {
    html! { @for page in text.split(", ") { div { code { (page) } } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "history is not linearizable: CPU 0: query 0 = #5 with unmap 0 = 0 \
                           frames, map 1 to #7 = done; CPU 1: unmap 0 = 1 frame; CPU 2: query 1 = \
                           nothing; \"map 1 to #7 = done\" of CPU 0 before \"query 1 = nothing\" \
                           of CPU 2; at first 0 is #5, 1 is #6, in the end 1 is #6";

    #[test]
    fn a_message_says_who_did_what_and_what_was_over_before() {
        let history = History::of(MESSAGE).expect("it tells one");
        assert_eq!(history.steps.len(), 4);
        assert_eq!(history.steps[0].1, ["query 0 = #5", "unmap 0 = 0 frames"]);
        assert_eq!(
            (history.first.as_str(), history.last.as_str()),
            ("0 is #5, 1 is #6", "1 is #6")
        );
        // CPU 1 overlaps with everything; CPU 2 comes behind both steps of CPU 0.
        assert_eq!(history.columns(), [(0, 1), (1, 2), (0, 3), (2, 3)]);
    }

    #[test]
    fn other_messages_tell_none() {
        for message in ["", "use after free: N3", "history is not linearizable: CPU x", SAYS] {
            assert_eq!(History::of(message), None, "{message:?}");
        }
    }

    #[test]
    fn all_of_it_is_drawn() {
        let drawn = History::of(MESSAGE).expect("it tells one").draw().into_string();
        for part in ["map 1 to #7 = done", "query 1 = nothing", "CPU 2", "at first", "1 is #6"] {
            assert!(drawn.contains(part), "no {part:?} in {drawn}");
        }
        assert_eq!(drawn.matches("<rect").count(), 4);
    }
}
