//! Collects the scenario files: the half that two build scripts share.
//!
//! A scenario file is registered nowhere. The build scripts of the `model-check` command and of the
//! kernel list `scenarios/tests/*.rs` and write a file of `#[path]` modules, a list of names and a
//! function that visits a scenario by its name. `include!` that file; the scenario files themselves
//! come in by `#[path]`, because `include!` refuses their `//!` headers.
//!
//! The form of a scenario file is checked as text, for what a compiler would not notice or would
//! say obscurely: the name, the header, the `scenario!` line (without it the file has no tests and
//! no test would miss them), and that it stays clear of `unsafe` and `std`, which its own test
//! target would let through. Each complaint is one sentence that says what to do.
//!
//! A header may end with `History:`, the historical bugs that the file re-creates, as a list:
//!
//! ```text
//! History:
//! * 1, linux 71b3c126e611, CVE-2016-2069: a space is switched to while it is flushed
//!   => ACTIVATE_ORDER, mistake-notes-late
//! ```
//!
//! An item is the row of the catalogue, references, what raced, and what re-creates it here: twins
//! and mistakes of the file as the commands spell them, or `mutant <name>`.
//!
//! `weft_collected` keeps the tests of a scenario file out of the collector.
//!
//! Nothing that is written names the checkout: cargo takes a copied checkout with its target folder
//! for built, and a path from `/` would go on leading to the files of the other one. So modules are
//! found from the output directory, and `ROOT` is what their source locations begin with.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The lines of a header, in this order, after the title.
const HEADER: [&str; 7] =
    ["Result:", "CPUs:", "Invariant:", "Guards against:", "Sites:", "Bounds:", "References:"];

/// What comes after them, if the file re-creates historical bugs.
const HISTORY: &str = "History:";

/// A historical bug: an item of the list at the end of a header.
#[derive(PartialEq, Eq, Debug)]
struct Bug {
    row: String,
    references: Vec<String>,
    what: String,
    hows: Vec<String>,
}

/// Writes `scenarios.rs` into the build's output directory: everything in it is visible as
/// `visibility` says. `root` is the folder of the workspace, seen from the package. With `headers`,
/// also a list of `File`, a type that the including module has.
///
/// # Panics
///
/// If the environment is not that of a build script, or a file cannot be read or written.
pub(crate) fn scenarios(root: &str, visibility: &str, headers: bool) {
    // A build script runs in the folder of its package, and cargo looks for this from there too. A
    // directory is watched together with what it contains.
    let directory = Path::new(root).join("scenarios/tests");
    println!("cargo::rerun-if-changed={}", directory.display());
    println!("cargo::rustc-cfg=weft_collected");
    println!("cargo::rustc-check-cfg=cfg(weft_collected)");
    let out = env::var("OUT_DIR").expect("cargo says where output goes");
    let out = fs::canonicalize(out).expect("cargo has made the output directory");
    let root = from(&out, &fs::canonicalize(root).expect("the workspace exists"));
    let mut files = Vec::new();
    let mut told = String::new();
    for name in names(&directory) {
        let path = directory.join(format!("{name}.rs"));
        let text = fs::read_to_string(&path).expect("a listed file can be read");
        for complaint in complaints(&name, &text) {
            println!("cargo::error=scenarios/tests/{name}.rs: {complaint}");
        }
        told += &file(&text);
        let path = root.join("scenarios/tests").join(format!("{name}.rs"));
        files.push((name, title(&text), path));
    }
    if files.is_empty() {
        println!("cargo::error=scenarios/tests has no scenario: add a file <actor>_vs_<actor>.rs");
    }
    let mut text = String::from("// Written by scenarios/collect.rs.\n");
    for (name, _, path) in &files {
        write!(text, "#[forbid(unsafe_code)]\n#[path = {path:?}]\nmod {name};\n").expect("memory");
    }
    write_lists(&mut text, &files, visibility);
    if headers {
        write!(
            text,
            "/// What each file says about itself, in the order of `NAMES`.\n\
             {visibility} const FILES: &[File] = &[{told}];\n"
        )
        .expect("memory");
    }
    write!(
        text,
        "/// What the source locations of scenarios begin with, before `scenarios/tests`.\n\
         {visibility} const ROOT: &str = concat!(env!(\"OUT_DIR\"), \"/{}/\");\n",
        root.display()
    )
    .expect("memory");
    let out = out.join("scenarios.rs");
    if fs::read_to_string(&out).is_ok_and(|before| before == text) {
        return;
    }
    fs::write(out, text).expect("the output directory can be written");
}

/// The way from one folder to another, both seen from `/`.
fn from(start: &Path, end: &Path) -> PathBuf {
    let shared = start.components().zip(end.components()).take_while(|(one, other)| one == other);
    let shared = shared.count();
    let up = start.components().skip(shared).map(|_| Path::new(".."));
    let down = end.components().skip(shared).map(|folder| Path::new(folder.as_os_str()));
    up.chain(down).collect()
}

/// The sorted stems of the scenario files.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("scenarios/tests exists");
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let files = paths.filter(|path| path.is_file() && path.extension() == Some("rs".as_ref()));
    let stems = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<String> = stems.filter(|stem| !stem.starts_with('.')).collect();
    names.sort();
    names
}

fn title(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("//! # ").unwrap_or_default().trim().to_owned()
}

fn write_lists(text: &mut String, files: &[(String, String, PathBuf)], visible: &str) {
    let names: Vec<_> = files.iter().map(|(name, _, _)| name).collect();
    let titles: Vec<_> = files.iter().map(|(_, title, _)| title).collect();
    let arms: String = files
        .iter()
        .map(|(name, _, _)| format!("        {name:?} => Some({name}::accept(visitor)),\n"))
        .collect();
    write!(
        text,
        "/// The names of all scenarios, sorted.\n\
         {visible} const NAMES: &[&str] = &{names:?};\n\
         /// The titles of all scenarios, in the order of `NAMES`.\n\
         {visible} const TITLES: &[&str] = &{titles:?};\n\
         /// Shows the scenario called `name` to a visitor.\n\
         {visible} fn visit<B, V>(name: &str, visitor: V) -> Option<V::Out>\n\
         where\n    B: ::weft_scenarios::world::World,\n    V: ::weft_scenarios::Visitor<B>,\n\
         {{\n    match name {{\n{arms}        _ => None,\n    }}\n}}\n"
    )
    .expect("a string takes any text");
}

/// A value of the type `File`, as code.
fn file(text: &str) -> String {
    let parts: String =
        HEADER.iter().map(|key| format!("({key:?}, {:?}), ", part(text, key))).collect();
    let bugs: String = bugs(text)
        .into_iter()
        .filter_map(Result::ok)
        .map(|Bug { row, references, what, hows }| {
            format!(
                "Bug {{ row: {row:?}, references: &{references:?}, what: {what:?}, hows: \
                 &{hows:?} }}, "
            )
        })
        .collect();
    let lines = text.lines().count();
    format!("    File {{ lines: {lines}, header: &[{parts}], bugs: &[{bugs}] }},\n")
}

/// The lines of the header, without what makes them comments.
fn header(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
}

/// One part of the header, on one line.
fn part(text: &str, key: &str) -> String {
    let is_part = |line: &&str| line.starts_with(' ');
    let mut lines = header(text).skip_while(|line| !line.starts_with(key));
    let first = lines.next().and_then(|line| line.strip_prefix(key)).unwrap_or_default();
    lines.take_while(is_part).fold(first.trim().to_owned(), |all, line| all + " " + line.trim())
}

/// The historical bugs that the file re-creates; an item that has another form comes back as it is.
fn bugs(text: &str) -> Vec<Result<Bug, String>> {
    let mut items: Vec<String> = Vec::new();
    for line in header(text).skip_while(|line| !line.starts_with(HISTORY)).skip(1) {
        match items.last_mut() {
            Some(item) if line.starts_with("  ") => {
                item.push(' ');
                item.push_str(line.trim());
            }
            _ => items.push(line.trim_end().to_owned()),
        }
    }
    items.into_iter().map(|item| bug(&item).ok_or(item)).collect()
}

/// Reads `* <row>, <reference>, ..: <what raced> => <how>, ..`.
fn bug(item: &str) -> Option<Bug> {
    let (before, hows) = item.strip_prefix("* ")?.split_once(" => ")?;
    let (references, what) = before.split_once(": ")?;
    let list = |text: &str| text.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>();
    let (mut references, hows) = (list(references), list(hows));
    let row = references.remove(0);
    let number = row.strip_prefix('N').unwrap_or(&row);
    let is_row = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    let is_how = |how: &String| {
        let words = how.strip_prefix("mutant ").unwrap_or(how);
        !words.is_empty() && !words.contains(' ')
    };
    let is_plain = !what.contains([':', ';']) && !what.trim().is_empty();
    let is_whole = !references.is_empty()
        && references.iter().all(|one| one.contains(' ') || one.starts_with("CVE-"));
    let is_good = is_row && is_whole && is_plain && hows.iter().all(is_how);
    is_good.then(|| Bug { row, references, what: what.trim().to_owned(), hows })
}

/// What is wrong with a scenario file, as instructions.
fn complaints(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !is_race(name) {
        complaints.push("rename it to <actor>_vs_<actor>.rs, in lower case".to_owned());
    }
    if title(text).is_empty() {
        complaints.push("begin it with a line `//! # <title>`".to_owned());
    }
    let header: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
    let mut from = 0;
    let mut lacks = Vec::new();
    for key in HEADER {
        let found = header[from..].iter().position(|line| line.trim_start().starts_with(key));
        match found {
            Some(position) => from += position + 1,
            None => lacks.push(key),
        }
    }
    if !lacks.is_empty() {
        complaints.push(format!(
            "add to the header, as `//! <name> ..`: {}; the order is {}",
            lacks.join(" "),
            HEADER.join(" ")
        ));
    }
    if let Some(position) = header.iter().position(|line| line.trim_start().starts_with(HISTORY)) {
        let is_last = lacks.is_empty() && position >= from;
        if !is_last || bugs(text).is_empty() {
            complaints.push(
                "`History:` is a line of its own, at the end of the header, and a list follows"
                    .to_owned(),
            );
        }
        for item in bugs(text).into_iter().filter_map(Result::err) {
            complaints.push(format!(
                "write `* <row>, <reference>, ..: <what raced> => <how>, ..` instead of {item:?}: \
                 a row is as 1 or N1, a reference as `linux 71b3c126e611` or `CVE-2016-2069`, a \
                 how as `no-shootdown` or `mutant <name>`"
            ));
        }
    }
    if !text.lines().any(|line| line.starts_with("scenario!(")) {
        complaints.push("end it with the line `scenario!(Race);`".to_owned());
    }
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    for (number, line) in code.enumerate() {
        let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        if words.contains(&"unsafe") {
            complaints.push(format!("line {}: a scenario does without `unsafe`", number + 1));
        }
        for path in ["std", "crate", "super"] {
            if words.contains(&path) && line.contains(&format!("{path}::")) {
                complaints.push(format!(
                    "line {}: import from `core` and `weft_scenarios`, not from `{path}::`",
                    number + 1
                ));
            }
        }
    }
    complaints
}

/// Whether a name has the form `<actor>_vs_<actor>`.
fn is_race(name: &str) -> bool {
    let actor = |actor: &str| {
        actor.starts_with(|c: char| c.is_ascii_lowercase())
            && !actor.ends_with('_')
            && actor.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    name.split_once("_vs_").is_some_and(|(one, other)| actor(one) && actor(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "//! # Walk vs. map\n//! Result: Never.\n//! CPUs: two,\n//!   and more.\n\
        //! Invariant: x.\n//! Guards against: x.\n//! Sites: X.\n//! Bounds: 2.\n\
        //! References: none.\nuse weft_scenarios::prelude::*;\n\
        // std::x, unsafe\nscenario!(Race);\n";

    #[test]
    fn a_file_of_the_right_form_is_taken() {
        assert!(complaints("walk_vs_map", GOOD).is_empty());
        assert_eq!(title(GOOD), "Walk vs. map");
    }

    #[test]
    fn ways_lead_up_and_then_down() {
        let way = |start: &str, end: &str| from(Path::new(start), Path::new(end));
        assert_eq!(way("/w/target/debug/out", "/w"), Path::new("../../.."));
        assert_eq!(way("/tmp/out", "/w/weft"), Path::new("../../w/weft"));
    }

    #[test]
    fn names_are_races() {
        for name in ["walk_vs_map", "lock_vs_lock_overlapping", "cpu0_vs_cpu1"] {
            assert!(is_race(name), "{name}");
        }
        for name in ["walk", "walk_vs_", "_vs_map", "Walk_vs_map", "walk_vs_map_", "walk-vs-map"] {
            assert!(!is_race(name), "{name}");
            assert_eq!(complaints(name, GOOD).len(), 1, "{name}");
        }
    }

    #[test]
    fn every_defect_is_one_instruction() {
        for (from, to, part) in [
            ("//! # Walk", "//! Walk", "begin it with"),
            ("//! Sites: X.\n", "", ": Sites:; the"),
            ("//! CPUs: two,", "//! two,", ": CPUs:; the"),
            ("scenario!(Race);", "// scenario!(Race);", "end it with the line"),
            ("scenario!(", "unsafe {}\nscenario!(", "does without `unsafe`"),
            ("use weft", "use std::x;\nuse weft", "not from `std::`"),
            ("use weft", "use crate::x;\nuse weft", "not from `crate::`"),
        ] {
            let found = complaints("walk_vs_map", &GOOD.replace(from, to));
            assert_eq!(found.len(), 1, "{from:?} to {to:?}: {found:?}");
            assert!(found[0].contains(part), "{from:?} to {to:?}: {found:?}");
        }
    }

    /// The good file with a history.
    fn with(history: &str) -> String {
        GOOD.replace("References: none.\n", &format!("References: none.\n{history}"))
    }

    #[test]
    fn a_history_is_a_list_of_bugs() {
        let text = with(
            "//! History:\n//! * 1, linux 71b3c126e611, CVE-2016-2069: a space is switched to\n\
             //!   while it is flushed => ACTIVATE_ORDER\n\
             //! * N17, tgoskits #2009: freed early\n\
             //!   => mistake-frees-first, mutant no_wait\n",
        );
        assert_eq!(complaints("walk_vs_map", &text), Vec::<String>::new());
        let found = bugs(&text);
        assert_eq!(found.len(), 2);
        let first = found[0].as_ref().expect("it is well formed");
        assert_eq!(first.references, ["linux 71b3c126e611", "CVE-2016-2069"]);
        assert_eq!(first.what, "a space is switched to while it is flushed");
        let second = found[1].as_ref().expect("it is well formed");
        assert_eq!(
            (second.row.as_str(), &*second.hows),
            ("N17", &["mistake-frees-first".to_owned(), "mutant no_wait".to_owned()][..])
        );
        assert_eq!(part(&text, "CPUs:"), "two, and more.");
        let code = file(&text);
        assert!(code.contains(r#"row: "N17", references: &["tgoskits #2009"]"#), "{code}");
        assert!(code.contains(r#"("CPUs:", "two, and more.")"#), "{code}");
    }

    #[test]
    fn a_history_of_another_form_is_refused() {
        for (item, part) in [
            ("* 1, linux 71b: it raced", "write `* <row>"),
            ("* linux 71b: it raced => x", "write `* <row>"),
            ("* N, linux 71b: it raced => x", "write `* <row>"),
            ("* 1: it raced => x", "write `* <row>"),
            ("* 1, linux: it raced => x", "write `* <row>"),
            ("* 1, linux 71b: a; b => x", "write `* <row>"),
            ("* 1, linux 71b: => x", "write `* <row>"),
            ("* 1, linux 71b: it raced => ", "write `* <row>"),
            ("* 1, linux 71b: it raced => no shootdown", "write `* <row>"),
            ("1, linux 71b: it raced => x", "write `* <row>"),
        ] {
            let found = complaints("walk_vs_map", &with(&format!("//! History:\n//! {item}\n")));
            assert_eq!(found.len(), 1, "{item:?}: {found:?}");
            assert!(found[0].contains(part), "{item:?}: {found:?}");
        }
        let early = GOOD.replace("//! Bounds", "//! History:\n//! * 1, a b: c => d\n//! Bounds");
        for text in [with("//! History:\n"), early] {
            let found = complaints("walk_vs_map", &text);
            assert!(found.iter().any(|it| it.contains("at the end of the header")), "{found:?}");
        }
    }

    #[test]
    fn the_order_of_the_header_counts() {
        let swapped = GOOD
            .replace("//! Sites: X.\n", "")
            .replace("//! References: none.\n", "//! References: none.\n//! Sites: X.\n");
        let found = complaints("walk_vs_map", &swapped);
        assert!(!found.is_empty() && found[0].contains("the order is"), "{found:?}");
    }
}
