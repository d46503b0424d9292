use super::batch::{metrics, milliseconds, params, short};
use super::server::{Server, Trouble};
use super::{ADDRESS, EXPERIMENT, FILE};
use crate::Result;
use crate::environment::Environment;
use crate::track::{About, Ended, Line, Tracker};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sokd_core::{Error, file};
use std::path::PathBuf;

/// Letters of a run's description: what servers take as a tag.
const DESCRIPTION: usize = 5000;

/// Which run of which server a run is, and up to where the server knows it: `mlflow.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    server: String,
    experiment: String,
    run: String,
    knows: u64,
}

/// Tells an MLflow server.
struct MlFlow {
    server: Server,
    experiment: String,
    note: Note,
    kept: PathBuf,
    /// When the run began, in seconds since 1970.
    began: f64,
    /// When the last line was, if one was told.
    last: Option<f64>,
}

pub fn open() -> Result<Box<dyn Tracker>> {
    Ok(Box::new(MlFlow {
        server: Server::from_env()?,
        experiment: experiment(),
        note: Note::default(),
        kept: PathBuf::new(),
        began: 0.0,
        last: None,
    }))
}

fn experiment() -> String {
    std::env::var(EXPERIMENT).ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "sokd".to_owned())
}

/// Whether anyone answers.
pub fn state() -> String {
    if std::env::var_os(ADDRESS).is_none() {
        return format!("compiled in; {ADDRESS} is not set");
    }
    let reach = || {
        let mut server = Server::from_env()?;
        server.say("experiments/search", &json!({ "max_results": 1 }))?;
        Ok::<_, crate::Error>(format!("{} answers; experiment {}", server.name, experiment()))
    };
    reach().unwrap_or_else(|error| error.to_string())
}

impl Tracker for MlFlow {
    /// A server takes nothing back, and a run that goes on says the same again: only what it does not know is told.
    fn begin(&mut self, run: &About, _: Option<u64>) -> Result<u64> {
        self.began = run.began();
        self.kept = run.dir.join(FILE);
        let kept = std::fs::read(&self.kept).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let kept =
            kept.filter(|note: &Note| note.server == self.server.name && note.experiment == self.experiment);
        let goes_on = match &kept {
            Some(note) => self.goes_on(&note.run)?,
            None => false,
        };
        self.note = match kept {
            Some(note) if goes_on => note,
            _ => self.register(run)?,
        };
        self.keep()?;
        Ok(self.note.knows)
    }

    fn tell(&mut self, lines: &[Line]) -> Result<()> {
        for request in metrics(&self.note.run, lines, self.began) {
            self.server.say("runs/log-batch", &request)?;
        }
        if let Some(line) = lines.last() {
            self.note.knows = line.at;
            self.last = Some(self.began + line.seconds);
            self.keep()?;
        }
        Ok(())
    }

    fn end(&mut self, ended: Ended) -> Result<()> {
        let status = match ended {
            Ended::Finished => "FINISHED",
            Ended::Failed => "FAILED",
            Ended::Stopped => "KILLED",
        };
        let mut request = json!({ "run_id": self.note.run, "status": status });
        if let Some(last) = self.last {
            request["end_time"] = milliseconds(last).into();
        }
        self.server.say("runs/update", &request).map(drop)
    }
}

impl MlFlow {
    /// Says that a run goes on; `false` where the server does not know it.
    fn goes_on(&mut self, run: &str) -> Result<bool> {
        match self.server.ask("runs/update", &json!({ "run_id": run, "status": "RUNNING" })) {
            Ok(_) => Ok(true),
            Err(Trouble::Refused { status: 404, .. }) => Ok(false),
            Err(trouble) => Err(self.server.error(trouble)),
        }
    }

    /// A run of the server's own, with everything that is known before the first step.
    fn register(&mut self, run: &About) -> Result<Note> {
        let experiment = self.server.experiment(&self.experiment)?;
        let Environment { host, started, commit, .. } = &run.environment;
        // An answer that came too late, or a note that was lost, leaves a run: it is found by its key.
        let place = std::path::absolute(&run.dir).map_err(Error::io(&run.dir))?;
        let key = blake3::hash(format!("{host} {} {started}", place.display()).as_bytes()).to_hex();
        let search = json!({
            "experiment_ids": [experiment],
            "filter": format!("tags.\"sokd.run\" = '{key}'"),
            "max_results": 1,
        });
        let found = self.server.say("runs/search", &search)?;
        let id = |answer: &Value, at: &str| answer.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let id = match id(&found, "/runs/0/info/run_id") {
            Some(id) => {
                self.goes_on(&id)?;
                id
            }
            None => {
                let tags = [
                    ("sokd.run", key.to_string()),
                    ("sokd.recipe", run.resolved.id.clone()),
                    ("sokd.label", run.label.clone()),
                    ("sokd.seed", run.resolved.recipe.seed.to_string()),
                    ("sokd.host", host.clone()),
                    ("mlflow.source.name", "sokd".to_owned()),
                    ("mlflow.source.type", "LOCAL".to_owned()),
                    ("mlflow.source.git.commit", commit.clone()),
                    ("mlflow.note.content", short(&run.page()?, DESCRIPTION)),
                ];
                let tags: Vec<Value> =
                    tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
                let request = json!({
                    "experiment_id": experiment,
                    "run_name": run.label,
                    "start_time": milliseconds(self.began),
                    "tags": tags,
                });
                let answer = self.server.say("runs/create", &request)?;
                let nameless = || Trouble::Away("no MLflow server: it names no run".to_owned());
                id(&answer, "/run/info/run_id").ok_or_else(|| self.server.error(nameless()))?
            }
        };
        for request in params(&id, &run.settings()?) {
            self.server.say("runs/log-batch", &request)?;
        }
        Ok(Note { server: self.server.name.clone(), experiment: self.experiment.clone(), run: id, knows: 0 })
    }

    fn keep(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.note)
            .map_err(|error| Error::file(&self.kept, None, error.to_string(), "report this bug"))?;
        Ok(file::write(&self.kept, &text)?)
    }
}
