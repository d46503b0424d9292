//! The program before a hub on this machine: real HTTP, real processes, and faults on demand.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that fails, and waits by the clock"
)]

mod data;
mod publish;
mod pull;
mod teach;

use serde_json::Value;
use sokd_hub::mock::Mock;
use std::fs::read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A student of seconds, which its teacher's weights fit too.
const RECIPE: &str = r#"
epochs = 1
batch = 8
data = { type = "shapes", train = 24, test = 20 }
student = { model = { type = "cifar-resnet", depth = 8, widths = [4, 4, 4, 4] } }

[objective.task]
loss = { type = "cross-entropy" }

[phase.student]
moves = ["student"]
optim = { type = "sgd", momentum = 0.9 }
lr = { base = 0.02 }
"#;

/// The weights of a user whose token this is.
const TOKEN: &str = "hf_thisIsASecretOfTheTest";

/// A machine with a hub beside it.
struct Machine {
    folder: tempfile::TempDir,
    hub: Mock,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("recipe.toml"), RECIPE).unwrap();
        Self { folder, hub: Mock::start() }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Nothing of the machine that the test runs on: neither its cache nor its token nor its data.
    fn sokd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sokd"));
        command.args(arguments).args(["--threads", "1"]).current_dir(self.folder.path());
        for name in std::env::vars().map(|(name, _)| name) {
            let foreign =
                ["HF_", "SOKD_", "TORCH_", "SLURM_", "MLFLOW_"].iter().any(|start| name.starts_with(start));
            if foreign || name.to_lowercase().ends_with("_proxy") || name == "TRANSFORMERS_OFFLINE" {
                command.env_remove(name);
            }
        }
        command.env("HF_ENDPOINT", self.hub.endpoint()).env("HF_HOME", self.join("hf")).env("NO_COLOR", "1");
        command.env("XDG_CACHE_HOME", self.join("cache")).env("SOKD_DATA_DIR", self.join("data"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a command prints, all being well.
    fn says(&self, arguments: &[&str]) -> String {
        said(self.sokd(arguments).output().unwrap(), 0).0
    }

    /// What a command complains of, on one line.
    fn complains(&self, arguments: &[&str], code: i32) -> String {
        said(self.sokd(arguments).output().unwrap(), code).1
    }

    /// A finished run.
    fn trained(&self, run: &str) -> PathBuf {
        self.says(&["train", "recipe.toml", "--no-studies", "--run-dir", run]);
        self.join(run)
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&read(self.join(name)).unwrap()).unwrap()
    }
}

/// Standard output, and standard error on one line.
fn said(output: Output, code: i32) -> (String, String) {
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(code), "{out}\n{err}");
    assert!(!format!("{out}{err}").contains(TOKEN), "the token is told:\n{out}\n{err}");
    let err = err.replace(['│', '\n'], " ");
    (out, err.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
