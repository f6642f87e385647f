//! Pages in a browser: they step, without an error, and look as the document shows them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::browser::Browser;
use crate::golden::is_written_anew;
use crate::report::page_of;

/// The pictures of the document, and the failures that they show.
const PICTURES: [(&str, &str, &str); 3] = [
    ("stale", "use_vs_unmap", "no-shootdown"),
    ("order", "lock_vs_lock", "LOCK_RELEASE"),
    ("freed", "walk_vs_detach", "freed-at-once"),
];

/// The failure with the most steps that decide of all twins, when it was measured.
const WORST: (&str, &str) = ("take_vs_use", "no-shootdown");

/// How many pixels high and wide is what is compared as one.
const BLOCK: usize = 16;

/// How far pictures may be apart, in mean brightness of a block, from 0 to 255. Other fonts move
/// letters within a block; another page, or other colours, are further off.
const APART_MAX: f64 = 4.0;

/// The mean brightness of each block of a picture.
fn blocks(png: &[u8]) -> Vec<f64> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().expect("a picture");
    let mut bytes = vec![0; reader.output_buffer_size().expect("it fits into memory")];
    let info = reader.next_frame(&mut bytes).expect("a whole picture");
    assert_eq!((info.width, info.height), (1280, 800));
    let samples = info.color_type.samples();
    let wide = info.width as usize / BLOCK;
    let mut sums = vec![0.0; wide * (info.height as usize / BLOCK)];
    for (at, pixel) in bytes.chunks_exact(samples).enumerate() {
        let (x, y) = (at % info.width as usize, at / info.width as usize);
        let brightness = pixel[..3].iter().map(|it| f64::from(*it)).sum::<f64>() / 3.0;
        sums[y / BLOCK * wide + x / BLOCK] += brightness / (BLOCK * BLOCK) as f64;
    }
    sums
}

/// How far two pictures are apart.
fn apart(one: &[u8], other: &[u8]) -> f64 {
    let (one, other) = (blocks(one), blocks(other));
    let differences = one.iter().zip(&other).map(|(one, other)| (one - other).abs());
    differences.sum::<f64>() / one.len() as f64
}

fn committed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/pictures/{name}.png"))
}

#[test]
fn pages_look_as_the_document_shows_them() {
    let Some(mut browser) = Browser::open("the look of pages") else { return };
    let mut seen = Vec::new();
    for (name, scenario, sabotage) in PICTURES {
        let page = page_of(scenario, sabotage, &format!("look-{name}"));
        browser.emulate("screen", "light");
        browser.show(&page);
        let picture = browser.picture();
        let path = committed(name);
        if is_written_anew() {
            std::fs::write(&path, &picture).expect("the document can be written");
        }
        let known = std::fs::read(&path).expect("the document has it");
        let distance = apart(&known, &picture);
        assert!(distance < APART_MAX, "{name} is {distance:.1} off: look, and WRITE_GOLDEN=1");
        browser.emulate("screen", "dark");
        let dark = browser.picture();
        assert!(apart(&known, &dark) > 100.0, "dark colours are seen to be others");
        seen.push((name, known));
    }
    for (name, known) in &seen {
        for (other, picture) in seen.iter().filter(|(other, _)| other != name) {
            let distance = apart(known, picture);
            assert!(distance > APART_MAX, "{name} and {other} are only {distance:.1} apart");
        }
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_page_steps_forward_and_back_without_an_error() {
    let page = page_of("use_vs_unmap", "no-shootdown", "steps");
    let Some(mut browser) = Browser::open("stepping through pages") else { return };
    browser.show(&page);
    let step = "document.getElementById('step').textContent";
    let tree = "document.getElementById('tree').textContent";
    let source = "document.querySelector('#source .here').textContent";
    let last = browser.value(step);
    let after = browser.value(tree);
    assert!(last.as_str().is_some_and(|step| step.starts_with("step ")), "{last}");
    browser.press("Home");
    let first = browser.value(step);
    let before = browser.value(tree);
    assert_ne!((&first, &before), (&last, &after), "Home goes to the first step");
    browser.press("ArrowRight");
    let second = browser.value(step);
    assert_ne!(first, second);
    browser.press("ArrowLeft");
    assert_eq!((browser.value(step), browser.value(tree)), (first, before), "there and back");
    assert!(browser.value(source).as_str().is_some_and(|line| !line.is_empty()));
    browser.press("End");
    assert_eq!((browser.value(step), browser.value(tree)), (last, after));
    // The mouse does as the keys do, and every step can be visited.
    browser.value("document.getElementById('back').click()");
    browser.value("document.getElementById('all').click()");
    browser.value("document.getElementById('first').click()");
    assert!(browser.value(step).as_str().is_some_and(|step| step.starts_with("step 1 of ")));
    assert_eq!(browser.complaints, Vec::<String>::new());
    browser.value("setTimeout(() => { throw new Error('on purpose'); })");
    browser.value("new Promise((done) => setTimeout(done))");
    assert_eq!(browser.complaints.len(), 1, "an error of a script is seen");
}

#[test]
fn the_steps_that_decide_are_seen_without_scrolling() {
    let page = page_of(WORST.0, WORST.1, "worst");
    let Some(mut browser) = Browser::open("that steps fit a screen") else { return };
    browser.show(&page);
    let boxes = "[...document.querySelectorAll('svg.steps g[data-step]')]\
                 .map((it) => it.getBoundingClientRect())\
                 .map((it) => [it.left, it.top, it.right, it.bottom])";
    let placed = browser.value(boxes);
    let placed = placed.as_array().expect("a list");
    assert!(placed.len() >= 12, "{} is not the worst", placed.len());
    for place in placed {
        let at = |index: usize| place[index].as_f64().expect("a number");
        let is_seen = at(0) >= 0.0 && at(1) >= 0.0 && at(2) <= 1280.0 && at(3) <= 800.0;
        assert!(is_seen, "{place} is outside of 1280 x 800");
    }
    // Letters stay letters.
    let size = "document.querySelector('svg.steps text.what').getBoundingClientRect().height";
    let size = browser.value(size).as_f64().expect("a number");
    assert!(size >= 9.0, "text of {size} pixels cannot be read");
    browser.resize(1280, 300);
    let bottom = browser.value(boxes).as_array().and_then(|all| all.last()?[3].as_f64());
    assert!(bottom > Some(300.0), "on a small screen letters are more than fitting: {bottom:?}");
}

#[test]
fn a_printed_page_has_no_controls_and_all_of_the_drawing() {
    let page = page_of(WORST.0, WORST.1, "printed");
    let Some(mut browser) = Browser::open("printing pages") else { return };
    browser.show(&page);
    let shown = "getComputedStyle(document.querySelector('.controls')).display";
    let height = "document.querySelector('svg.steps').getBoundingClientRect().height";
    let (on_screen, scaled) = (browser.value(shown), browser.value(height).as_f64());
    browser.emulate("print", "light");
    let (on_paper, whole) = (browser.value(shown), browser.value(height).as_f64());
    assert_eq!((on_screen, on_paper), (Value::from("block"), Value::from("none")));
    assert!(whole > scaled, "{scaled:?}, {whole:?}");
    let printed = browser.ask("Page.printToPDF", &serde_json::json!({}));
    assert!(printed["data"].as_str().is_some_and(|data| data.starts_with("JVBERi")), "a PDF");
}
