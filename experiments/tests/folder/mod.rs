//! A folder with a recipe, the program run in it, and runs that are waited for.

#![allow(dead_code, reason = "no test needs it all")]
#![allow(clippy::disallowed_methods, reason = "who waits for a process looks at the clock")]

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub struct Folder(tempfile::TempDir);

impl Folder {
    /// With this `recipe.toml`.
    pub fn of(recipe: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
        Self(folder)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program on one thread, told nothing by the environment of where runs lie, who is told of them or what stands
    /// between it and a server.
    pub fn sokd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sokd"));
        command.current_dir(self.0.path()).args(arguments).args(["--threads", "1"]);
        for name in ["SOKD_RUNS_DIR", "SOKD_TRACK"] {
            command.env_remove(name);
        }
        for name in ["MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_TOKEN"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A run named so.
    pub fn train(&self, run: &str, more: &[&str]) -> Command {
        self.sokd(&[&["train", "recipe.toml", "--run-dir", run], more].concat())
    }
}

/// Waits until a file of the run says so; the run may not end before.
pub fn wait(child: &mut Child, file: &Path, says: &str) {
    let begun = Instant::now();
    while !read_to_string(file).is_ok_and(|text| text.contains(says)) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before {} said {says}", file.display());
        assert!(begun.elapsed() < Duration::from_mins(2), "{} never said {says}", file.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What it said on the standard error, once it has ended with this code.
pub fn done(output: &Output, code: i32) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

#[cfg(unix)]
pub fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}
