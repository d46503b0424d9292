//! How fast the convolutions are on one thread, layer by layer of the CIFAR networks: forwards, and both gradients.
//! Gradients are measured through candle's graph, as a program pays for them.
//!
//! `cargo run --release -p sokd-ops --example kernels [PART OF A NAME]`
#![allow(clippy::print_stdout, reason = "this program's purpose is a table")]

use candle::{Device, Tensor, Var};
use sokd_core::Result;
use sokd_ops::{Conv, conv2d, set_threads, simd};
use std::time::Instant;

/// Images of a batch.
const BATCH: usize = 64;

/// The best of so many runs counts: what else the machine does only ever makes one slower.
const RUNS: usize = 9;

/// Side of the map, channels read, channels written, side of the window, stride.
const LAYERS: [[usize; 5]; 14] = [
    [32, 3, 16, 3, 1],
    [32, 16, 16, 3, 1],
    [32, 16, 32, 3, 2],
    [32, 16, 32, 1, 2],
    [16, 32, 32, 3, 1],
    [8, 64, 64, 3, 1],
    [32, 3, 64, 3, 1],
    [32, 32, 32, 3, 1],
    [32, 64, 64, 3, 1],
    [32, 64, 128, 3, 2],
    [16, 128, 128, 3, 1],
    [8, 256, 256, 3, 1],
    [4, 256, 512, 3, 1],
    [4, 512, 512, 3, 1],
];

fn main() -> Result<()> {
    set_threads(1)?;
    let wanted = std::env::args().nth(1).unwrap_or_default();
    println!("GFLOP/s on one thread, {:?}, batch {BATCH}; taps on the margin count as work\n", simd());
    println!("{:24}{:>10}{:>10}{:>10}", "layer", "forward", "of map", "of kernel");
    for layer in LAYERS {
        let [side, from, to, window, stride] = layer;
        let name = format!("{side}x{side} {from}->{to} {window}x{window}/{stride}");
        if name.contains(&wanted) {
            let [forward, of_map, of_kernel] = measure(layer)?;
            println!("{name:24}{forward:10.0}{of_map:10.0}{of_kernel:10.0}");
        }
    }
    Ok(())
}

/// Billions of operations a second: forwards, of the map's gradient, of the kernel's.
fn measure([side, from, to, window, stride]: [usize; 5]) -> Result<[f64; 3]> {
    let map = Var::from_tensor(&values(&[BATCH, side, side, from])?)?;
    let kernel = Var::from_tensor(&values(&[window, window, from, to])?)?;
    let conv = Conv::same(window, stride);
    let (frozen_map, frozen_kernel) = (map.detach(), kernel.detach());
    let y = conv2d(&frozen_map, &frozen_kernel, None, conv)?;
    let operations = 2.0 * (y.elem_count() * from * window * window) as f64;
    let forward = best(|| conv2d(&frozen_map, &frozen_kernel, None, conv).map(drop))?;
    let of_map = conv2d(&map, &frozen_kernel, None, conv)?;
    let of_kernel = conv2d(&frozen_map, &kernel, None, conv)?;
    let of_map = best(|| Ok(of_map.backward().map(drop)?))?;
    let of_kernel = best(|| Ok(of_kernel.backward().map(drop)?))?;
    Ok([forward, of_map, of_kernel].map(|seconds| operations / seconds / 1e9))
}

/// Seconds of the fastest run, after one that warms up.
#[expect(clippy::disallowed_methods, reason = "a measurement is what this program is for")]
fn best(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut seconds = f64::INFINITY;
    for _ in 0..RUNS {
        let start = Instant::now();
        run()?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

/// Any values that are neither zero nor very small.
fn values(shape: &[usize]) -> Result<Tensor> {
    let len = shape.iter().product();
    let values: Vec<f32> = (0..len).map(|index: usize| (index % 17) as f32 * 0.1 - 0.85).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
