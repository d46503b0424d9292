//! SIGKILL at random instants: of the runner, of its children, of all at once.

use super::folder::{signal, wait};
use super::{Kept, left, processes, states, with_table};
use std::time::Duration;

/// How often something is killed: `SOKD_KILLS`, for a longer night.
fn kills() -> u64 {
    std::env::var("SOKD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

#[test]
fn a_sweep_that_is_killed_again_and_again_comes_to_the_same() {
    let [whole, folder] = [with_table(), with_table()];
    whole.says(&["table", "table.toml"], 0);
    folder.says(&["sweep", "plan", "table.toml", "-o", "plan"], 0);
    let plan = folder.join("plan");
    let seed = std::process::id();
    println!("instants drawn from {seed}");
    // Numerical Recipes' generator: instants need no better.
    let mut state = seed;
    let mut draw = move |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };

    for kill in 0..kills() {
        // Nobody who was left alone works on: else the next start would wait for them, and the kill would hit nothing new.
        let mut runner = Kept(folder.sokd(&["sweep", "run", "plan", "--slots", "2"]).spawn().unwrap());
        std::thread::sleep(Duration::from_millis(u64::from(draw(2500))));
        let children: Vec<u32> =
            processes(&plan).into_iter().filter(|process| *process != runner.0.id()).collect();
        let kill_children = || {
            for child in &children {
                signal(*child, "KILL");
            }
        };
        match kill % 3 {
            // The runner alone: its children save and leave.
            0 => drop(runner.0.kill()),
            // The children alone: the runner starts them again.
            1 => kill_children(),
            _ => {
                runner.0.kill().ok();
                kill_children();
            }
        }
        if kill % 3 == 1 {
            std::thread::sleep(Duration::from_millis(u64::from(draw(2500))));
            runner.0.kill().ok();
        }
        runner.0.wait().unwrap();
        wait("children leave with their runner", Duration::from_mins(2), || processes(&plan).is_empty());
    }
    folder.says(&["sweep", "run", "plan", "--slots", "2"], 0);
    assert_eq!(left(&whole), left(&folder));
    assert_eq!(states(&folder, "plan"), ["finished"; 4]);
    let unfinished = walk(folder.path()).into_iter().filter(|path| path.contains(".unfinished-"));
    assert_eq!(unfinished.collect::<Vec<_>>(), Vec::<String>::new());
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] })
        .collect()
}
