//! The table of races that shipped is true.

use crate::run;

/// What the explorer finds, and after how many executions, is what the table says. Mutants are not
/// built for it: what is kept of them is not looked at here.
#[test]
fn the_explorer_finds_what_the_table_says() {
    let ran = run(&["races", "--check", "--engine", "explorer", "--format", "json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.out);
    let value = ran.json();
    let races = value["races"].as_array().expect("a list of races");
    assert!(races.len() > 30, "{} races", races.len());
    for race in races {
        assert!(race["found"]["explorer"]["after"].is_u64(), "{race}");
    }
}
