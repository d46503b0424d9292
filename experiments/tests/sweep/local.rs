//! Cells in slots of this machine.

use super::folder::{done, signal, wait};
use super::{left, states, with_table};
use std::fs::{File, read, read_to_string, write};
use std::time::Duration;

const MINUTES: Duration = Duration::from_mins(4);

#[test]
fn slots_leave_what_the_table_leaves() {
    let [table, sweep] = [with_table(), with_table()];
    table.says(&["table", "table.toml", "--threads", "1"], 0);
    sweep.says(&["sweep", "plan", "table.toml", "-o", "plan"], 0);
    let said = sweep.says(&["sweep", "run", "plan", "--slots", "2"], 0);
    assert!(said.contains("all 4 cells are finished"), "{said}");
    assert_eq!(left(&table), left(&sweep));
    assert_eq!(states(&sweep, "plan"), ["finished"; 4]);

    // One trained the teacher, whichever that was.
    let logs = (0..4).map(|cell| read_to_string(sweep.join(&format!("plan/logs/{cell}.log"))).unwrap());
    assert!(logs.collect::<String>().matches("another process trains it").count() <= 1);

    // Run again, nothing is; submitted again, nothing is.
    let before = left(&sweep);
    sweep.says(&["sweep", "run", "plan"], 0);
    let said = sweep.says(&["sweep", "submit", "plan", "--engine", "slurm"], 0);
    assert!(said.contains("nothing to submit"), "{said}");
    assert_eq!(before, left(&sweep));

    let said = sweep.says(&["sweep", "collect", "plan"], 0);
    assert!(said.contains("plan/results.csv") && !said.contains("not measured"), "{said}");
    let results = read_to_string(sweep.join("plan/results.csv")).unwrap();
    assert_eq!(results.lines().filter(|line| line.split(',').nth(1) == Some("finished")).count(), 4);
    for file in ["report.html", "report.md", "report.tex", "report.csv", "report-arms.csv"] {
        assert!(sweep.join("plan").join(file).exists(), "{file}");
    }
}

#[test]
fn a_cell_that_fails_stops_no_other() {
    let folder = with_table();
    let rows = "wild = { phase.student.lr.base = 1e12 }\nlost = { teacher.weights = \"nowhere.pth\", extends = \"sokd:kd\" }\n";
    write(folder.join("table.toml"), super::TABLE.replace("[rows]\n", &format!("[rows]\n{rows}"))).unwrap();
    let plan = ["sweep", "plan", "table.toml", "--rows", "wild,lost,alone", "--seeds", "0", "-o", "plan"];
    folder.says(&plan, 0);
    let said = folder.says(&["sweep", "run", "plan", "--slots", "2"], 3);
    assert!(said.contains("2 of 3 cells failed") && said.contains("diverged"), "{said}");
    assert_eq!(states(&folder, "plan"), ["failed", "failed", "finished"]);
    let status = folder.says(&["sweep", "status", "plan"], 0);
    assert!(status.contains("nowhere.pth") && status.contains("1 finished, 0 running"), "{status}");
    // Preparing finds the second before it runs, and says so.
    let said = folder.says(&["sweep", "prepare", "plan"], 66);
    assert!(said.contains("nowhere.pth"), "{said}");
    let said = folder.says(&["sweep", "collect", "plan"], 0);
    assert!(said.contains("wild, seed 0: not measured yet"), "{said}");
}

#[test]
fn a_torn_summary_stops_no_other_cell() {
    let folder = with_table();
    folder.says(&["sweep", "plan", "table.toml", "--rows", "alone", "-o", "plan", "steps=2"], 0);
    folder.says(&["sweep", "run", "plan", "--index", "0"], 0);
    let run = folder.join(super::lines(&folder.join("plan/grid.jsonl"))[0]["run"].as_str().unwrap());
    write(run.join("summary.json"), "{").unwrap();
    let said = folder.says(&["sweep", "run", "plan"], 1);
    assert!(said.contains("1 of 2 cells failed"), "{said}");
    assert_eq!(states(&folder, "plan"), ["failed", "finished"]);
    let status = folder.says(&["sweep", "status", "plan"], 0);
    assert!(status.contains("no summary of a run"), "{status}");
    std::fs::remove_file(run.join("summary.json")).unwrap();
    folder.says(&["sweep", "run", "plan"], 0);
}

/// A teacher that cannot be trained costs its cells no more than one try.
#[test]
fn cells_of_a_teacher_that_fails_say_so() {
    let folder = with_table();
    write(folder.join("teacher.toml"), super::TEACHER.replace("base = 0.02", "base = 1e12")).unwrap();
    folder.says(&["sweep", "plan", "table.toml", "--rows", "KD", "-o", "plan"], 0);
    let said = folder.says(&["sweep", "run", "plan"], 3);
    assert!(said.contains("[1/2] KD, seed 0: teacher teacher.toml: student/task/ce is NaN"), "{said}");
    assert!(said.contains("2 of 2 cells failed"), "{said}");
    assert_eq!(states(&folder, "plan")[0], "failed");
}

#[test]
#[cfg(unix)]
fn a_signal_saves_all_and_the_next_start_goes_on() {
    let [whole, folder] = [with_table(), with_table()];
    whole.says(&["table", "table.toml"], 0);
    folder.says(&["sweep", "plan", "table.toml", "-o", "plan"], 0);
    for name in ["TERM", "USR1", "INT"] {
        let runner = folder.sokd(&["sweep", "run", "plan", "--slots", "2"]).spawn().unwrap();
        let before = states(&folder, "plan");
        wait("a cell at work", MINUTES, || {
            let states = states(&folder, "plan");
            states.contains(&"running".to_owned()) || states != before
        });
        std::thread::sleep(Duration::from_millis(700));
        signal(runner.id(), name);
        let output = runner.wait_with_output().unwrap();
        if output.status.code() == Some(0) {
            // It was faster than the signal.
            break;
        }
        let said = done(&output, 75);
        assert!(said.contains("sokd sweep run"), "{said}");
        assert!(!states(&folder, "plan").contains(&"running".to_owned()), "children are waited for");
    }
    folder.says(&["sweep", "run", "plan", "--slots", "2"], 0);
    assert_eq!(left(&whole), left(&folder));
}

/// A cell at which another process works is left to it, and one of an array says that it is to be tried again.
#[test]
fn a_cell_is_one_process() {
    let folder = with_table();
    folder.says(&["sweep", "plan", "table.toml", "--rows", "alone", "-o", "plan", "steps=2"], 0);
    let run = folder.join(super::lines(&folder.join("plan/grid.jsonl"))[0]["run"].as_str().unwrap());
    std::fs::create_dir_all(&run).unwrap();
    let lock = File::create(run.join(".lock")).unwrap();
    lock.lock().unwrap();
    let said = folder.says(&["sweep", "run", "plan", "--index", "0"], 75);
    assert!(said.contains("another process works in"), "{said}");
    assert_eq!(states(&folder, "plan"), ["running", "waiting"]);

    let runner = folder.sokd(&["sweep", "run", "plan"]).spawn().unwrap();
    let runner = super::Kept(runner);
    wait("the other cell", MINUTES, || states(&folder, "plan")[1] == "finished");
    drop(lock);
    wait("this cell", MINUTES, || states(&folder, "plan")[0] == "finished");
    drop(runner);

    // Two on the same sweep share it.
    folder.says(&["sweep", "plan", "table.toml", "--seeds", "2,3", "-o", "both", "epochs=2"], 0);
    let two = [(); 2].map(|()| folder.sokd(&["sweep", "run", "both", "--threads", "1"]).spawn().unwrap());
    for runner in two {
        done(&runner.wait_with_output().unwrap(), 0);
    }
    assert_eq!(states(&folder, "both"), ["finished"; 4]);
}

#[test]
fn schedulers_name_the_cell() {
    let folder = with_table();
    folder.says(&["sweep", "plan", "table.toml", "--rows", "alone", "-o", "plan", "steps=2"], 0);
    let mut task = folder.sokd(&["sweep", "run", "plan"]);
    done(&task.env("SLURM_ARRAY_TASK_ID", "1").output().unwrap(), 0);
    assert_eq!(states(&folder, "plan"), ["waiting", "finished"]);
    let mut task = folder.sokd(&["sweep", "run", "plan"]);
    let said = done(&task.env("HQ_TASK_ID", "one").output().unwrap(), 2);
    assert!(said.contains("HQ_TASK_ID is `one`"), "{said}");
    let first = read(folder.join("plan/grid.jsonl")).unwrap();
    let mut task = folder.sokd(&["sweep", "run", "plan"]);
    done(&task.env("JOB_COMPLETION_INDEX", "0").output().unwrap(), 0);
    assert_eq!(states(&folder, "plan"), ["finished", "finished"]);
    assert_eq!(read(folder.join("plan/grid.jsonl")).unwrap(), first);
}
