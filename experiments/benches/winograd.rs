//! Winograd beside the plain sum, in turns: convolutions of the CIFAR networks one by one. Whole networks are
//! `cargo xtask bench --what train,train-winograd`.
//!
//! `cargo bench --package sokd-experiments --bench winograd [-- THREADS [PART OF A NAME]]` prints a line of JSON for each:
//! billions of operations a second in the fastest run of either, by processor time, and how many times faster Winograd is. Batch 64.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use candle::{Device, Tensor, Var};
use clap::Parser;
use serde_json::json;
use sokd_core::Key;
use sokd_experiments::cli::{Common, Session};
use sokd_experiments::stopwatch::processor_ms;
use sokd_ops::{Conv, conv2d};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
struct Bare {
    #[command(flatten)]
    common: Common,
}

/// Side of the map, channels read, channels written.
const LAYERS: [[usize; 3]; 10] = [
    [32, 16, 16],
    [32, 32, 32],
    [16, 32, 32],
    [32, 64, 64],
    [16, 64, 64],
    [8, 64, 64],
    [16, 128, 128],
    [8, 128, 128],
    [8, 256, 256],
    [4, 512, 512],
];
const BATCH: usize = 64;
const ROUNDS: usize = 12;

fn main() -> Outcome<()> {
    // Cargo adds a flag of its own to every bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (threads, part) = (args.next().unwrap_or_else(|| "1".into()), args.next().unwrap_or_default());
    // Threads and memory as every command of the program has them.
    Session::new(&Bare::parse_from(["sokd", "--quiet", "--threads", &threads]).common, None)?;
    LAYERS.into_iter().filter(|shape| name(*shape).contains(&part)).try_for_each(layer)
}

/// Milliseconds of the fastest run without and with Winograd. The first two rounds warm up.
fn fastest(mut run: impl FnMut(bool) -> Outcome<f64>) -> Outcome<[f64; 2]> {
    let mut best = [f64::INFINITY; 2];
    for round in 0..ROUNDS {
        for (best, winograd) in best.iter_mut().zip([false, true]) {
            let milliseconds = run(winograd)?;
            if round > 1 {
                *best = best.min(milliseconds);
            }
        }
    }
    Ok(best)
}

fn name([side, from, to]: [usize; 3]) -> String {
    format!("{side} x {side}, {from} -> {to}")
}

/// Forwards, the gradient of the map, and that of the kernel, in billions of the plain sum's operations a second.
fn layer([side, from, to]: [usize; 3]) -> Outcome<()> {
    let map = Var::from_tensor(&noise("map", &[BATCH, side, side, from])?)?;
    let kernel = Var::from_tensor(&noise("kernel", &[3, 3, from, to])?)?;
    let (frozen_map, frozen_kernel) = (map.detach(), kernel.detach());
    let conv = |winograd| Conv { winograd, ..Conv::same(3, 1) };
    let operations = 2.0 * (BATCH * side * side * 9 * from * to) as f64;
    let say = |what: &str, [plain, winograd]: [f64; 2]| {
        let rate = |milliseconds: f64| (operations / milliseconds / 1e6).round();
        println!(
            "{}",
            json!({
                "layer": name([side, from, to]), "what": what, "plain_gflops": rate(plain),
                "winograd_gflops": rate(winograd), "faster": plain / winograd,
            })
        );
    };
    let forward = fastest(|winograd| {
        let before = processor_ms();
        conv2d(&frozen_map, &frozen_kernel, None, conv(winograd))?;
        Ok(processor_ms() - before)
    })?;
    say("forward", forward);
    for (what, map, kernel) in
        [("of the map", map.as_tensor(), &frozen_kernel), ("of the kernel", &frozen_map, kernel.as_tensor())]
    {
        let gradient = fastest(|winograd| {
            let y = conv2d(map, kernel, None, conv(winograd))?;
            let before = processor_ms();
            y.backward()?;
            Ok(processor_ms() - before)
        })?;
        say(what, gradient);
    }
    Ok(())
}

fn noise(name: &str, shape: &[usize]) -> Outcome<Tensor> {
    let mut stream = Key::new(0).fold(name).stream();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
