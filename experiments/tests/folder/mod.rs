//! A folder of files, the program run in it, and processes that are waited for.

#![allow(dead_code, reason = "no test needs it all")]
#![allow(clippy::disallowed_methods, reason = "who waits for a process looks at the clock")]

use std::fs::{create_dir_all, read, read_to_string, write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Folder(tempfile::TempDir);

impl Folder {
    /// With these files in it.
    pub fn with(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.join(name);
            create_dir_all(path.parent().unwrap()).unwrap();
            write(path, text).unwrap();
        }
        folder
    }

    /// With this `recipe.toml`.
    pub fn of(recipe: &str) -> Self {
        Self::with(&[("recipe.toml", recipe)])
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The program on one thread, unless the arguments say how many. It hears nothing of the machine that runs the tests:
    /// neither of its folders, caches and tokens, nor of its servers and of the jobs that a scheduler of its may run.
    pub fn sokd(&self, arguments: &[&str]) -> Command {
        const FOREIGN: [&str; 15] = [
            "HF_",
            "HQ_",
            "JOB_",
            "MASTER_",
            "MLFLOW_",
            "OMPI_",
            "PBS_",
            "PMI_",
            "RANK",
            "SLURM_",
            "SOKD_RUNS_DIR",
            "SOKD_TASK_INDEX",
            "SOKD_TRACK",
            "TORCH_",
            "WORLD_SIZE",
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_sokd"));
        command.current_dir(self.path()).args(arguments);
        if !arguments.contains(&"--threads") {
            command.args(["--threads", "1"]);
        }
        for name in std::env::vars().map(|(name, _)| name) {
            if FOREIGN.iter().any(|start| name.starts_with(start)) || name.to_lowercase().ends_with("_proxy")
            {
                command.env_remove(name);
            }
        }
        // Messages break at this width, which no test is about.
        command.env("COLUMNS", "400").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A run named so.
    pub fn train(&self, run: &str, more: &[&str]) -> Command {
        self.sokd(&[&["train", "recipe.toml", "--run-dir", run], more].concat())
    }

    /// What the program says, if it ends with that code.
    pub fn says(&self, arguments: &[&str], code: i32) -> String {
        done(&self.sokd(arguments).output().unwrap(), code)
    }
}

/// What it said, on the standard output and then on the standard error, if it has ended with that code.
pub fn done(output: &Output, code: i32) -> String {
    let [said, complaint] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert_eq!(output.status.code(), Some(code), "{said}{complaint}");
    format!("{said}{complaint}")
}

/// The same on one line, without the rules that errors are set with.
pub fn on_one_line(said: &str) -> String {
    said.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a run leaves, times aside.
pub fn left(run: &Path) -> ([Vec<u8>; 2], String) {
    let timeless = |line: &str| {
        let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        line.remove("seconds");
        serde_json::Value::Object(line).to_string()
    };
    let metrics = read_to_string(run.join("metrics.jsonl")).unwrap();
    let metrics: Vec<String> = metrics.lines().map(timeless).collect();
    (
        ["student/model.safetensors", "predictions.json"].map(|file| read(run.join(file)).unwrap()),
        metrics.join("\n"),
    )
}

/// Waits until a file of the run says so; the run may not end before.
pub fn heard(child: &mut Child, file: &Path, says: &str) {
    let begun = Instant::now();
    while !read_to_string(file).is_ok_and(|text| text.contains(says)) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before {} said {says}", file.display());
        assert!(begun.elapsed() < Duration::from_mins(2), "{} never said {says}", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until something holds.
pub fn wait(what: &str, patience: Duration, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < patience, "{what}: not after {} s", patience.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether there was such a process to hear it.
#[cfg(unix)]
pub fn signal(process: u32, name: &str) -> bool {
    let sent =
        Command::new("kill").args([&format!("-{name}"), &process.to_string()]).stderr(Stdio::null()).status();
    sent.unwrap().success()
}
