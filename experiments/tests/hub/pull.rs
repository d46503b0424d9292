//! `sokd pull`, and what may go wrong with it.

use crate::{Machine, files, said};
use sokd_hub::mock::Fault;
use std::time::{Duration, Instant};

const WEIGHTS: &[u8] = &[7; 40_000];

fn machine() -> Machine {
    let machine = Machine::new();
    machine.hub.put("owner/name", "model.safetensors", WEIGHTS);
    machine.hub.put("owner/name", "sub/config.json", b"{}");
    machine
}

#[test]
fn a_file_and_a_repository_are_fetched_and_serve_offline() {
    let machine = machine();
    let path = machine.says(&["pull", "owner/name/model.safetensors"]);
    assert_eq!(std::fs::read(path.trim()).unwrap(), WEIGHTS);
    let folder = machine.says(&["pull", "owner/name"]);
    assert_eq!(std::fs::read_to_string(format!("{}/sub/config.json", folder.trim())).unwrap(), "{}");
    assert_eq!(machine.hub.asked("HEAD"), 2, "what is there at a commit is not asked for again");
    assert_eq!(
        machine.says(&["pull", "hub://owner/name@main", "--list"]),
        "model.safetensors\nsub/config.json\n"
    );
    let json = machine.says(&["pull", "owner/name/model.safetensors", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["commit"].as_str().unwrap().len(), json["sha256"].as_str().unwrap().len()), (40, 64));

    let asked = machine.hub.heard().len();
    let offline = |arguments: &[&str]| machine.sokd(arguments).env("HF_HUB_OFFLINE", "1").output().unwrap();
    assert_eq!(said(offline(&["pull", "owner/name/model.safetensors"]), 0).0, path);
    assert_eq!(said(offline(&["pull", "owner/name"]), 0).0, folder);
    let (_, error) = said(offline(&["pull", "owner/name/other.bin"]), 69);
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(machine.hub.heard().len(), asked);
}

#[test]
fn what_is_not_there_ends_with_66_and_what_is_forbidden_with_69() {
    let machine = machine();
    for (address, part) in [
        ("owner/none/model.safetensors", "no repository owner/none"),
        ("owner/name@v2/model.safetensors", "no revision v2"),
        ("owner/name/none.bin", "sokd pull owner/name --list"),
        ("owner/none", "no repository owner/none"),
        ("owner/name@v2", "no revision v2"),
    ] {
        let error = machine.complains(&["pull", address], 66);
        assert!(error.contains(part), "{error}");
    }
    machine.hub.fail(Fault::Status(403, r#"{"error":"terms"}"#.into()), 1);
    let error = machine.complains(&["pull", "owner/name/model.safetensors"], 69);
    assert!(error.contains("403") && error.contains("accept the terms"), "{error}");
    for hostile in ["owner/name/../../x", "../../x", "owner", "owner/name/a\\..\\x", "timm:vit_tiny"] {
        machine.complains(&["pull", hostile], 2);
    }
}

#[test]
fn two_processes_at_a_cold_cache_fetch_once() {
    let machine = machine();
    machine.hub.fail(Fault::Slow(Duration::from_secs(3)), 1);
    let begin = || machine.sokd(&["pull", "owner/name/model.safetensors"]).spawn().unwrap();
    let both = [begin(), begin()].map(|child| said(child.wait_with_output().unwrap(), 0));
    assert_eq!(both[0].0, both[1].0);
    assert!(both.iter().any(|(_, told)| told.contains("waiting for it")), "{both:?}");
    assert_eq!(machine.hub.asked("GET"), 1);
}

#[test]
fn a_killed_process_leaves_a_part_that_the_next_goes_on_from() {
    let machine = machine();
    // Cut off, and then silent for as long as it takes to be killed.
    machine.hub.fail(Fault::Cut(30_000), 1);
    machine.hub.fail(Fault::Slow(Duration::from_mins(1)), 1);
    let mut child = machine.sokd(&["pull", "owner/name/model.safetensors"]).spawn().unwrap();
    let begun = Instant::now();
    while machine.hub.asked("GET") < 2 {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never asked again");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let path = machine.says(&["pull", "owner/name/model.safetensors"]);
    assert_eq!(std::fs::read(path.trim()).unwrap(), WEIGHTS);
    let last = machine.hub.heard().pop().unwrap();
    assert_eq!(last.headers.get("range").map(String::as_str), Some("bytes=30000-"));
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_full_disk_is_told_and_what_came_is_gone_on_from() {
    let machine = machine();
    let pull = machine.sokd(&[]);
    let mut shell = std::process::Command::new("sh");
    let sokd = env!("CARGO_BIN_EXE_sokd");
    shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -f 32; exec {sokd} pull owner/name/model.safetensors"));
    for (name, value) in pull.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let (_, error) = said(shell.current_dir(machine.folder.path()).output().unwrap(), 1);
    assert!(error.contains("make room") && error.contains("goes on from it"), "{error}");
    machine.says(&["pull", "owner/name/model.safetensors"]);
    let last = machine.hub.heard().pop().unwrap();
    assert!(last.headers.contains_key("range"), "{last:?}");
}

#[test]
fn a_cache_in_an_impossible_place_is_told_with_a_remedy() {
    let machine = machine();
    std::fs::write(machine.join("file"), "").unwrap();
    let output = machine
        .sokd(&["pull", "owner/name/model.safetensors"])
        .env("HF_HUB_CACHE", machine.join("file/cache"))
        .output()
        .unwrap();
    let (_, error) = said(output, 1);
    assert!(error.contains("set HF_HUB_CACHE"), "{error}");
}

#[test]
fn a_hostile_hub_writes_nowhere_else() {
    let machine = machine();
    machine.hub.list("../../../escaped");
    let error = machine.complains(&["pull", "owner/name"], 69);
    assert!(error.contains("outside of its folder"), "{error}");
    assert!(files(machine.folder.path()).iter().all(|path| !path.ends_with("escaped")));
}

#[test]
fn a_busy_hub_is_waited_for() {
    let machine = machine();
    machine.hub.busy(503, Some("1"), 1);
    let (path, told) = said(machine.sokd(&["pull", "owner/name/model.safetensors"]).output().unwrap(), 0);
    assert!(told.contains("503") && told.contains("once more in 1 s"), "{told}");
    assert_eq!(std::fs::read(path.trim()).unwrap(), WEIGHTS);
}
