//! Tells a release which commit it is made of: by the time it runs, its sources may have moved on. Any other build asks when it
//! runs (`src/environment.rs`), so that a commit alone has nothing compiled anew.

#![allow(clippy::print_stdout, reason = "cargo listens to it")]

use std::path::Path;
use std::process::Command;

/// What the program is made of, from the root of the repository.
const SOURCES: [&str; 10] = [
    "Cargo.lock",
    "Cargo.toml",
    "crates",
    "datasets",
    "docs/src/formulas.md",
    "experiments/build.rs",
    "experiments/recipes",
    "experiments/results/teachers",
    "experiments/src",
    "experiments/tables",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&root).args(arguments).output().ok()?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(said)
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return };
    let changes = git(&[&["status", "--porcelain", "--untracked-files=no", "--"], &SOURCES[..]].concat());
    println!("cargo::rustc-env=SOKD_COMMIT={commit}");
    println!("cargo::rustc-env=SOKD_CHANGED={}", changes.is_none_or(|changes| !changes.is_empty()));
    // Whatever moves HEAD writes a line here.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]).map(|log| root.join(log));
    for path in log.into_iter().chain(SOURCES.iter().map(|source| root.join(source))) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}
