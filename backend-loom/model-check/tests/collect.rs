//! Gives the shared half of the build scripts, `scenarios/collect.rs`, a place to run its tests.

#[path = "../../../scenarios/collect.rs"]
#[expect(dead_code, reason = "what is tested here is the checks, which build scripts call")]
mod collect;

/// cargo takes a copied checkout with its target folder for built. What is collected there must
/// then be the copy's: so neither the modules nor what cargo watches may be named from `/`.
#[test]
fn what_is_collected_names_no_checkout() {
    let package = std::env::current_dir().expect("tests run in the folder of their package");
    let checkout = package.ancestors().nth(2).expect("the package is in the workspace");
    let checkout = checkout.to_str().expect("the path is text");
    let instructions = concat!(env!("OUT_DIR"), "/../output");
    let instructions = std::fs::read_to_string(instructions).expect("cargo keeps what was said");
    assert!(instructions.contains("rerun-if-changed=../../scenarios/tests"), "{instructions}");
    for text in [include_str!(concat!(env!("OUT_DIR"), "/scenarios.rs")), &instructions] {
        assert!(!text.contains(checkout), "{checkout} is in:\n{text}");
    }
}
