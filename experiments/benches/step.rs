//! Our side of `cargo xtask bench`: one training step of a network of the zoo, through the same engine as any run.
//!
//! Usage: step MODEL THREADS. Reads a number of steps a line from standard input, runs them and answers with a line of
//! JSON; 0 asks for the peak memory and ends.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time and answers on its output"
)]

use candle::{Device, Tensor};
use sokd_core::{Batch, Build, BuildCx, DatasetInfo, Key, Mode, PixelNorm, Step};
use sokd_losses::cross_entropy::CrossEntropy;
use sokd_nn::{LrSchedule, Moment, OptimSpec, Params, Sgd};
use sokd_train::{Descend, Distiller, Hand, Phase, Schedule, Shown, Tally, TermOf, step};
use std::io::BufRead;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;
const CLASSES: usize = 100;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    // Cargo adds a flag of its own to every bench.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [model, threads] = &args[..] else { return Err("usage: step MODEL THREADS".into()) };
    sokd_ops::set_threads(threads.parse()?)?;

    let (distiller, mut phases) = student(model)?;
    let hand = Hand { train: Shown::new(batch()?), search: None };
    let mut index = 0;
    for line in std::io::stdin().lock().lines() {
        let steps: usize = line?.trim().parse()?;
        if steps == 0 {
            println!("{}", serde_json::json!({ "peak_mb": peak_mb()? }));
            return Ok(());
        }
        let (mut cpu, mut wall) = (Vec::new(), Vec::new());
        for _ in 0..steps {
            let (before, clock) = (cpu_ms(), Instant::now());
            let at = Step { index, ..Step::first(Key::new(0)) };
            let now = Moment { epoch: 0, step: 0, steps: 1, epochs: 1 };
            step(&distiller, &mut phases, &hand, (at, now), &mut Tally::default(), &mut [])?;
            index += 1;
            cpu.push(cpu_ms() - before);
            wall.push(clock.elapsed().as_secs_f64() * 1e3);
        }
        println!("{}", serde_json::json!({ "cpu_ms": cpu, "wall_ms": wall }));
    }
    Ok(())
}

/// A student alone under the published recipe's optimiser.
fn student(model: &str) -> Outcome<(Distiller, Vec<Phase>)> {
    let data = DatasetInfo {
        name: "noise".into(),
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        size: [32, 32],
        pixels: PixelNorm { mean: [0.5, 0.45, 0.4], std: [0.2, 0.25, 0.3] },
        train: 0,
        search: 0,
        test: 0,
    };
    let spec = sokd_models::named(model).ok_or("no network of the zoo has that name")?;
    let params = Params::new(Key::new(0));
    let student = spec.build(&BuildCx::alone(params.builder(&Device::Cpu).pp("student"), &data))?;
    let task =
        TermOf { name: "task".into(), weight: Schedule::default(), loss: Box::new(CrossEntropy::default()) };
    let sgd = Sgd { momentum: 0.9, weight_decay: 5e-4, ..Sgd::default() };
    let phase = Phase {
        name: "student".into(),
        toward: None,
        split: sokd_core::LearnSplit::Train,
        mode: Mode::Train,
        every: 1,
        epochs: 0..1,
        interlude: None,
        update: Box::new(Descend {}),
        clip: None,
        optimizer: OptimSpec::Sgd(sgd).build(params.group("student"))?,
        lr: LrSchedule::default(),
    };
    Ok((Distiller { student, teacher: None, lens: None, terms: vec![task] }, vec![phase]))
}

fn batch() -> Outcome<Batch> {
    let mut stream = Key::new(0).stream();
    let pixels: Vec<f32> = (0..BATCH * 32 * 32 * 3).map(|_| stream.uniform() as f32).collect();
    let labels: Vec<u32> = (0..BATCH).map(|_| stream.below(CLASSES as u32)).collect();
    Ok(Batch {
        images: Tensor::from_vec(pixels, (BATCH, 32, 32, 3), &Device::Cpu)?,
        labels: Tensor::new(labels, &Device::Cpu)?,
        rows: Tensor::arange(0, BATCH as u32, &Device::Cpu)?,
    })
}

/// Processor time of all threads, in milliseconds.
fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// The most memory that was ever resident, in MiB.
fn peak_mb() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
