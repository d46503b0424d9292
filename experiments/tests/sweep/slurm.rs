//! On a real SLURM: a sweep submitted by its own script, told that its time is up, cancelled, its node lost; and one network
//! trained by several processes of a step.

use super::cluster::Cluster;
use super::folder::{Folder, done, wait};
use super::{left, states, with_table};
use std::fs::{read, read_to_string, write};
use std::process::Command;
use std::time::Duration;

const MINUTES: Duration = Duration::from_mins(4);

#[test]
fn slurm_runs_a_sweep_through_preemption_and_the_loss_of_its_node() {
    let mut cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(missing) => {
            println!("skipped, because {missing}");
            return;
        }
    };
    let [whole, folder] = [with_table(), with_table()];
    // Long enough to be met at work.
    whole.says(&["table", "table.toml", "epochs=30"], 0);
    folder.says(&["sweep", "plan", "table.toml", "epochs=30", "-o", "plan"], 0);
    let submit =
        ["sweep", "submit", "plan", "--engine", "slurm", "--at-once", "2", "--option=--ntasks=1", "--yes"];
    let mut submit = folder.sokd(&submit);
    let said = done(&submit.env("SLURM_CONF", cluster.conf()).output().unwrap(), 0);
    assert!(said.contains("Submitted batch job"), "{said}");

    let log = |name: &str| read_to_string(folder.join("plan/logs").join(name)).unwrap_or_default();
    let states = || states(&folder, "plan");
    let count = |state: &str| states().iter().filter(|known| *known == state).count();

    // The first job prepares; the cells wait for it. Told that its time is nearly up, it goes on where it stood.
    let teacher = || folder.says(&["sweep", "status", "plan"], 0);
    wait("the teacher at work", MINUTES, || teacher().contains("running   teacher"));
    assert_eq!(count("waiting"), 4);
    let first = cluster.jobs("RUNNING").remove(0);
    cluster.notify(&first);
    wait("the first job in the queue again", MINUTES, || cluster.jobs("PENDING").contains(&first));
    assert!(log("prepare.log").contains("everything up to there is saved"), "{}", log("prepare.log"));
    wait("the cells", MINUTES, || {
        cluster.hurry();
        count("running") > 0
    });

    // A cell that is told so, and then all that run when the node is lost.
    let told = cluster.jobs("RUNNING").remove(0);
    cluster.notify(&told);
    let restarted = |job: &String| !cluster.ask("scontrol", &["show", "job", job]).contains("Restarts=0");
    let over = |job: &String| restarted(job) || !cluster.jobs("RUNNING,PENDING,COMPLETING").contains(job);
    wait("that cell in the queue again", MINUTES, || over(&told));
    wait("cells at work", MINUTES, || {
        cluster.hurry();
        count("running") > 0 || count("finished") == 4
    });
    let lost = cluster.jobs("RUNNING");
    cluster.lose_node();
    println!("lost the node with the jobs {lost:?}, after notice to {first} and {told}");
    wait("all cells", MINUTES, || {
        cluster.hurry();
        count("finished") == 4
    });
    wait("an empty queue", MINUTES, || {
        cluster.hurry();
        cluster.jobs("all").is_empty() || cluster.jobs("RUNNING,PENDING,COMPLETING").is_empty()
    });
    assert_eq!(left(&whole), left(&folder), "{}", cluster.words());
    assert!(log("prepare.log").contains("the cells can begin"), "{}{}", log("prepare.log"), cluster.words());
    let said = folder.says(&["sweep", "collect", "plan"], 0);
    assert!(!said.contains("not measured"), "{said}");
}

/// What a run has seen, and its student.
fn seen(folder: &Folder, run: &str) -> (u64, Vec<u8>) {
    let summary = read_to_string(folder.join(run).join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let student = read(folder.join(run).join("student/model.safetensors")).unwrap();
    (summary["images"].as_u64().unwrap(), student)
}

#[test]
fn a_step_of_several_tasks_trains_one_network_and_a_batch_script_waits_for_nobody() {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(missing) => {
            println!("skipped, because {missing}");
            return;
        }
    };
    let folder = with_table();
    let train = |run: &str| folder.sokd(&["train", "teacher.toml", "--run-dir", run]);
    let launched = |launcher: &mut Command, sokd: &Command| {
        launcher.current_dir(folder.path()).arg(sokd.get_program()).args(sokd.get_args());
        done(&launcher.output().unwrap(), 0)
    };
    let srun =
        |run: &str| launched(&mut cluster.command("srun", &["--ntasks=2", "--cpu-bind=none"]), &train(run));
    let said = srun("two");
    assert_eq!(said.matches("test/top1").count(), 1, "{said}");
    assert!(said.contains("2 processes meet at"), "{said}");
    srun("again");
    assert_eq!(seen(&folder, "two"), seen(&folder, "again"));

    done(&train("one").output().unwrap(), 0);
    assert_eq!(seen(&folder, "one").0, seen(&folder, "two").0);
    // A script is one process, however many tasks its job has room for.
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", train("").get_program().display());
    write(folder.join("script"), script).unwrap();
    let batch =
        ["--wait", "--ntasks=2", "--output=said", "script", "train", "teacher.toml", "--run-dir", "batch"];
    let mut batch = cluster.command("sbatch", &[&batch[..], &["--threads", "1"]].concat());
    done(&batch.current_dir(folder.path()).output().unwrap(), 0);
    assert_eq!(
        seen(&folder, "batch"),
        seen(&folder, "one"),
        "{}",
        read_to_string(folder.join("said")).unwrap()
    );
}
