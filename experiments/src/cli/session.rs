use crate::kept::Kept;
use crate::progress::Stage;
use crate::{Result, device, fabric};
use clap::Args;
use sokd_core::Error;
use sokd_world::{Place, Share, World};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// What the help calls them.
const EVERYWHERE: &str = "Options of every command";

/// What every verb understands.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Threads of the kernels; all cores by default. Results are the same for any number.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// `cpu`, `cuda:0`, `metal`.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "DEVICE", default_value = "cpu")]
    device: String,
    /// Says more: -v what happens, -vv how.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Says less: no progress, only results and errors.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    quiet: bool,
}

/// What every verb finds ready: threads, a device, a voice.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where tensors live.
    pub device: candle::Device,
    /// Its name, as the command line has it.
    pub device_name: String,
    /// Where progress is shown.
    pub stage: Stage,
    /// What its runs share.
    pub kept: Arc<Kept>,
    /// Whether only results and errors are shown.
    pub quiet: bool,
    /// Where this process stands among those that train with it.
    pub place: Option<Place>,
}

/// So many seconds processes wait for each other before they begin; 300 by default.
const PATIENCE: &str = "SOKD_PATIENCE";

impl Session {
    /// Sets threads, device and log as the command line says, for a process that stands there among others: it takes its
    /// part of the machine, and leaves talking to rank 0.
    ///
    /// # Errors
    /// A device that this build or this machine has not; a variable of the environment that says what nobody knows.
    pub fn new(common: &Common, place: Option<Place>) -> Result<Self> {
        crate::memory::keep();
        sokd_ops::check_environment()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let own = place.as_ref().map_or(cores, |place| (cores / place.sharing).max(1));
        sokd_ops::set_threads(common.threads.map_or(own, usize::from))?;
        let quiet = common.quiet || place.as_ref().is_some_and(|place| place.rank > 0);
        let level = match (quiet, common.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "sokd=info,warn",
            _ => "sokd=debug,info",
        };
        let filter = EnvFilter::try_from_env("SOKD_LOG")
            .or_else(|_| EnvFilter::try_from_default_env())
            .unwrap_or_else(|_| EnvFilter::new(level));
        let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let log =
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(color).with_writer(std::io::stderr);
        // A second session in one process, as in tests, keeps the first one's log.
        log.without_time().try_init().ok();
        let device_name = match &place {
            Some(place) if common.device == "cuda" => format!("cuda:{}", place.local),
            _ => common.device.clone(),
        };
        Ok(Self {
            device: device::named(&device_name)?,
            device_name,
            stage: Stage::new(quiet),
            kept: Arc::default(),
            quiet,
            place,
        })
    }

    /// Which part of every batch is this process's.
    pub fn share(&self) -> Share {
        self.place.as_ref().map_or(Share::WHOLE, Place::share)
    }

    /// Meets the processes that train with this one, if there are any.
    ///
    /// # Errors
    /// Not all of them come within the seconds that `SOKD_PATIENCE` has.
    pub fn meet(&self) -> Result<World> {
        let Some(place) = &self.place else { return Ok(World::alone()) };
        let Place { rank, size, host, port, .. } = place;
        if *rank == 0 {
            self.stage.say(&format!("{size} processes meet at {host}:{port}"));
        }
        let seconds = match std::env::var(PATIENCE) {
            Err(_) => 300,
            Ok(text) => text
                .parse()
                .map_err(|_| Error::setting(PATIENCE, format!("`{text}` is no number of seconds")))?,
        };
        fabric::over_gpus(World::join(place, Duration::from_secs(seconds))?, &self.device, &self.stage)
    }
}
