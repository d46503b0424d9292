//! Data sets from their usual repositories.

use crate::{Machine, said};
use std::path::Path;

/// Three pictures in the Hub's layout, from datasets/fixtures.
fn fixtures(machine: &Machine, repository: &str, below: &str, set: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/fixtures").join(set);
    let files = ["train", "test"].map(|split| {
        let name = format!("{split}-00000-of-00001.parquet");
        let content = std::fs::read(folder.join(&name)).unwrap();
        (format!("{below}/{name}"), content)
    });
    machine.hub.commit(repository, files);
    machine.hub.put(repository, "README.md", b"# Pictures");
}

#[test]
fn a_data_set_is_fetched_from_its_repository_and_read() {
    let machine = Machine::new();
    fixtures(&machine, "datasets/uoft-cs/cifar100", "cifar100", "cifar100-hub");
    let paths = machine.says(&["data", "fetch", "cifar100", "--from", "hub"]);
    assert_eq!(paths.lines().count(), 2, "{paths}");
    let stats = machine.says(&["data", "stats", "cifar100", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    assert_eq!((&stats["splits"][0]["images"], &stats["splits"][1]["images"]), (&2.into(), &1.into()));
    // Python's libraries find the same copy.
    let hub = machine.join("hf/hub/datasets--uoft-cs--cifar100/blobs");
    let linked = Path::new(paths.lines().next().unwrap()).canonicalize().unwrap();
    assert!(linked.starts_with(hub.canonicalize().unwrap()), "{}", linked.display());
    assert_eq!(machine.says(&["data", "fetch", "cifar100", "--from", "hub"]), paths, "and again");
}

#[test]
fn a_file_with_another_digest_than_the_one_on_record_is_refused() {
    let machine = Machine::new();
    fixtures(&machine, "datasets/uoft-cs/cifar10", "plain_text", "cifar10-hub");
    let error = machine.complains(&["data", "fetch", "cifar10", "--from", "hub"], 1);
    assert!(error.contains("is on record"), "{error}");
    assert!(!machine.join("data/cifar10/test-00000-of-00001.parquet").exists());
    let error = machine.complains(&["data", "fetch", "mnist", "--from", "hub"], 2);
    assert!(error.contains("no repository of MNIST"), "{error}");
}

#[test]
fn an_address_serves_where_data_is_named() {
    let machine = Machine::new();
    fixtures(&machine, "datasets/uoft-cs/cifar10", "plain_text", "cifar10-hub");
    let train = [
        "train",
        "recipe.toml",
        "--no-studies",
        "--run-dir",
        "run",
        "batch=2",
        r#"data={ type = "cifar10", path = "hub://datasets/uoft-cs/cifar10" }"#,
    ];
    machine.says(&train);
    let pins = machine.json("run/hub.json");
    let pin = &pins["hub://datasets/uoft-cs/cifar10"];
    assert!(pin["address"].as_str().unwrap().starts_with("hub://datasets/uoft-cs/cifar10@"), "{pin}");
    assert_eq!(pin["sha256"].as_object().unwrap().len(), 2, "{pin}");
    // The repository changes, and the run that goes on does not.
    let before = machine.json("run/summary.json")["last"].clone();
    machine.hub.put("datasets/uoft-cs/cifar10", "plain_text/train-00000-of-00001.parquet", b"no parquet");
    std::fs::remove_file(machine.join("run/summary.json")).unwrap();
    said(machine.sokd(&train).env("HF_HUB_OFFLINE", "1").output().unwrap(), 0);
    assert_eq!(machine.json("run/summary.json")["last"], before);
}
