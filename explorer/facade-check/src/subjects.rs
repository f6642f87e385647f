//! The crates whose loom tests are run.

/// A published crate with loom tests.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// What its code is compiled with to use loom.
    pub(crate) cfg: &'static str,
    /// Which tests `cargo test` builds, and with which features.
    pub(crate) target: &'static [&'static str],
}

/// loom's own tests are no tests of a package that depends on loom: they get one of their own.
pub(crate) const LOOM: &str = "loom";

const fn subject(
    name: &'static str,
    version: &'static str,
    cfg: &'static str,
    target: &'static [&'static str],
) -> Subject {
    Subject { name, version, cfg, target }
}

/// Crates that ask for loom 0.7 and ship tests that use it.
pub(crate) const SUBJECTS: &[Subject] = &[
    subject(LOOM, "0.7.3", "loom", &["--features", "futures"]),
    subject("bytes", "1.12.2", "loom", &["--lib"]),
    subject("concurrent-queue", "2.5.0", "loom", &["--test", "loom", "--features", "loom"]),
    subject("event-listener", "5.4.2", "loom", &["--test", "loom", "--features", "loom"]),
    subject("left-right", "0.11.8", "loom", &["--test", "loom"]),
    subject("oneshot", "0.2.1", "oneshot_loom", &["--test", "loom", "--features", "loom"]),
    subject("parking", "2.2.1", "loom", &["--test", "loom", "--features", "loom"]),
];
