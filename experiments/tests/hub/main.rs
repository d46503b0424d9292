//! The program before a hub on this machine: real HTTP, real processes, and faults on demand.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that fails, and waits by the clock"
)]

mod data;
#[path = "../folder/mod.rs"]
mod folder;
mod publish;
mod pull;
mod teach;

use folder::{Folder, on_one_line};
use serde_json::Value;
use sokd_hub::mock::Mock;
use std::fs::read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
    folder: Folder,
    hub: Mock,
}

impl Machine {
    fn new() -> Self {
        Self { folder: Folder::of(RECIPE), hub: Mock::start() }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// With caches and data of its own.
    fn sokd(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.sokd(arguments);
        command.env_remove("TRANSFORMERS_OFFLINE");
        command.env("HF_ENDPOINT", self.hub.endpoint()).env("HF_HOME", self.join("hf"));
        command.env("XDG_CACHE_HOME", self.join("cache")).env("SOKD_DATA_DIR", self.join("data"));
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
    (out, on_one_line(&err))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
