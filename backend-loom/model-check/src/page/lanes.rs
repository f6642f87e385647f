//! The steps that decide an execution as a drawing: a lane per CPU, boxes, arrows.

use maud::{Markup, html};
use weft_backend_loom::report::{Counterexample, Line};
use weft_shell::text::fold;

/// Sizes, in units of the drawing: pixels, unless the page is scaled.
const TEXT: usize = 15;
/// In hundredths.
const LETTER: usize = 724;
const LEFT: usize = 40;
const RIGHT: usize = 170;
const GAP: usize = 16;
/// A drawing is made smaller to fit a screen, but not below so many hundredths of its size.
const SCALE_MIN: usize = 62;
const HEAD: usize = 30;

/// A step, placed.
struct Placed<'a> {
    index: usize,
    line: &'a Line,
    /// The lines of its text, and how each is drawn.
    text: Vec<(&'static str, String)>,
    lane: usize,
    top: usize,
    height: usize,
    /// Steps that were left out before it.
    skipped: usize,
}

impl Placed<'_> {
    fn middle(&self) -> usize {
        self.top + self.height / 2
    }
}

/// The drawing. What is above it on the page is `above` pixels high, and the rest of a screen is
/// its own.
pub(super) fn draw(failure: &Counterexample, missing: &str, above: usize) -> Markup {
    let cpus = failure.roles.len();
    let lane = if cpus <= 2 { 290 } else { 640 / cpus };
    let (placed, height) = place(failure, lane);
    let width = LEFT + cpus * lane + RIGHT;
    let least = height * SCALE_MIN / 100;
    let style = format!("height:{height}px;max-height:max({least}px, calc(100vh - {above}px))");
    html! {
        svg .steps xmlns="http://www.w3.org/2000/svg" style=(style)
            viewBox={ "0 0 " (width) " " (height) } role="img" aria-label="the steps that decide" {
            defs {
                @for kind in ["reads", "orders", "bad"] {
                    marker id={ "tip-" (kind) } class=(kind) viewBox="0 0 8 8" refX="7" refY="4"
                        markerWidth="7" markerHeight="7" orient="auto-start-reverse" {
                        path d="M0 0 L8 4 L0 8 z" {}
                    }
                }
            }
            @for (cpu, role) in failure.roles.iter().enumerate() {
                @let middle = LEFT + cpu * lane + lane / 2;
                text .head x=(middle) y="16" text-anchor="middle" { "CPU " (cpu) " · " (role) }
                line .lane x1=(middle) x2=(middle) y1="24" y2=(height) {}
            }
            @for step in &placed { (draw_step(step, lane, width)) }
            (arrows(failure, &placed, lane, missing))
        }
    }
}

/// Places the steps that decide, one below the other, and says how high the drawing is.
fn place(failure: &Counterexample, lane: usize) -> (Vec<Placed<'_>>, usize) {
    let all = failure.lines.iter().all(|line| !line.decides);
    let mut placed: Vec<Placed<'_>> = Vec::new();
    let (mut top, mut next) = (HEAD, 0);
    for (index, line) in failure.lines.iter().enumerate() {
        if !all && !line.decides {
            continue;
        }
        let skipped = index - next;
        let text = told(line, (lane - 32) * 100 / LETTER);
        let height = text.len() * TEXT + 8;
        let lane = line.cpu.min(failure.roles.len() - 1);
        placed.push(Placed { index, line, text, lane, top, height, skipped });
        top += height + GAP;
        next = index + 1;
    }
    (placed, top)
}

fn told(line: &Line, room: usize) -> Vec<(&'static str, String)> {
    let mut text = Vec::new();
    let mut add = |kind: &'static str, content: &str| {
        text.extend(fold(content, room).into_iter().map(|line| (kind, line)));
    };
    if !line.text.is_empty() {
        add("what", &line.text);
    }
    if let Some(site) = &line.site {
        let order = line.order.as_deref().filter(|_| site != "hardware");
        let order = order.map_or(String::new(), |order| format!(" ({order})"));
        add("site", &format!("{site}{order}"));
    }
    if let Some(missed) = line.missed {
        add("note", &format!("old: misses step {}", missed + 1));
    }
    if !line.state.is_empty() {
        add("state", &format!("\u{2192} {}", line.state));
    }
    if line.fails {
        add("note", "fails here");
    }
    text
}

fn draw_step(step: &Placed<'_>, lane: usize, width: usize) -> Markup {
    let left = LEFT + step.lane * lane + 10;
    let kind = match (step.line.fails, step.line.missed) {
        (true, _) => "box fails",
        (false, Some(_)) => "box old",
        (false, None) => "box",
    };
    let place = step.line.at.rsplit('/').next().unwrap_or_default();
    html! {
        @if step.skipped > 0 {
            text .fold x=(LEFT) y=(step.top - 4) { "· · · " (step.skipped) " more" }
        }
        text .number x=(LEFT - 8) y=(step.top + 17) text-anchor="end" { (step.index + 1) }
        g class=(kind) data-step=(step.index) {
            rect x=(left) y=(step.top) width=(lane - 20) height=(step.height) rx="5" {}
            @for (number, (kind, line)) in step.text.iter().enumerate() {
                text class=(kind) x=(left + 8) y=(step.top + 15 + number * TEXT) { (line) }
            }
        }
        text .place x=(width - 4) y=(step.top + 17) text-anchor="end" { (place) }
    }
}

/// Whether a write and a read of it order what is before the one and behind the other.
fn synchronises(write: &Line, read: &Line) -> bool {
    let is = |line: &Line, orders: &[&str]| {
        line.order.as_deref().is_some_and(|order| orders.contains(&order))
    };
    is(write, &["Release", "AcqRel", "SeqCst"]) && is(read, &["Acquire", "AcqRel", "SeqCst"])
}

fn arrows(failure: &Counterexample, placed: &[Placed<'_>], lane: usize, missing: &str) -> Markup {
    let find = |index: usize| placed.iter().find(|step| step.index == index);
    let mut drawn: Vec<Markup> = Vec::new();
    let mut add = |from: usize, to: usize, kind: &str, tip: &str, label: &str| {
        if let (Some(from), Some(to)) = (find(from), find(to)) {
            drawn.push(arrow(from, to, lane, kind, tip, label));
        }
    };
    for step in placed {
        let Some(from) = step.line.reads_from else { continue };
        if failure.lines[from].cpu != step.line.cpu {
            let orders = synchronises(&failure.lines[from], step.line);
            let kind = if orders { "orders" } else { "reads" };
            add(from, step.index, kind, kind, "");
        }
    }
    let ends = failure.missing.as_ref().map(|missing| (missing.from, missing.to));
    for step in placed {
        let Some(from) = step.line.missed else { continue };
        if Some((from, step.index)) != ends {
            add(from, step.index, "missed", "bad", "");
        }
    }
    if let Some((from, to)) = ends {
        add(from, to, "missing", "bad", missing);
    }
    html! { @for arrow in drawn { (arrow) } }
}

fn arrow(
    from: &Placed<'_>,
    to: &Placed<'_>,
    lane: usize,
    kind: &str,
    tip: &str,
    label: &str,
) -> Markup {
    let edge = |step: &Placed<'_>, right: bool| {
        LEFT + step.lane * lane + if right { lane - 10 } else { 10 }
    };
    let goes_right = from.lane < to.lane;
    let is_same = from.lane == to.lane;
    let (x1, x2) = (edge(from, goes_right), edge(to, !goes_right && !is_same));
    let (y1, y2) = (from.middle(), to.middle());
    // Within a lane the arrow goes around the boxes, on their left.
    let bend: isize = if is_same {
        -36
    } else if goes_right {
        40
    } else {
        -40
    };
    let (c1, c2) = (x1 as isize + bend, x2 as isize + if is_same { bend } else { -bend });
    // Between the boxes, where there is room above the end of the arrow.
    let (middle_x, label_y) = ((x1 + x2) / 2, to.top - 5);
    html! {
        path class=(kind) marker-end={ "url(#tip-" (tip) ")" }
            d={ "M" (x1) " " (y1) " C" (c1) " " (y1) " " (c2) " " (y2) " " (x2) " " (y2) } {}
        @if !label.is_empty() {
            text .label x=(middle_x) y=(label_y) text-anchor="middle" { (label) }
        }
    }
}
