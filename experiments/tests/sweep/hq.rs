//! A sweep on a real HyperQueue: the server and the worker of its package for Python, told what our script tells `hq`.

use super::folder::done;
use super::{left, states, with_table};
use std::fs::write;
use std::process::Command;

#[test]
fn hyperqueue_runs_a_sweep() {
    let python = std::env::var("SOKD_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let there = Command::new(&python).args(["-c", "import hyperqueue"]).output();
    if !there.is_ok_and(|said| said.status.success()) {
        println!("skipped, because {python} has no package hyperqueue");
        return;
    }
    let [whole, folder] = [with_table(), with_table()];
    whole.says(&["table", "table.toml"], 0);
    folder.says(&["sweep", "plan", "table.toml", "-o", "plan"], 0);
    let script = folder.says(&["sweep", "submit", "plan", "--engine", "hq"], 0);
    write(folder.join("submit.sh"), script).unwrap();
    // The script's first lines make the folder of the logs.
    std::fs::create_dir_all(folder.join("plan/logs")).unwrap();
    let mut run = Command::new(&python);
    run.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sweep/hq.py")).arg(folder.join("submit.sh"));
    done(&run.current_dir(folder.path()).env("SOKD_TRACK", "none").output().unwrap(), 0);
    assert_eq!(states(&folder, "plan"), ["finished"; 4]);
    assert_eq!(left(&whole), left(&folder));
}
