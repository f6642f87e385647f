//! What a failure says, how it is replayed, and what input is refused.

use std::process::Command;

use crate::{expect, failure};
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

/// Two threads that count as one.
fn lose_one() {
    let count = Arc::new(AtomicUsize::new(0));
    let other = Arc::clone(&count);
    let increment = |count: &AtomicUsize| count.store(count.load(Relaxed) + 1, Relaxed);
    let thread = thread::spawn(move || increment(&other));
    increment(&count);
    thread.join().unwrap();
    assert_eq!(count.load(Relaxed), 2, "a count is lost");
}

/// Run by the tests below, in a process of its own.
#[test]
fn child() {
    if std::env::var_os("WEFT_LOOM_CHILD").is_some() {
        loom::model(lose_one);
    }
}

fn run_child(variables: &[(&str, &str)]) -> (bool, String) {
    let program = std::env::current_exe().expect("a test is a program");
    let mut child = Command::new(program);
    child.args(["--exact", "messages::child", "--nocapture"]).env("WEFT_LOOM_CHILD", "1");
    let output = child.envs(variables.iter().copied()).output().expect("a test runs");
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.success(), text.concat())
}

fn token_of(message: &str) -> &str {
    let (_, rest) = message.split_once("LOOM_REPLAY='").expect("a token is shown");
    rest.split('\'').next().expect("it has an end")
}

#[test]
fn a_failure_replays_by_its_token() {
    let message = failure(lose_one);
    expect(&message, &["a count is lost", "T1.", "facade/messages.rs:"]);
    let (good, text) = run_child(&[("LOOM_REPLAY", token_of(&message))]);
    assert!(!good && text.contains("a count is lost"), "{text}");
    assert!(text.contains("FAILED under RC11: 0 executions"), "{text}");
}

#[test]
fn a_checkpoint_is_the_token_of_a_failure() {
    let file = std::env::temp_dir().join(format!("weft-loom-{}", std::process::id()));
    let name = file.to_str().expect("a name that is text");
    let (good, text) = run_child(&[("LOOM_CHECKPOINT_FILE", name)]);
    assert!(!good && text.contains("a count is lost"), "{text}");
    let token = std::fs::read_to_string(&file).expect("it was written");
    assert_eq!(token, token_of(&text));
    let (_, text) = run_child(&[("LOOM_CHECKPOINT_FILE", name)]);
    assert!(text.contains("FAILED under RC11: 0 executions"), "{text}");
    std::fs::write(&file, "no token").expect("it is writable");
    let (good, text) = run_child(&[("LOOM_CHECKPOINT_FILE", name)]);
    assert!(!good && text.contains("has no token to replay"), "{text}");
    assert!(text.contains("remove the file, and explore again"), "{text}");
    std::fs::remove_file(&file).expect("it is there");
}

#[test]
fn variables_that_cannot_be_read_are_refused() {
    for name in ["LOOM_MAX_BRANCHES", "LOOM_MAX_DURATION", "LOOM_REPLAY"] {
        let (good, text) = run_child(&[(name, "many")]);
        assert!(!good, "{text}");
        assert!(text.contains(&format!("{name} is `many`, which cannot be read")), "{text}");
    }
}

#[test]
fn a_token_of_another_program_is_refused() {
    let message = failure(|| {
        let word = Arc::new(AtomicUsize::new(0));
        let other = Arc::clone(&word);
        thread::spawn(move || other.store(3, Relaxed));
        assert_eq!(word.load(Relaxed), 0);
    });
    let (good, text) = run_child(&[("LOOM_REPLAY", token_of(&message))]);
    assert!(!good && !text.contains("a count is lost"), "{text}");
    assert!(text.contains("token"), "{text}");
}

#[test]
fn a_limit_cuts_a_search_short_and_says_so() {
    let (good, text) = run_child(&[("LOOM_MAX_PERMUTATIONS", "1")]);
    assert!(good && text.contains("CUT SHORT under RC11: 1 executions"), "{text}");
}

#[test]
fn a_model_inside_of_a_model_is_refused() {
    expect(
        &failure(|| loom::model(|| ())),
        &["loom::model was called inside a model: call it outside"],
    );
}
