# Everything that is done with Weft, by name. `just` alone lists it.

set positional-arguments

# Recipes run where they are started, so that files can be named from there; these are found.
root := quote(justfile_directory())
manifest := quote(justfile_directory() / "Cargo.toml")
just := quote(just_executable()) + " --justfile " + quote(justfile())
# A package outside of the workspace: two of one name trouble cargo.
loom := "--manifest-path explorer/loom/Cargo.toml --target-dir target/loom --features futures"
checker := quote(justfile_directory() / "target/model-check/model-check")

# Lists the recipes.
_default:
    @just --list --unsorted

# Explores every race under every engine; `just model-check --help` says what else it can do.
[no-cd, no-exit-message]
model-check *ARGS:
    #!/bin/sh
    set -eu
    # What needs no build is not built for.
    case "${1:-}" in --help) exec cat {{root}}/docs/help/model-check.txt ;; esac
    cargo build --manifest-path {{manifest}} --profile model-check --package weft-model-check
    exec {{checker}} "$@"

# Explores again whenever a source file changes, until it is interrupted.
[no-cd, no-exit-message]
watch SCENARIO *ARGS:
    #!/bin/sh
    set -u
    explored=$(mktemp)
    trap 'rm -f "$explored"' EXIT
    trap 'exit 130' INT TERM
    changed() {
        cd {{root}} && find core explorer scenarios backend-loom -name '*.rs' -newer "$explored"
    }
    while true; do
        touch "$explored"
        {{just}} model-check "$@"
        echo "watch: waiting for a file to change" >&2
        until [ -n "$(changed)" ]; do sleep 1; done
    done

# Runs the one execution that a REPLAY line names.
[no-cd, no-exit-message]
replay TOKEN: _model-check
    @{{checker}} replay "$1"

# Puts the recorded shards of one run together, as if it had been run at once.
[no-cd, no-exit-message]
merge *FILES: _model-check
    @{{checker}} merge "$@"

# Breaks a scratch copy with the mutants on file, weakens every ordering: what notices?
[no-cd, no-exit-message]
mutants *ARGS: _model-check
    @{{checker}} mutants "$@"

# Looks for every race that shipped, by every checker, and writes scenarios/RACES.md.
[no-cd, no-exit-message]
races *ARGS: _model-check
    @{{checker}} races "$@"

# Compares the exhaustive engines: executions, time, memory, side by side.
[no-cd, no-exit-message]
speed *ARGS: _model-check
    @{{checker}} speed "$@"

# Measures what operations cost, beside raw bounds and other crates; `just bench --help` says more.
[no-exit-message]
bench *ARGS:
    #!/bin/sh
    set -eu
    case "${1:-}" in --help) exec cat docs/help/bench.txt ;; esac
    exec cargo bench --quiet --package weft-bench --bench weft -- \
        --directory {{quote(invocation_directory())}} "$@"

# Runs loom's own tests and those of crates that use it, on loom and on weft-loom, and compares.
[no-cd, no-exit-message]
facade-check *ARGS:
    @cargo run --manifest-path {{manifest}} --quiet --package weft-facade-check -- "$@"

# Writes scenarios/tests/NAME.rs, a race that works, to be changed.
[no-cd, no-exit-message]
new-scenario NAME: _model-check
    @{{checker}} new-scenario "$1"

# Boots the kernel under QEMU, once for every race; `just qemu --help` says what else it can do.
[no-cd, no-exit-message]
qemu *ARGS:
    #!/bin/sh
    set -eu
    case "${1:-}" in --help) exec cat {{root}}/docs/help/qemu.txt ;; esac
    cargo build --manifest-path {{manifest}} --package weft-qemu-runner
    exec cargo run --manifest-path {{manifest}} --quiet --package weft-qemu-runner -- "$@"

# Checks lints, documents and licences, runs all tests, the models, and every race on a machine.
test: lint
    cargo test --workspace
    cargo test {{loom}}
    {{just}} model-check
    {{just}} smoke

# Boots a machine for every race and every test of the kernel, with few repetitions.
smoke:
    #!/bin/sh
    set -eu
    if ! command -v qemu-system-x86_64 >/dev/null && [ -z "${REQUIRE_QEMU:-}" ]; then
        echo "smoke: NOT BOOTED: install qemu-system-x86_64, then run this again" >&2
        exit 0
    fi
    exec {{just}} qemu --repeat 20 --no-twins --no-models

# Packs the libraries, each from its own package, and builds the program of a stranger with them.
package:
    cargo package --allow-dirty --package weft-page-table --package weft-explorer \
        --package weft-backend-baremetal
    cargo test --package weft-backend-baremetal --test package

# Runs the long forms: 10,000 random programs for each architecture, and a minute of fuzzing.
test-long:
    #!/bin/sh
    set -eu
    PROPTEST_CASES=10000 cargo test --profile model-check --package weft-backend-baremetal \
        --test cursor random::
    if ! cargo fuzz --version 2>/dev/null; then
        echo "test-long: NOT FUZZED: run \`cargo install --locked cargo-fuzz\`, then this again" >&2
        exit 0
    fi
    cd backend-baremetal
    cargo fuzz run --sanitizer none --target-dir ../target/fuzz cursors -- \
        -max_total_time=60 -max_len=4096 -print_final_stats=1

# Checks format, lints and documentation; licences too, where cargo-deny is installed.
lint:
    #!/bin/sh
    set -eux
    cargo fmt --all --check
    cargo fmt --manifest-path explorer/loom/Cargo.toml --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo clippy {{loom}} --all-targets -- -D warnings
    BARE_METAL=1 cargo clippy --package weft-kernel --profile kernel -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps
    RUSTDOCFLAGS=-Dwarnings cargo doc {{loom}} --no-deps
    if cargo deny --version >/dev/null 2>&1; then
        {{just}} licences
    else
        echo "lint: LICENCES NOT CHECKED: run \`cargo install --locked cargo-deny\`" >&2
    fi

# Checks the licences and the sources of what is linked; `just licences advisories` what is known.
licences *CHECKS="bans licenses sources":
    cargo deny check {{CHECKS}}

# Everything that should be green before a change is handed in.
preflight: test qemu

# Installs what a fresh machine lacks: a linker, QEMU, and rustfmt, clippy.
setup:
    #!/bin/sh
    set -eu
    install() {
        command -v apt-get >/dev/null || return 1
        root=
        if [ "$(id -u)" != 0 ]; then
            command -v sudo >/dev/null || return 1
            root=sudo
        fi
        $root apt-get update && $root apt-get install --yes --no-install-recommends "$1"
    }
    command -v cc >/dev/null || install build-essential || {
        echo "setup: install a C toolchain that provides cc, then run this again" >&2
        exit 1
    }
    # Without it, the tests that boot machines are skipped and say so.
    command -v qemu-system-x86_64 >/dev/null || install qemu-system-x86 || {
        echo "setup: QEMU could not be installed: \`just qemu\` needs qemu-system-x86_64" >&2
    }
    if ! command -v cargo >/dev/null; then
        echo "setup: install Rust 1.95 or later from https://rustup.rs, then run this again" >&2
        exit 1
    fi
    if command -v rustup >/dev/null; then
        rustup component add rustfmt clippy
    fi
    for tool in rustfmt cargo-clippy; do
        command -v "$tool" >/dev/null || {
            echo "setup: $tool is missing: install it with the package that provides cargo" >&2
            exit 1
        }
    done

# Builds the command, optimised: executions are many. The first time takes some minutes.
_model-check:
    @cargo build --manifest-path {{manifest}} --profile model-check --package weft-model-check
