use super::complete::names;
use super::entries::Kind;
use super::{Session, Which, print, print_json};
use crate::bench::{Task, What, Work, of_recipe};
use crate::network::Arithmetic;
use crate::pins::Pins;
use crate::prerequisite::Teacher;
use crate::profile::profile;
use crate::stopwatch::{Stopwatch, processor_ms};
use crate::{Model, Result};
use candle::Device;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use sokd_models::Precision;
use sokd_ops::operation_by_operation;
use std::io::BufRead;

/// Times a network on this machine: a training step, a teacher's inference, a step of distillation; or a step of a recipe, or the
/// making of batches.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sokd bench resnet20
  sokd bench resnet56 resnet20 --threads 1
  sokd bench vgg8 --winograd --profile
  sokd bench imagenet_resnet50 --size 224 --mixed --device cuda
  sokd bench --recipe cifar100-tst --set teacher.weights=drawn --epoch 30
  sokd bench --images")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Bench {
    /// A network; two are a teacher and the student that learns from it.
    #[arg(required_unless_present_any = ["images", "recipe"], num_args = 1..=2, value_name = "NETWORK", add = names(&[Kind::Models]))]
    networks: Vec<Model>,
    /// A network's inference, as teachers do it, instead of a training step.
    #[arg(long)]
    inference: bool,
    /// The batches of an epoch of 50,000 images, cropped and mirrored, instead of a network's work.
    #[arg(long, conflicts_with_all = ["networks", "inference", "winograd", "profile", "size", "mixed"])]
    images: bool,
    /// A step of this recipe, each on the same images; where a phase searches in passes of its own before the epoch (TST), a
    /// step of that too.
    #[arg(long, conflicts_with_all = ["networks", "inference", "images", "winograd", "batch", "size", "mixed"], add = names(&[Kind::Recipes, Kind::Presets]))]
    recipe: Option<String>,
    /// The recipe's size: `smoke`, `short`, `full`, or any other it has.
    #[arg(long, requires = "recipe", conflicts_with_all = ["networks", "images"], default_value = "full")]
    tier: String,
    /// A setting of the recipe to override.
    #[arg(long, requires = "recipe", conflicts_with_all = ["networks", "images"], value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Which of the recipe's epochs, from 0: some phases act in some epochs only.
    #[arg(long, requires = "recipe", conflicts_with_all = ["networks", "images"], value_name = "N", default_value_t = 0)]
    epoch: usize,
    /// Images in a batch.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Pixels along a side of an image.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    size: u16,
    /// How often, after three times to warm up.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    times: u16,
    /// Convolutions of a student by Winograd (`student.winograd`); a teacher's always are.
    #[arg(long)]
    winograd: bool,
    /// Networks in mixed precision: maps in bfloat16 (`student.precision`, `teacher.precision`).
    #[arg(long)]
    mixed: bool,
    /// Where the time goes: kernel by kernel, and how near to the processor's peak. A GPU's are waited for
    /// one by one, so all together take longer than a step.
    #[arg(long)]
    profile: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Reads from standard input, a line each, how often; 0 ends. Two programs can take turns so.
    #[arg(long, hide = true, conflicts_with = "profile")]
    turns: bool,
}

impl Bench {
    pub fn run(&self, session: &Session) -> Result<()> {
        if self.profile && session.device.is_metal() {
            let problem = "it tells of kernels of ours and of cuDNN's, and Metal has none of them";
            return Err(sokd_core::Error::setting("--profile", problem).into());
        }
        // Of a step that a GPU is told at one word, nothing could be told apart.
        if self.profile { operation_by_operation(|| self.time(session)) } else { self.time(session) }
    }

    fn time(&self, session: &Session) -> Result<()> {
        let Subject { networks, what, batch, size, arithmetic, sees, work } = match &self.recipe {
            Some(recipe) => self.recipe(recipe, session)?,
            None => self.task(session)?,
        };
        let mut bench = Timed { work, device: session.device.clone() };
        if self.turns {
            return bench.turns();
        }
        bench.times(3)?;
        let mut times = bench.times(self.times.into())?;
        times.wall_ms.sort_by(f64::total_cmp);
        times.cpu_ms.sort_by(f64::total_cmp);
        let profile =
            self.profile.then(|| profile(&session.device, self.times.into(), &mut bench.work)).transpose()?;
        let (fastest, median) = (times.wall_ms[0], times.wall_ms[times.wall_ms.len() / 2]);
        let (rate, peak) = (sees as f64 * 1e3 / fastest, peak_mb());
        if self.json {
            return print_json(&json!({
                "networks": networks, "what": what, "batch": batch, "size": size,
                "winograd": arithmetic.winograd, "precision": arithmetic.precision,
                "recipe": self.recipe.as_ref().map(|name| {
                    json!({ "name": name, "tier": self.tier, "set": self.set, "epoch": self.epoch })
                }),
                "device": session.device_name, "threads": sokd_ops::threads(), "times": self.times,
                "fastest_ms": fastest, "median_ms": median, "fastest_cpu_ms": times.cpu_ms.first(),
                "images_per_second": rate, "peak_mb": peak, "profile": profile,
            }));
        }
        let peak = peak.map_or(String::new(), |peak| format!(", {peak:.0} MB at most"));
        let whose = networks.join(" → ") + if networks.is_empty() { "" } else { ", " };
        print(format!(
            "{whose}{what}, batch {batch}: {fastest:.2} ms (median {median:.2}), {rate:.0} images/s{peak}"
        ))?;
        profile.map_or(Ok(()), |profile| print(format!("\n{profile}")))
    }

    fn task(&self, session: &Session) -> Result<Subject> {
        let precision = if self.mixed { Precision::Mixed } else { Precision::Single };
        let task = Task {
            what: match (self.images, self.inference) {
                (true, _) => What::Images,
                (false, true) => What::Inference,
                (false, false) => What::Step,
            },
            networks: &self.networks,
            batch: self.batch.into(),
            size: self.size.into(),
            arithmetic: Arithmetic { winograd: self.winograd, precision },
            device: &session.device,
        };
        Ok(Subject {
            networks: self.networks.iter().map(Model::label).collect(),
            what: task.name().to_owned(),
            batch: task.batch,
            size: [task.size; 2],
            arithmetic: task.arithmetic,
            sees: task.sees(),
            work: task.work()?,
        })
    }

    fn recipe(&self, name: &str, session: &Session) -> Result<Subject> {
        let (recipe, tier) = (name.to_owned(), Some(self.tier.clone()));
        let which = Which { recipe, overrides: self.set.clone(), tier, seed: None };
        let mut resolved = which.resolve()?;
        if let Some(teacher) = Teacher::of(&mut resolved, &self.tier)?
            && !teacher.finished()?
        {
            let remedy = "--set teacher.weights=drawn: a step costs the same, whatever weights it has";
            return Err(teacher.untrained(remedy.into()));
        }
        let recipe = Pins::default().pin(&resolved.recipe, &session.stage)?;
        let epoch = self.epoch;
        let (networks, size, work) = of_recipe(&recipe, epoch, session)?;
        Ok(Subject {
            networks,
            what: format!("step of {name} in epoch {epoch}"),
            batch: recipe.batch,
            size,
            arithmetic: recipe.student.arithmetic(),
            sees: recipe.batch,
            work,
        })
    }
}

/// What is timed.
struct Subject {
    /// A network; or a teacher and a student.
    networks: Vec<String>,
    what: String,
    /// Images in a batch.
    batch: usize,
    /// Height and width of an image.
    size: [usize; 2],
    /// How the student computes.
    arithmetic: Arithmetic,
    /// Images that it sees in doing the work once.
    sees: usize,
    work: Work,
}

struct Timed {
    work: Work,
    device: Device,
}

/// Milliseconds of each time.
#[derive(Default, Serialize)]
struct Times {
    /// Of the processor, all threads together.
    cpu_ms: Vec<f64>,
    wall_ms: Vec<f64>,
}

impl Timed {
    fn times(&mut self, count: usize) -> Result<Times> {
        let mut times = Times::default();
        for _ in 0..count {
            let (before, clock) = (processor_ms(), Stopwatch::start());
            (self.work)()?;
            self.device.synchronize().map_err(sokd_core::Error::from)?;
            times.wall_ms.push(clock.seconds() * 1e3);
            times.cpu_ms.push(processor_ms() - before);
        }
        Ok(times)
    }

    /// Answers with a line of JSON each time; at the end, with what was needed since the first, which warms up.
    fn turns(&mut self) -> Result<()> {
        let mut since: Option<(f64, usize)> = None;
        for line in std::io::stdin().lock().lines() {
            let count: usize = line.ok().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
            if count == 0 {
                break;
            }
            print(serde_json::to_string(&self.times(count)?).unwrap_or_default())?;
            since = Some(since.map_or((new_pages(), 0), |(pages, done)| (pages, done + count)));
        }
        let (pages, done) = since.unwrap_or_default();
        let new_pages = (new_pages() - pages) / done.max(1) as f64;
        print(json!({ "peak_mb": peak_mb(), "new_pages": new_pages }).to_string())
    }
}

/// The most memory that was ever resident, in MiB, where the system tells.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

/// Pages that this process came to for the first time, as far as the system tells.
fn new_pages() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the program's name, which may hold anything: state, parent, group, session, terminal, its group, flags.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().nth(7).and_then(|faults| faults.parse().ok()).unwrap_or(0.0)
}
