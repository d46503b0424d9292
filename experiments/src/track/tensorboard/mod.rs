//! Event files in the run's directory, where TensorBoard finds them: `tensorboard --logdir runs`.

mod event;
mod picture;
mod record;
#[cfg(test)]
mod tests;

use super::{About, Ended, Kind, Line, Tracker};
use crate::Result;
use event::{Before, When};
use record::{framed, records};
use sokd_core::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file in the run's directory.
pub const TENSORBOARD: Kind = Kind {
    name: "tensorboard",
    open: || Ok(Box::new(TensorBoard::default())),
    state: || "event files in each run's directory: tensorboard --logdir runs".to_owned(),
};

/// What the names of event files begin with.
pub const FILES: &str = "events.out.tfevents.";

/// Writes an event file.
#[derive(Debug, Default)]
struct TensorBoard {
    file: Option<Events>,
    /// When the run began, in seconds since 1970.
    began: f64,
}

/// An event file, and how much of it is whole.
#[derive(Debug)]
struct Events {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Tracker for TensorBoard {
    fn begin(&mut self, run: &About, from: Option<u64>) -> Result<u64> {
        self.began = run.began();
        let mut earlier = files(&run.dir)?;
        let mut before = Before::default();
        for path in &earlier {
            let bytes = std::fs::read(path).map_err(Error::io(path))?;
            before = records(&bytes).fold(before, Before::and);
        }
        if before.ended || from.is_none() {
            for path in earlier.drain(..) {
                std::fs::remove_file(&path).map_err(Error::io(&path))?;
            }
            before = Before::default();
        }
        let knows = from.map_or(0, |from| before.at.min(from));

        let start = When { time: now(), at: 0 };
        let mut events = vec![start.version()];
        if earlier.is_empty() {
            events.push(start.text("recipe", &run.page()?));
            // A picture is no reason to miss the numbers.
            if let Some(sheet) =
                run.images.as_deref().and_then(|images| picture::sheet(images).ok().flatten())
            {
                events.push(start.image("images/test", sheet.size, &sheet.png));
            }
        }
        // The first such word of a run is its start, and only those behind it take something back: every file has one.
        events.push(When { at: knows + 1, ..start }.restart());
        let mut settings = run.settings()?;
        settings.push(("run".to_owned(), run.label.clone().into()));
        events.push(When { time: self.began, at: 0 }.session_begins(&settings));
        self.file = Some(Events::new(run, &earlier, &events)?);
        Ok(knows)
    }

    fn tell(&mut self, lines: &[Line]) -> Result<()> {
        let event = |line: &Line| When { time: self.began + line.seconds, at: line.at }.scalars(&line.values);
        self.write(&lines.iter().map(event).collect::<Vec<_>>())
    }

    fn end(&mut self, ended: Ended) -> Result<()> {
        match ended {
            // It goes on perhaps, and TensorBoard takes the first word for the last.
            Ended::Stopped => Ok(()),
            _ => self.write(&[When { time: now(), at: 0 }.session_ends(ended)]),
        }
    }
}

impl TensorBoard {
    fn write(&mut self, events: &[Vec<u8>]) -> Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.write(events))
    }
}

impl Events {
    /// A file behind those that are there, with its first events or not at all.
    fn new(run: &About, earlier: &[PathBuf], events: &[Vec<u8>]) -> Result<Self> {
        // TensorBoard reads files in the order of their names, and never goes back.
        let latest = earlier.iter().filter_map(|path| born(path)).max();
        let born = latest.map_or(0, |latest| latest + 1).max(now() as u64);
        let (host, process) = (&run.environment.host, std::process::id());
        let path = run.dir.join(format!("{FILES}{born}.{host}.{process}.{}", earlier.len()));
        let file = File::options().append(true).create_new(true).open(&path).map_err(Error::io(&path))?;
        let mut file = Self { path, file, bytes: 0 };
        file.write(events).inspect_err(|_| drop(std::fs::remove_file(&file.path)))?;
        Ok(file)
    }

    /// All of them in one call of the system, so that a killed process leaves whole records. They are in its hands then, and
    /// TensorBoard sees them; only a machine that dies can lose them, and `metrics.jsonl` has them too.
    fn write(&mut self, events: &[Vec<u8>]) -> Result<()> {
        let bytes = events.iter().map(|event| framed(event)).collect::<Vec<_>>().concat();
        self.file.write_all(&bytes).map_err(|error| {
            // A disk that is full took a part: behind that, nothing could be read.
            self.file.set_len(self.bytes).ok();
            Error::io(&self.path)(error)
        })?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// The event files of a run, in the order in which they were begun.
///
/// # Errors
/// A directory that cannot be read.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let entry = entry.map_err(Error::io(dir))?;
        if entry.file_name().to_string_lossy().starts_with(FILES) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The second in a file's name.
fn born(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(FILES)?.split('.').next()?.parse().ok()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
