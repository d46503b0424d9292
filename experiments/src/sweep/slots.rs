use super::slot::{Ended, Slot};
use super::{Sweep, Task};
use crate::cli::Session;
use crate::report::duration;
use crate::{Error, Exit, Result, Summary, rundir, signals};
use sokd_train::Stop;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

/// How often children are looked after.
const PAUSE: Duration = Duration::from_millis(50);
/// A cell that is killed so often without getting any further is given up: something on this machine does not want it.
const PATIENCE: usize = 10;

/// Runs the cells of a sweep on this machine, some at a time, each in a process of its own.
#[derive(Debug)]
pub struct Slots<'a> {
    /// What is run.
    pub sweep: &'a Sweep,
    /// Device, voice; its threads are shared among the slots.
    pub session: &'a Session,
    /// How many at a time.
    pub slots: usize,
    /// Who is told what the cells do, as the command line has it.
    pub track: &'a [String],
}

/// What is left to do, and what came of the rest.
struct Ledger<'a> {
    queue: VecDeque<&'a Task>,
    /// Tries in a row that were killed and brought nothing, by cell.
    killed: BTreeMap<usize, usize>,
    /// By cell, so that the first of them is the same whoever was faster.
    failed: BTreeMap<usize, Error>,
    /// Digests of teachers that could not be trained.
    hopeless: Vec<&'a str>,
    done: usize,
    cells: usize,
}

impl Slots<'_> {
    /// Runs what is not finished. A cell that fails does not stop the others; one that is killed goes on where it stood; a signal
    /// stops all, saved.
    ///
    /// # Errors
    /// [`Error::Cells`] once all have been tried, [`Error::Paused`] after a signal.
    pub fn run(&self) -> Result<()> {
        let stop = signals::heed_notice();
        let queue: VecDeque<&Task> = self.sweep.to_do().into();
        let cells = queue.len();
        let (killed, failed, hopeless) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut ledger = Ledger { queue, killed, failed, hopeless, done: 0, cells };
        self.work(&mut ledger, &stop)?;
        let (failed, cells) = (ledger.failed.len(), self.sweep.tasks.len());
        let left = self.sweep.to_do().len();
        if stop.asked() && left > 0 {
            return Err(Error::Paused { dir: self.sweep.dir.clone(), finished: cells - left, cells });
        }
        match ledger.failed.into_values().next() {
            None => Ok(()),
            Some(first) => Err(Error::Cells { failed, cells, first: Box::new(first) }),
        }
    }

    fn work<'a>(&'a self, ledger: &mut Ledger<'a>, stop: &Stop) -> Result<()> {
        // Asked once: a program that is replaced while it runs no longer knows where it is.
        let program = std::env::current_exe().map_err(sokd_core::Error::io(Path::new("sokd")))?;
        let mut busy: Vec<Slot<'a>> = Vec::new();
        loop {
            while busy.len() < self.slots && !stop.asked() {
                let Some(task) = ledger.next(self.sweep, &busy) else { break };
                let free = |place: &usize| busy.iter().all(|slot| slot.place != *place);
                let place = (0..self.slots).find(free).unwrap_or(0);
                busy.push(Slot::start(task, (place, self.threads(place)), self, &program)?);
            }
            if busy.is_empty() && (stop.asked() || ledger.queue.is_empty()) {
                return Ok(());
            }
            let mut still = Vec::new();
            for mut slot in busy {
                if stop.asked() {
                    slot.stop();
                }
                match slot.ended(self.sweep)? {
                    None => still.push(slot),
                    Some(ended) => self.note(ledger, slot.task, ended, stop)?,
                }
            }
            busy = still;
            std::thread::sleep(PAUSE);
        }
    }

    /// The threads of a slot: its share of all, and one of what is left over.
    fn threads(&self, place: usize) -> usize {
        let all = sokd_ops::threads();
        (all / self.slots + usize::from(place < all % self.slots)).max(1)
    }

    /// The device of a slot.
    pub(super) fn device(&self, place: usize) -> String {
        device(&self.session.device_name, place, sokd_ops::cuda_devices())
    }

    fn note<'a>(&self, ledger: &mut Ledger<'a>, task: &'a Task, ended: Ended, stop: &Stop) -> Result<()> {
        let say = |text: &str, done: usize| {
            self.session.stage.say(&format!("[{done}/{}] {}: {text}", ledger.cells, task.label));
        };
        match ended {
            Ended::Finished => {
                ledger.done += 1;
                let Some(Summary { last, best, seconds, .. }) = Summary::read(&task.job.run)? else {
                    return Ok(());
                };
                let scores = format!("{:.2} % last, {:.2} % best (test)", last.top1, best.scores.top1);
                say(&format!("{scores}, {}", duration(seconds)), ledger.done);
            }
            Ended::Later => ledger.queue.push_back(task),
            Ended::Killed { .. } if stop.asked() => ledger.queue.push_back(task),
            Ended::Killed { further } => {
                let tries = ledger.killed.entry(task.cell).or_default();
                *tries = if further { 1 } else { *tries + 1 };
                if *tries < PATIENCE {
                    say("was killed; it goes on where it stood", ledger.done);
                    ledger.queue.push_front(task);
                } else {
                    ledger.done += 1;
                    let problem = format!("it was killed {tries} times without getting any further");
                    say(&problem, ledger.done);
                    ledger.failed.insert(task.cell, given_up(self.sweep, task, problem));
                }
            }
            Ended::Failed(error) => {
                ledger.done += 1;
                self.session.stage.say(&format!("[{}/{}] {error}", ledger.done, ledger.cells));
                if let Some(teacher) = task.teacher.as_ref().filter(|teacher| !teacher.job.done()) {
                    ledger.hopeless.push(&teacher.job.digest);
                }
                ledger.failed.insert(task.cell, error);
            }
        }
        Ok(())
    }
}

impl<'a> Ledger<'a> {
    /// The next cell that can begin: none whose run someone works on, and of those that wait for a teacher only the one that
    /// trains it.
    fn next(&mut self, sweep: &Sweep, busy: &[Slot<'_>]) -> Option<&'a Task> {
        let mut passed = VecDeque::new();
        let mut found = None;
        while let Some(task) = self.queue.pop_front() {
            let teacher = match &task.teacher {
                Some(teacher) if !teacher.job.done() => Some(&teacher.job.digest),
                _ => None,
            };
            if task.job.done() {
                // Someone else was faster.
                self.done += 1;
                continue;
            }
            if let Some(teacher) = teacher
                && self.hopeless.contains(&teacher.as_str())
            {
                self.done += 1;
                let problem = "its teacher could not be trained".to_owned();
                self.failed.insert(task.cell, given_up(sweep, task, problem));
                continue;
            }
            let waits = teacher.is_some_and(|teacher| {
                let trained_by =
                    |slot: &Slot<'_>| slot.task.teacher.as_ref().is_some_and(|of| of.job.digest == *teacher);
                busy.iter().any(trained_by)
            });
            if waits || rundir::busy(&task.job.run) {
                passed.push_back(task);
                continue;
            }
            found = Some(task);
            break;
        }
        // Those that were passed over come first again.
        passed.append(&mut self.queue);
        self.queue = passed;
        found
    }
}

fn given_up(sweep: &Sweep, task: &Task, problem: String) -> Error {
    Error::Ended { label: task.label.clone(), problem, exit: Exit::Failed, log: sweep.log(task) }
}

/// `cuda` is whichever is next of so many GPUs: more slots than GPUs share them. A device with a number is that one.
fn device(name: &str, place: usize, gpus: usize) -> String {
    if name == "cuda" && gpus > 1 { format!("cuda:{}", place % gpus) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::device;

    #[test]
    fn slots_go_round_the_gpus() {
        let of = |name| [0, 1, 2].map(|place| device(name, place, 2));
        assert_eq!(of("cuda"), ["cuda:0", "cuda:1", "cuda:0"]);
        assert_eq!(of("cuda:1"), ["cuda:1"; 3]);
        assert_eq!(of("cpu"), ["cpu"; 3]);
        assert_eq!(device("cuda", 1, 1), "cuda");
    }
}
