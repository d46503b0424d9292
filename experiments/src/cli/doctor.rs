use super::{Session, print, print_json};
use crate::environment::Environment;
use crate::{Misfit, Result, device, rundir, track};
use clap::Args;
use serde::Serialize;
use sokd_data::{Locations, Manifest};
use sokd_hub::Hub;
use sokd_ops::Parity;
use std::path::{Path, PathBuf};

/// Says what this program finds on this machine: devices, threads, folders, data, hub, trackers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sokd doctor --json\n  sokd doctor --kernels --device cuda")]
pub struct Doctor {
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Tries every operation on the device, results and gradients, against plain operations in double precision on the CPU.
    #[arg(long)]
    kernels: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Findings {
    environment: Environment,
    devices: Vec<(String, String)>,
    runs: PathBuf,
    runs_writable: bool,
    data_folders: Vec<PathBuf>,
    data: Vec<(String, Option<PathBuf>)>,
    hub: HubFindings,
    trackers: Vec<(String, String)>,
    variables: Vec<(String, String)>,
}

/// The Hub, as far as it can be told without asking it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct HubFindings {
    endpoint: String,
    offline: bool,
    /// Whether there is one, and nothing of it.
    token: bool,
    cache: PathBuf,
    cache_writable: bool,
}

impl HubFindings {
    fn look() -> Result<Self> {
        let hub = Hub::from_env()?;
        let cache = hub.cache();
        Ok(Self {
            endpoint: hub.endpoint(),
            offline: hub.is_offline(),
            token: hub.has_token(),
            cache_writable: is_writable(&cache),
            cache,
        })
    }
}

/// Whether a file can be made in a folder, or in the nearest one above it that exists and in which it would be made.
fn is_writable(folder: &Path) -> bool {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let exists = absolute.ancestors().find(|folder| folder.is_dir());
    exists.is_some_and(|folder| tempfile::tempfile_in(folder).is_ok())
}

/// The variables of the environment that this program heeds.
const VARIABLES: &[&str] = &[
    "SOKD_DATA_DIR",
    "SOKD_RUNS_DIR",
    "SOKD_BACKEND",
    "SOKD_SIMD",
    "SOKD_TF32",
    "SOKD_MEASURE",
    "SOKD_CUDA_GRAPHS",
    "SOKD_NCCL",
    "SOKD_LOG",
    "SOKD_TRACK",
    "RUST_LOG",
    "NO_COLOR",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TORCH_HOME",
    "MLFLOW_EXPERIMENT_NAME",
    "XDG_CACHE_HOME",
];

impl Doctor {
    pub fn run(&self, session: &Session) -> Result<()> {
        if self.kernels {
            return self.try_kernels(session);
        }
        let findings = Findings::look(session)?;
        if self.json { print_json(&findings) } else { print(findings.to_string()) }
    }

    fn try_kernels(&self, session: &Session) -> Result<()> {
        let mut tried = Vec::new();
        for kernel in sokd_ops::parity(&session.device) {
            let Parity { operation, mixed, result, gradients } = kernel?;
            let operation = if mixed { format!("{operation}, mixed") } else { operation.to_owned() };
            if !self.json {
                print(format!("{operation:<40}  {result:>8.1e}  {gradients:>8.1e}"))?;
            }
            tried.push(Tried { operation, mixed, result, gradients });
        }
        if self.json {
            print_json(&tried)?;
        }
        let single = if sokd_ops::tf32() { TF32 } else { SINGLE };
        let within = |kernel: &Tried| if kernel.mixed { MIXED } else { single };
        let off = tried.iter().filter(|kernel| kernel.result.max(kernel.gradients) > within(kernel));
        let off: Vec<_> = off.map(|kernel| kernel.operation.as_str()).collect();
        let (device, count) = (&session.device_name, tried.len());
        if !off.is_empty() {
            let off = off.join("; ");
            return Err(Misfit::new(format!(
                "{device} is off by more than {single:e} (mixed: {MIXED:e}) in: {off}"
            ))
            .help("SOKD_BACKEND=composed runs plain operations instead")
            .into());
        }
        let all = format!(
            "{device}: {count} operations, results and gradients, within {single:e} of their largest number, {MIXED:e} in mixed precision"
        );
        if self.json { Ok(()) } else { print(all) }
    }
}

/// What single precision is allowed to be off by, as a share of the largest number; what factors rounded to ten bits are.
const SINGLE: f64 = 1e-5;
const TF32: f64 = 5e-3;
/// And maps in bfloat16.
const MIXED: f64 = 1e-2;

/// An operation that was tried, and by which share of its largest number it was off.
#[derive(Debug, Serialize)]
struct Tried {
    operation: String,
    mixed: bool,
    result: f64,
    gradients: f64,
}

impl Findings {
    fn look(session: &Session) -> Result<Self> {
        let locations = Locations::from_env();
        let runs = rundir::root();
        let found = |manifest: &Manifest| (manifest.name.clone(), manifest.place(&locations).ok());
        let set = |name: &&str| Some(((*name).to_owned(), std::env::var(name).ok()?));
        Ok(Self {
            environment: Environment::here(&session.device_name),
            devices: device::kinds(),
            runs_writable: is_writable(&runs),
            runs,
            data_folders: locations.folders().to_vec(),
            data: Manifest::all().iter().map(found).collect(),
            hub: HubFindings::look()?,
            trackers: track::ALL.iter().map(|kind| (kind.name.to_owned(), (kind.state)())).collect(),
            variables: VARIABLES.iter().filter_map(set).collect(),
        })
    }
}

impl std::fmt::Display for Findings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Environment { version, commit, machine, host, simd, threads, .. } = &self.environment;
        writeln!(out, "sokd        {version}, commit {commit}")?;
        writeln!(out, "machine     {host}: {machine}")?;
        writeln!(out, "kernels     {simd}, {threads} threads")?;
        for (name, state) in &self.devices {
            writeln!(out, "device      {name}: {state}")?;
        }
        let writable = if self.runs_writable { "" } else { "   CANNOT BE WRITTEN: set SOKD_RUNS_DIR" };
        writeln!(out, "runs        {}{writable}", self.runs.display())?;
        for (name, place) in &self.data {
            if let Some(place) = place {
                writeln!(out, "data        {name}: {}", place.display())?;
            } else {
                let fetched = Manifest::named(name).is_some_and(Manifest::is_fetched);
                let remedy = if fetched { format!("; sokd data fetch {name}") } else { String::new() };
                writeln!(out, "data        {name}: not here{remedy}")?;
            }
        }
        for folder in &self.data_folders {
            writeln!(out, "looks in    {}", folder.display())?;
        }
        let HubFindings { endpoint, offline, token, cache, cache_writable } = &self.hub;
        let offline = if *offline { ", not asked: HF_HUB_OFFLINE" } else { "" };
        let token = if *token { "with a token" } else { "without a token" };
        writeln!(out, "hub         {endpoint}, {token}{offline}")?;
        let writable = if *cache_writable { "" } else { "   CANNOT BE WRITTEN: set HF_HUB_CACHE" };
        writeln!(out, "hub cache   {}{writable}", cache.display())?;
        for (name, state) in &self.trackers {
            writeln!(out, "tracker     {name}: {state}")?;
        }
        for (name, value) in &self.variables {
            writeln!(out, "set         {name}={value}")?;
        }
        write!(out, "help        sokd --help, sokd list, sokd describe NAME")
    }
}
