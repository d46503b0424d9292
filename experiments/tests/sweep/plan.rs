//! What a plan says, and what is no plan.

use super::folder::done;
use super::{lines, states, with_table};
use serde_json::json;
use std::fs::{read, read_to_string, write};

#[test]
fn a_table_is_planned_as_the_table_runs_it() {
    let folder = with_table();
    let said = folder.says(&["sweep", "plan", "table.toml", "-o", "plan"], 0);
    assert!(
        said.contains("4 cells of the table table.toml, 4 runs to do; a teacher is trained first"),
        "{said}"
    );
    let grid = lines(&folder.join("plan/grid.jsonl"));
    let told: Vec<_> = grid.iter().map(|line| (&line["row"], &line["seed"])).collect();
    assert_eq!(json!(told), json!([["alone", 0], ["KD", 0], ["alone", 1], ["KD", 1]]));

    // The same directories and digests.
    let table = folder.says(&["table", "table.toml", "--dry-run"], 0);
    for line in &grid {
        let (run, digest) = (line["run"].as_str().unwrap(), line["digest"].as_str().unwrap());
        assert!(table.lines().any(|known| known.contains(run) && known.contains(&digest[..12])), "{table}");
    }
    assert!(grid[0].get("teacher").is_none() && grid[1]["teacher"]["label"] == "teacher teacher.toml");

    // The same again changes nothing; another plan needs another folder, or force.
    let before = read(folder.join("plan/grid.jsonl")).unwrap();
    folder.says(&["sweep", "plan", "table.toml", "-o", "plan"], 0);
    let said = folder.says(&["sweep", "plan", "table.toml", "--seeds", "7", "-o", "plan"], 2);
    assert!(said.contains("another plan") && said.contains("--force"), "{said}");
    assert_eq!(read(folder.join("plan/grid.jsonl")).unwrap(), before);
    folder.says(&["sweep", "plan", "table.toml", "--seeds", "7", "-o", "plan", "--force"], 0);
    assert_eq!(lines(&folder.join("plan/grid.jsonl")).len(), 2);
}

#[test]
fn lists_of_values_make_a_grid_and_a_file_says_the_same() {
    let folder = with_table();
    let spoken = ["phase.student.lr.base=0.01,0.1", "extends=sokd:kd,sokd:dkd", "epochs=2"];
    let plan = ["sweep", "plan", "student.toml", "--seeds", "0,1", "-o", "spoken"];
    folder.says(&[&plan[..], &spoken].concat(), 0);
    let grid = lines(&folder.join("spoken/grid.jsonl"));
    assert_eq!(grid.len(), 8);
    assert_eq!(grid[1]["varied"], json!({ "phase.student.lr.base": 0.01, "extends": "sokd:dkd" }));
    assert_eq!(grid[0]["overrides"], json!(["epochs=2"]));
    // A row is the run that `sokd train` would make.
    let train =
        ["config", "show", "student.toml", "extends=sokd:dkd", "phase.student.lr.base=0.01", "epochs=2"];
    let shown = folder.says(&train, 0);
    for line in ["epochs = 2", "base = 0.01", "type = \"dkd\""] {
        assert!(shown.contains(line), "{shown}");
        let recipe = folder.join("spoken").join(grid[1]["recipe"].as_str().unwrap());
        assert!(read_to_string(recipe).unwrap().contains(line), "{line}");
    }

    // What varies is above the tier, as it is for `sokd train`.
    let smoke = ["sweep", "plan", "student.toml", "batch=2,3", "seed=5", "--tier", "smoke", "-o", "smoke"];
    let said = folder.says(&smoke, 0);
    assert!(said.contains("2 cells of the recipe student.toml, 2 runs to do"), "{said}");
    let recipe =
        folder.join("smoke").join(lines(&folder.join("smoke/grid.jsonl"))[1]["recipe"].as_str().unwrap());
    let recipe = read_to_string(recipe).unwrap();
    assert!(
        recipe.contains("batch = 3") && recipe.contains("seed = 5") && recipe.contains("steps = 2"),
        "{recipe}"
    );

    let file = "recipe = \"student.toml\"\nseeds = [0, 1]\noverrides = [\"epochs=2\"]\n[vary]\n\
                phase.student.lr.base = [0.01, 0.1]\nextends = [\"sokd:kd\", \"sokd:dkd\"]\n";
    write(folder.join("sweep.toml"), file).unwrap();
    folder.says(&["sweep", "plan", "sweep.toml", "-o", "written"], 0);
    // What was planned can be planned again.
    folder.says(&["sweep", "plan", "written/sweep.toml", "-o", "again"], 0);
    for other in ["written", "again"] {
        assert_eq!(lines(&folder.join(other).join("grid.jsonl")), grid, "{other}");
    }
}

#[test]
fn what_does_not_fit_is_said_before_anything_is_written() {
    let folder = with_table();
    for (arguments, says) in [
        (&["demmo"][..], "did you mean `demo`?"),
        (&["table.toml", "epochs=1,2"], "is a table"),
        (&["student.toml", "epohcs=1,2"], "epochs"),
        (&["student.toml", "epochs=1,1"], "twice"),
        (&["table.toml", "--rows", "KDD"], "did you mean `KD`?"),
        (&["no-such.toml"], "no-such.toml"),
    ] {
        let output = folder.sokd(&[&["sweep", "plan", "-o", "plan"], arguments].concat()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(says), "{arguments:?}: {said}");
        assert!(!folder.join("plan").exists(), "{arguments:?}");
    }
    for (verb, code) in [("run", 66), ("status", 66), ("collect", 66), ("prepare", 66)] {
        let said = folder.says(&["sweep", verb, "nowhere"], code);
        assert!(said.contains("sokd sweep plan"), "{said}");
    }
}

/// Everything that jobs read was written when the sweep was planned.
#[test]
fn a_plan_does_not_change_when_its_table_does() {
    let folder = with_table();
    folder.says(&["sweep", "plan", "table.toml", "--rows", "alone", "-o", "plan", "epochs=1"], 0);
    for name in ["table.toml", "student.toml", "teacher.toml"] {
        write(folder.join(name), "this = [is no longer TOML").unwrap();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let plan = folder.join("plan").display().to_string();
    let mut run = folder.sokd(&["sweep", "run", &plan, "--index", "0"]);
    // Wherever a job begins, and whatever its environment says.
    run.current_dir(elsewhere.path()).env("SOKD_RUNS_DIR", elsewhere.path().join("runs"));
    done(&run.output().unwrap(), 0);
    assert_eq!(states(&folder, "plan"), ["finished", "waiting"]);
    assert!(!elsewhere.path().join("runs").exists());
    let said = folder.says(&["sweep", "collect", "plan"], 0);
    assert!(said.contains("alone, seed 1: not measured yet"), "{said}");
}

#[test]
fn a_torn_plan_says_so() {
    let folder = with_table();
    folder.says(&["sweep", "plan", "table.toml", "-o", "plan"], 0);
    let path = folder.join("plan/grid.jsonl");
    let whole = read_to_string(&path).unwrap();
    let first_gone = whole.split_once('\n').unwrap().1;
    for (torn, says) in [
        (&whole[..whole.len() / 2 - 9], "line 2"),
        (first_gone, "cell 1 stands where 0 should"),
        ("", "it has 0 cells"),
    ] {
        write(&path, torn).unwrap();
        let said = folder.says(&["sweep", "status", "plan"], 1);
        assert!(said.contains(says) && said.contains("--force"), "{said}");
    }
    write(&path, &whole).unwrap();
    let recipe = folder.join("plan").join(lines(&path)[0]["recipe"].as_str().unwrap());
    let changed = read_to_string(&recipe).unwrap().replace("epochs = 4", "epochs = 5");
    write(&recipe, changed).unwrap();
    let said = folder.says(&["sweep", "run", "plan", "--index", "0"], 1);
    assert!(said.contains("reads it differently"), "{said}");
    let said = folder.says(&["sweep", "run", "plan", "--index", "4"], 2);
    assert!(said.contains("the cells 0 to 3"), "{said}");
}

#[test]
fn scripts_are_what_a_shell_can_read() {
    let folder = with_table();
    folder.says(&["sweep", "plan", "table.toml", "-o", "a plan"], 0);
    let common = ["sweep", "submit", "a plan", "--engine"];
    for (engine, more, says) in [
        (
            "slurm",
            &["--time", "10", "--at-once", "2", "--option=--partition=gpu"][..],
            &["#SBATCH --array=0-3%2", "#SBATCH --partition=gpu", "#SBATCH --time=10", "sweep prepare"][..],
        ),
        ("hq", &["--option=--cpus=4"], &["--array=0-3", "--cpus=4", "sweep prepare"]),
        (
            "k8s",
            &["--image", "sokd:1", "--claim", "scratch"],
            &["\"completions\": 4", "\"completionMode\": \"Indexed\""],
        ),
    ] {
        let output = folder.sokd(&[&common[..], &[engine], more].concat()).output().unwrap();
        let script = done(&output, 0);
        for line in says {
            assert!(script.contains(line), "{line}: {script}");
        }
        let path = folder.join("script.sh");
        write(&path, &script).unwrap();
        let checked = std::process::Command::new("bash").arg("-n").arg(&path).output().unwrap();
        assert!(checked.status.success(), "{}{script}", String::from_utf8_lossy(&checked.stderr));
    }
    let said = folder.says(&[&common[..], &["k8s"]].concat(), 2);
    assert!(said.contains("--image"), "{said}");
    let mut absent = folder.sokd(&[&common[..], &["hq", "--yes"]].concat());
    let said = done(&absent.env("PATH", "").output().unwrap(), 2);
    assert!(said.contains("there is no `hq`"), "{said}");
}
