use super::{Session, print, print_json};
use crate::environment::Environment;
use crate::{Result, rundir, track};
use clap::Args;
use serde::Serialize;
use sokd_data::{Locations, Manifest};
use std::path::PathBuf;

/// Says what this program finds on this machine: devices, threads, folders, data, trackers.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sokd doctor --json")]
pub struct Doctor {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Findings {
    environment: Environment,
    devices: Vec<String>,
    runs: PathBuf,
    runs_writable: bool,
    data_folders: Vec<PathBuf>,
    data: Vec<(String, Option<PathBuf>)>,
    trackers: Vec<(String, String)>,
    variables: Vec<(String, String)>,
}

/// The variables of the environment that this program heeds.
const VARIABLES: &[&str] = &[
    "SOKD_DATA_DIR",
    "SOKD_RUNS_DIR",
    "SOKD_BACKEND",
    "SOKD_SIMD",
    "SOKD_LOG",
    "SOKD_TRACK",
    "RUST_LOG",
    "NO_COLOR",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "MLFLOW_EXPERIMENT_NAME",
    "XDG_CACHE_HOME",
];

impl Doctor {
    pub fn run(&self, session: &Session) -> Result<()> {
        let findings = Findings::look(session);
        if self.json { print_json(&findings) } else { print(findings.to_string()) }
    }
}

impl Findings {
    fn look(session: &Session) -> Self {
        let locations = Locations::from_env();
        let mut devices = vec!["cpu".to_owned()];
        if candle::Device::new_cuda(0).is_ok() {
            devices.push("cuda".into());
        }
        if candle::Device::new_metal(0).is_ok() {
            devices.push("metal".into());
        }
        let runs = rundir::root();
        // The nearest folder that exists is the one in which others would be made.
        let absolute = std::path::absolute(&runs).unwrap_or_else(|_| runs.clone());
        let exists = absolute.ancestors().find(|folder| folder.is_dir());
        let runs_writable = exists.is_some_and(|folder| tempfile::tempfile_in(folder).is_ok());
        let found = |manifest: &Manifest| (manifest.name.clone(), manifest.place(&locations).ok());
        let set = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok()?));
        Self {
            environment: Environment::here(&session.device_name),
            devices,
            runs,
            runs_writable,
            data_folders: locations.folders().to_vec(),
            data: Manifest::all().iter().map(found).collect(),
            trackers: track::ALL.iter().map(|kind| (kind.name.to_owned(), (kind.state)())).collect(),
            variables: VARIABLES.iter().filter_map(set).collect(),
        }
    }
}

impl std::fmt::Display for Findings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Environment { version, commit, machine, host, simd, threads, .. } = &self.environment;
        writeln!(out, "sokd        {version}, commit {commit}")?;
        writeln!(out, "machine     {host}: {machine}")?;
        writeln!(out, "kernels     {simd}, {threads} threads")?;
        writeln!(out, "devices     {}", self.devices.join(", "))?;
        let writable = if self.runs_writable { "" } else { "   CANNOT BE WRITTEN: set SOKD_RUNS_DIR" };
        writeln!(out, "runs        {}{writable}", self.runs.display())?;
        for (name, place) in &self.data {
            if let Some(place) = place {
                writeln!(out, "data        {name}: {}", place.display())?;
            } else {
                let fetched = Manifest::named(name).is_some_and(|known| known.to_fetch().next().is_some());
                let remedy = if fetched { format!("; sokd data fetch {name}") } else { String::new() };
                writeln!(out, "data        {name}: not here{remedy}")?;
            }
        }
        for folder in &self.data_folders {
            writeln!(out, "looks in    {}", folder.display())?;
        }
        for (name, state) in &self.trackers {
            writeln!(out, "tracker     {name}: {state}")?;
        }
        for (name, value) in &self.variables {
            writeln!(out, "set         {name}={value}")?;
        }
        write!(out, "help        sokd --help, sokd list, sokd describe NAME")
    }
}
