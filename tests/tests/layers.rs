//! The crates' dependencies against the table in docs/src/architecture.md.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// A row of the table, or what cargo knows of a crate, by package.
type Uses = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// What the table promises: uses and layer, by package.
fn promised() -> (Uses, BTreeMap<String, u32>) {
    let page = std::fs::read_to_string(root().join("docs/src/architecture.md")).expect("the page of layers");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, layer, package, uses, ..] = cells[..] else { return None };
        let layer: u32 = layer.parse().ok()?;
        let uses = uses.split_whitespace().map(|noun| format!("sokd-{noun}")).collect();
        Some((package.trim_matches('`').to_owned(), uses, layer))
    });
    let (mut uses, mut layers) = (Uses::new(), BTreeMap::new());
    for (package, its, layer) in rows {
        uses.insert(package.clone(), its);
        layers.insert(package, layer);
    }
    (uses, layers)
}

/// What the manifests say. Dependencies of tests count where the whole crate is a test.
fn found() -> Uses {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let answer = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let metadata: Value = serde_json::from_slice(&answer.stdout).expect("cargo speaks JSON");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let uses = |package: &Value| {
        let dependencies = list(&package["dependencies"]).into_iter();
        let ours = dependencies.filter(|one| name(one) == "sokd" || name(one).starts_with("sokd-"));
        let counts = |one: &Value| one["kind"].is_null() || name(package) == "sokd-tests";
        ours.filter(counts).map(|one| name(&one)).collect()
    };
    list(&metadata["packages"]).iter().map(|package| (name(package), uses(package))).collect()
}

#[test]
fn crates_use_what_the_table_says() {
    let (found, promised) = (found(), promised().0);
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        promised.keys().collect::<Vec<_>>(),
        "left: the workspace; right: docs/src/architecture.md"
    );
    for (package, uses) in &found {
        assert_eq!(uses, &promised[package], "{package}; left: Cargo.toml; right: docs/src/architecture.md");
    }
}

#[test]
fn crates_use_lower_layers_only() {
    let (uses, layers) = promised();
    for (package, its) in &uses {
        for one in its {
            assert!(layers[one] < layers[package], "{package} stands below {one}, or beside it");
        }
    }
}
