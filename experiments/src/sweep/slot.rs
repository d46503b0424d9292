use super::{Slots, Standing, Stands, Sweep, Task};
use crate::rundir::Status;
use crate::stopwatch::Stopwatch;
use crate::{Error, Exit, Result};
use indicatif::{ProgressBar, ProgressStyle};
use sokd_core::Error as Part;
use std::fs::{File, create_dir_all};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

/// A slot shows new numbers so often.
const OFTEN: Duration = Duration::from_secs(1);

/// A cell at work in a process of its own.
pub(super) struct Slot<'a> {
    pub task: &'a Task,
    /// Which share of the threads it has.
    pub place: usize,
    child: Child,
    /// While this is open the child works. It closes when it is dropped, and also when this process is killed: then the child
    /// saves and leaves, so that no cell runs on without anyone who knows of it.
    leash: Option<ChildStdin>,
    /// Its run's last checkpoint, before this try.
    saved: Option<Vec<u8>>,
    bar: ProgressBar,
    shown: Stopwatch,
}

/// How a try ended.
#[derive(Debug)]
pub(super) enum Ended {
    Finished,
    /// Somebody works there, or it was asked to stop: it goes on later.
    Later,
    /// From outside; and whether it had come further than before.
    Killed {
        further: bool,
    },
    Failed(Error),
}

impl<'a> Slot<'a> {
    /// Starts a cell.
    pub(super) fn start(
        task: &'a Task,
        (place, threads): (usize, usize),
        slots: &Slots<'_>,
        program: &Path,
    ) -> Result<Self> {
        let Slots { sweep, session, track, .. } = slots;
        let log = sweep.log(task);
        let folder = log.parent().unwrap_or(&sweep.dir);
        create_dir_all(folder).map_err(Part::io(folder))?;
        let log_file = File::options().create(true).append(true).open(&log).map_err(Part::io(&log))?;
        let mut command = Command::new(program);
        command.args(["sweep", "run"]).arg(&sweep.dir).args(["--index", &task.cell.to_string(), "--leash"]);
        command.args(["--threads", &threads.to_string(), "--device", &slots.device(place)]);
        if !track.is_empty() {
            command.args(["--track", &track.join(",")]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log_file);
        // Ctrl-C reaches the whole group of a terminal: the child shall hear of it once, from us.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(Part::io(program))?;
        let style = ProgressStyle::with_template("{prefix} {bar:20.cyan/dim} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(1).with_style(style.progress_chars("━━─")).with_prefix(task.label.clone());
        Ok(Self {
            task,
            place,
            leash: child.stdin.take(),
            child,
            saved: saved(&task.job.run),
            bar: session.stage.bars.add(bar),
            shown: Stopwatch::start(),
        })
    }

    /// Asks the child to save and leave.
    pub(super) fn stop(&mut self) {
        self.leash = None;
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self, sweep: &Sweep) -> Result<Option<Ended>> {
        let status = self.child.try_wait().map_err(Part::io(Path::new("a child process")))?;
        let Some(status) = status else {
            self.show(sweep);
            return Ok(None);
        };
        Ok(Some(match status.code() {
            Some(0) => Ended::Finished,
            Some(code) if code == Exit::TryAgain as i32 => Ended::Later,
            _ if from_outside(status) => Ended::Killed { further: saved(&self.task.job.run) != self.saved },
            _ => Ended::Failed(self.fault(sweep, status)),
        }))
    }

    fn fault(&self, sweep: &Sweep, status: ExitStatus) -> Error {
        let told = Status::read(&self.task.job.run).ok().flatten().and_then(|status| status.problem);
        Error::Ended {
            label: self.task.label.clone(),
            problem: told.unwrap_or_else(|| status.to_string()),
            exit: status.code().map_or(Exit::Failed, Exit::of),
            log: sweep.log(self.task),
        }
    }

    fn show(&mut self, sweep: &Sweep) {
        if self.bar.is_hidden() || self.shown.elapsed() < OFTEN {
            return;
        }
        self.shown = Stopwatch::start();
        let teacher = self.task.teacher.as_ref();
        let teacher = teacher.map(|prior| Standing::of(None, &prior.label, &prior.job, &sweep.dir));
        let standing = match teacher {
            Some(teacher) if teacher.state != Stands::Finished => teacher,
            _ => Standing::of(Some(self.task.cell), &self.task.label, &self.task.job, &sweep.dir),
        };
        self.bar.set_length(standing.epochs.unwrap_or(1));
        self.bar.set_position(standing.epoch.unwrap_or(0));
        self.bar.set_prefix(standing.label.clone());
        self.bar.set_message(standing.pace());
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// What a run's last checkpoint says of itself. When it was made would tell less: clocks are set back.
fn saved(run: &Path) -> Option<Vec<u8>> {
    std::fs::read(run.join("checkpoints/last/manifest.json")).ok()
}

/// Whether somebody else ended the process: the system that had no memory left, a person, a second TERM.
fn from_outside(status: ExitStatus) -> bool {
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1};
        use std::os::unix::process::ExitStatusExt;
        if let Some(signal) = status.signal() {
            return [SIGHUP, SIGINT, SIGKILL, SIGTERM, SIGUSR1].contains(&signal);
        }
    }
    status.code().is_none_or(|code| [Exit::Interrupted as i32, Exit::Terminated as i32].contains(&code))
}
