//! What DAFA costs on one thread: each operation, the augmentation in an ordinary step, and a policy's gradient.
//!
//! `cargo run --release -p sokd-dafa --example cost`

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench measures time and answers on its output"
)]

use candle::{Device, Tensor};
use sokd_core::{Key, Result};
use sokd_dafa::{Chosen, Drawn, Lots, Policy, Space, ops::OperationSpec};
use sokd_nn::Params;
use std::sync::Arc;
use std::time::Instant;

/// Milliseconds, the mean over seeds of the best of five: what else the machine does only ever makes one slower.
fn milliseconds(seeds: u64, work: impl Fn(u64) -> Result<()>) -> Result<f64> {
    let mut sum = 0.0;
    for seed in 0..seeds {
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            work(seed)?;
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        sum += best;
    }
    Ok(sum / seeds as f64)
}

fn main() -> Result<()> {
    sokd_ops::set_threads(1)?;
    let space = Arc::new(Space::new(OperationSpec::examples())?);
    let policy = Policy::new(&Params::new(Key::new(0)).builder(&Device::Cpu), &space, 0.5)?;
    for channels in [32, 64, 128] {
        let values: Vec<f32> = (0..64 * 16 * 16 * channels).map(|at| (at as f32 * 0.7).sin()).collect();
        let map = Tensor::from_vec(values, (64, 16, 16, channels), &Device::Cpu)?;
        println!("64 x 16 x 16 x {channels}");
        for operation in OperationSpec::examples() {
            let apply = |seed| operation.as_ref().apply(&map, 0.8, Key::new(seed)).map(drop);
            println!("  {:16} {:6.2} ms", operation.name(), milliseconds(4, apply)?);
        }
        let ordinary = |seed| {
            let draw = policy.draw(Key::new(seed))?;
            space.apply(&map, draw.pair, draw.bits[draw.pair], draw.levels[draw.pair], draw.key).map(drop)
        };
        println!("  {:16} {:6.2} ms", "an ordinary draw", milliseconds(60, ordinary)?);
        let steered = |seed| {
            let draw = Arc::new(policy.draw(Key::new(seed))?);
            let relaxed = policy.relaxed(&Lots::new(&space, &draw, &Device::Cpu)?)?;
            let chosen = Chosen::of(&map, &Drawn::Told(Arc::clone(&space), draw), &relaxed)?;
            (chosen * &map)?.sum_all()?.backward()?;
            Ok(())
        };
        println!("  {:16} {:6.2} ms", "a steered pass", milliseconds(10, steered)?);
    }
    Ok(())
}
