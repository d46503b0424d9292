//! A real MLflow server on this machine, for as long as the test.

use crate::folder::{Folder, done};
use crate::http::ask;
use crate::{RECIPE, metrics, points, python, stop, train};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The whole server with its workers, which end with it.
struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Option<Self> {
        let python = python::with(&["mlflow", "flask", "sqlalchemy"])?;
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = folder.path().display();
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/track/server.py"));
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"]);
        command.args(["--backend-store-uri", &format!("sqlite:///{place}/runs.db")]);
        command.args(["--default-artifact-root", &format!("{place}/artifacts")]);
        for (name, value) in [
            ("MLFLOW_DISABLE_TELEMETRY", "true"),
            ("DO_NOT_TRACK", "true"),
            ("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false"),
        ] {
            command.env(name, value);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).current_dir(folder.path());
        let child = command.spawn().unwrap();
        let mut server = Self { child, port, _folder: folder };
        let begun = Instant::now();
        while server.ask("GET", "experiments/get?experiment_id=0", &Value::Null).is_none() {
            let ended = server.child.try_wait().unwrap();
            if let Some(status) = ended {
                println!("skipped, because MLflow's server ended by itself: {status}");
                return None;
            }
            assert!(begun.elapsed() < Duration::from_mins(3), "MLflow's server does not answer");
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(server)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        ask(self.port, method, &format!("/api/2.0/mlflow/{path}"), body)
    }

    fn runs(&self, experiment: &str) -> Vec<Value> {
        let path = format!("experiments/get-by-name?experiment_name={experiment}");
        let found = self.ask("GET", &path, &Value::Null).unwrap();
        let id = &found["experiment"]["experiment_id"];
        let runs = self.ask("POST", "runs/search", &json!({ "experiment_ids": [id] })).unwrap();
        runs["runs"].as_array().unwrap().clone()
    }

    fn history(&self, run: &Value, name: &str) -> Vec<(u64, Value)> {
        let run = run["info"]["run_id"].as_str().unwrap();
        let path = format!("metrics/get-history?run_id={run}&metric_key={name}&max_results=1000");
        let found = self.ask("GET", &path, &Value::Null).unwrap();
        let points = found["metrics"].as_array().cloned().unwrap_or_default();
        let mut points: Vec<_> =
            points.iter().map(|one| (one["step"].as_u64().unwrap_or(0), one["value"].clone())).collect();
        points.sort_by_key(|(step, _)| *step);
        points
    }

    fn toward(&self, mut command: Command, experiment: &str) -> Command {
        command.env("MLFLOW_TRACKING_URI", format!("http://127.0.0.1:{}", self.port));
        command.env("MLFLOW_EXPERIMENT_NAME", experiment).env("MLFLOW_TRACKING_TOKEN", "a-token");
        command
    }
}

impl Drop for Server {
    /// The script ends the server when nobody holds its input any more.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

fn pairs(list: &Value) -> Vec<(&str, &str)> {
    let entries = list.as_array().unwrap().iter();
    entries.map(|entry| (entry["key"].as_str().unwrap(), entry["value"].as_str().unwrap())).collect()
}

#[test]
#[cfg(unix)]
fn mlflow_itself_takes_what_runs_tell() {
    let Some(server) = Server::start() else { return };
    a_broken_run_is_one_run(&server);
    what_is_not_finite_arrives(&server);
    a_run_that_fails_has_failed(&server);
    let doctor = server.toward(Folder::of(RECIPE).sokd(&["doctor"]), "doctor").output().unwrap();
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains(&format!("mlflow: http://127.0.0.1:{} answers", server.port)), "{doctor}");
    assert!(!doctor.contains("a-token"), "{doctor}");
}

/// Stopped, put back to an earlier checkpoint and gone on with, it is the same run there, and each point is there once.
#[cfg(unix)]
fn a_broken_run_is_one_run(server: &Server) {
    let folder = Folder::of(RECIPE);
    let train = || server.toward(train(&folder, "run", "mlflow"), "broken");
    stop(train(), &folder.join("run"), "epoch 1 of 4");
    let run = &server.runs("broken")[0];
    assert_eq!(run["info"]["status"], "KILLED");
    done(&train().output().unwrap(), 0);

    let runs = server.runs("broken");
    assert_eq!((runs.len(), &runs[0]["info"]["run_id"]), (1, &run["info"]["run_id"]));
    let run = &runs[0];
    assert_eq!(run["info"]["status"], "FINISHED");
    assert_eq!(run["info"]["run_name"], "recipe.toml, seed 0");
    let metrics = metrics(&folder.join("run"));
    for name in ["test/top1", "train/student/loss", "train/search/loss"] {
        let expected: Vec<_> =
            points(&metrics, name).into_iter().map(|(at, value)| (at, value.into())).collect();
        assert_eq!(server.history(run, name), expected, "{name}");
    }
    let params = pairs(&run["data"]["params"]);
    assert!(
        params.contains(&("epochs", "4")) && params.contains(&("phase.student.optim.type", "sgd")),
        "{params:?}"
    );
    let tags = pairs(&run["data"]["tags"]);
    let tag = |name: &str| tags.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).unwrap();
    let summary = std::fs::read(folder.join("run/summary.json")).unwrap();
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(tag("sokd.recipe"), summary["recipe"]);
    assert_eq!(tag("mlflow.source.git.commit"), summary["environment"]["commit"]);
    assert_eq!((tag("sokd.seed"), tag("sokd.label")), ("0", "recipe.toml, seed 0"));
    assert!(tag("mlflow.note.content").contains("```toml"));

    // A note that was lost: the run is found by its key, and takes nothing twice.
    std::fs::remove_file(folder.join("run/mlflow.json")).unwrap();
    done(&server.toward(folder.sokd(&["track", "run", "--to", "mlflow"]), "broken").output().unwrap(), 0);
    assert_eq!(server.runs("broken").len(), 1);
    assert_eq!(server.history(run, "test/top1").len(), 4);
}

/// A diverged loss, as the file of metrics has it.
fn what_is_not_finite_arrives(server: &Server) {
    let folder = Folder::of(RECIPE);
    done(&train(&folder, "run", "none").output().unwrap(), 0);
    let mut metrics = OpenOptions::new().append(true).open(folder.join("run/metrics.jsonl")).unwrap();
    writeln!(metrics, r#"{{"event":"epoch","epoch":4,"step":99,"seconds":9.0,"train/student/loss":null}}"#)
        .unwrap();
    done(&server.toward(folder.sokd(&["track", "run", "--to", "mlflow"]), "odd").output().unwrap(), 0);
    let runs = server.runs("odd");
    let last = server.history(&runs[0], "train/student/loss").pop().unwrap();
    assert_eq!(last, (101, "NaN".into()));
}

fn a_run_that_fails_has_failed(server: &Server) {
    let folder = Folder::of(RECIPE);
    let mut wild = server.toward(train(&folder, "wild", "mlflow"), "wild");
    done(&wild.arg("phase.student.lr.base=1e12").output().unwrap(), 3);
    assert_eq!(server.runs("wild")[0]["info"]["status"], "FAILED");
}
