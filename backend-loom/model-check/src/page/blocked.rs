//! Who waits for whom when a deadlocked execution ends: CPUs, and an arrow for each wait.

use maud::{Markup, html};
use weft_backend_loom::report::{Blocked, Counterexample};

/// Sizes, in pixels.
const BOX: usize = 130;
const APART: usize = 300;
const RISE: usize = 46;

/// The drawing.
pub(super) fn draw(failure: &Counterexample) -> Markup {
    let cpus = failure.roles.len();
    // Arrows to the right go above the boxes, those to the left below.
    let rise = RISE * cpus / 4 + 20;
    let (width, height) = ((cpus - 1) * APART + BOX, 2 * rise + 40);
    html! {
        svg .blocked xmlns="http://www.w3.org/2000/svg" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) } role="img" aria-label="who waits for whom" {
            defs {
                marker id="tip-waits" .bad viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"
                    markerHeight="7" orient="auto-start-reverse" {
                    path d="M0 0 L8 4 L0 8 z" {}
                }
            }
            @for (cpu, role) in failure.roles.iter().enumerate() {
                @let waits = failure.blocked.iter().any(|it| it.cpu == cpu);
                g .(if waits { "box fails" } else { "box" }) {
                    rect x=(cpu * APART) y=(rise) width=(BOX) height="40" rx="5" {}
                    text .head x=(cpu * APART + 8) y=(rise + 17) { "CPU " (cpu) }
                    text x=(cpu * APART + 8) y=(rise + 32) { (role) }
                }
            }
            @for wait in &failure.blocked { (arrow(wait, rise)) }
        }
        @for wait in failure.blocked.iter().filter(|wait| wait.by.is_none()) {
            p { "CPU " (wait.cpu) " waits for " (wait.place) ", and no CPU holds it." }
        }
    }
}

fn arrow(wait: &Blocked, rise: usize) -> Markup {
    let Some(by) = wait.by else { return html! {} };
    let middle = |cpu: usize| cpu * APART + BOX / 2;
    let (from, to) = (middle(wait.cpu), middle(by));
    let height = RISE * wait.cpu.abs_diff(by).max(1) / 2;
    let goes_right = wait.cpu < by;
    // A CPU that waits for itself has an arrow that leads back to it.
    let (from, to) = if from == to { (from - 30, to + 30) } else { (from, to) };
    let (edge, peak, label) = if goes_right || wait.cpu == by {
        (rise, rise - height, rise - height + 6)
    } else {
        (rise + 40, rise + 40 + height, rise + 40 + height)
    };
    html! {
        path .missing marker-end="url(#tip-waits)"
            d={ "M" (from) " " (edge) " Q" ((from + to) / 2) " " (peak) " " (to) " " (edge) } {}
        text .label x=((from + to) / 2) y=(label) text-anchor="middle" {
            "waits for " (wait.place)
        }
    }
}
