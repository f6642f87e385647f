//! Each kind of failure as text and as a page, compared with files.
//!
//! `WRITE_GOLDEN=1 cargo test -p weft-model-check --test command` writes the files anew, and the
//! pictures of the document; what has changed is then to be read. Line numbers are left out, since
//! they change with every edit; so are tokens and times.

use std::fmt::Write as _;
use std::path::Path;

use crate::report::folder;
use crate::run;

/// The file of each kind, and the options that lead to one.
const KINDS: [(&str, &[&str]); 11] = [
    ("race.txt", &["lock_vs_lock", "--sabotage", "LOCK_RELEASE"]),
    ("use-after-free.txt", &["walk_vs_detach", "--sabotage", "freed-at-once"]),
    // The search for a smaller one is long: it is another test's.
    (
        "deadlock.txt",
        &["flush_vs_flush", "--sabotage", "masked-shootdown", "--smallest-within", "200"],
    ),
    ("leak.txt", &["walk_vs_detach", "--sabotage", "never-freed"]),
    ("lost-mapping.txt", &["create_vs_install", "--sabotage", "mistake-copies-first"]),
    ("lost-bit.txt", &["protect_vs_hardware", "--sabotage", "torn-updates"]),
    ("forbidden-outcome.txt", &["use_vs_remap", "--sabotage", "no-shootdown"]),
    ("stale-translation.txt", &["use_vs_unmap", "--sabotage", "no-shootdown"]),
    ("not-linearizable.txt", &["take_vs_unmap", "--sabotage", "mistake-looks-first"]),
    ("unreached.txt", &["walk_vs_detach", "--deviations", "0", "--no-twins"]),
    ("survived.txt", &["lock_vs_lock", "--sabotage", "freed-at-once"]),
];

/// Whether files are to be written anew instead of compared.
pub(crate) fn is_written_anew() -> bool {
    std::env::var_os("WRITE_GOLDEN").is_some_and(|value| value == "1")
}

/// A line without what changes from run to run, or with every edit of a source file.
fn lasting(line: &str) -> String {
    if let Some(label) = ["  REPLAY    ", "  PAGE      ", "report: ", "again: just replay "]
        .into_iter()
        .find(|label| line.starts_with(label))
    {
        return format!("{label}..");
    }
    let line = match line.rsplit_once(", in ") {
        Some((before, time)) if time.ends_with(" s") => format!("{before}, in .. s"),
        _ => line.to_owned(),
    };
    // `run.rs:189` and `tests/a_vs_b.rs:7:40`.
    let mut parts = line.split(".rs:");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = |c: char| c.is_ascii_digit() || c == ':';
        let rest = part.trim_start_matches(digits);
        let colon = if part[..part.len() - rest.len()].ends_with(':') { ":" } else { "" };
        write!(text, ".rs:#{colon}{rest}").expect("memory");
    }
    text
}

/// What the command says below its first table, which has times in it.
fn told(out: &str) -> String {
    let told = out.lines().skip_while(|line| !line.is_empty()).skip(1);
    told.map(|line| lasting(line) + "\n").collect()
}

/// What a page shows before its script runs: texts, and the kinds of its arrows. Cells of a row of
/// a table are one line.
fn shown(page: &str) -> String {
    let body = page.split_once("<body>").expect("a page has a body").1;
    let body = body.split_once("<details>").map_or(body, |(before, _)| before);
    let mut text = String::new();
    for piece in body.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').expect("tags end");
        if let Some(kind) = tag.strip_prefix("path class=\"").and_then(|it| it.split('"').next()) {
            writeln!(text, "[{kind}]").expect("memory");
        }
        let ends =
            ["/p", "/h1", "/h2", "/tr", "/text", "/button", "/label", "/div", "/li", "/span"];
        if ends.contains(&tag) && !text.ends_with('\n') {
            text.push('\n');
        }
        if tag == "/td" || tag == "/th" || tag.starts_with("small") {
            text.push_str("  ");
        }
        text.push_str(content);
    }
    let text = text.replace("&gt;", ">").replace("&lt;", "<").replace("&quot;", "\"");
    let text = text.replace("&amp;", "&");
    text.lines().map(|line| lasting(line.trim_end()) + "\n").collect()
}

/// The index without its times.
fn index(page: &str) -> String {
    let cell = |cell: &str| match cell.strip_suffix(" s").map(str::parse::<f64>) {
        Some(Ok(_)) => ".. s".to_owned(),
        _ => cell.to_owned(),
    };
    let line = |line: &str| line.split("  ").map(cell).collect::<Vec<_>>().join("  ") + "\n";
    shown(page).lines().map(line).collect()
}

#[test]
fn every_kind_of_failure_reads_as_on_file() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut others = Vec::new();
    for (kind, options) in KINDS {
        let report = folder(&format!("golden-{kind}"));
        // What an earlier run has left is not looked at.
        let _ = std::fs::remove_dir_all(&report);
        let path = report.to_str().expect("a name of ours");
        let ran = run(&[options, &["--engine", "explorer", "--report", path]].concat());
        let text = told(&ran.out);
        // The last line is one line, for scripts.
        for line in text.lines().filter(|line| !line.ends_with(", in .. s")) {
            assert!(line.chars().count() <= 80, "{kind} is wider than 80 columns: {line}");
        }
        let pages = report.read_dir().expect("the report is there").map(|entry| {
            let path = entry.expect("it can be read").path();
            std::fs::read_to_string(path).expect("pages are text")
        });
        let (index_page, failure): (Vec<String>, Vec<String>) =
            pages.partition(|page| page.contains("<title>Weft: a run of the models"));
        let page = match failure.as_slice() {
            [] => index(&index_page[0]),
            [page] => shown(page),
            pages => panic!("{kind} has {} pages", pages.len()),
        };
        let code = ran.code.expect("it was not killed");
        let now = format!("exit code {code}\n\n{text}\n---- the page\n\n{page}");
        let file = directory.join(kind);
        if is_written_anew() {
            std::fs::create_dir_all(&directory).expect("a folder can be made");
            std::fs::write(&file, &now).expect("it can be written");
        }
        let known = std::fs::read_to_string(&file).unwrap_or_default();
        if known != now {
            others.push(format!("{kind} is not as in {}:\n{now}", file.display()));
        }
    }
    let many = others.len();
    assert!(many == 0, "{}\n{many} are others; WRITE_GOLDEN=1 writes them", others.join("\n"));
}

#[test]
fn what_does_not_last_is_left_out() {
    for (line, lasts) in [
        (" 4  N1 := 0   entry.rs:508", " 4  N1 := 0   entry.rs:#"),
        ("at a.rs:7:40 and b.rs:3: nothing", "at a.rs:# and b.rs:#: nothing"),
        ("  REPLAY    just replay wt2:0", "  REPLAY    .."),
        ("GOOD; 1 scenario, in 0.3 s", "GOOD; 1 scenario, in .. s"),
        ("a page in 80 columns", "a page in 80 columns"),
    ] {
        assert_eq!(lasting(line), lasts);
    }
}
