//! What an iteration of letKD's clustering costs in time of the processor, beside a matrix product of the same size.
//!
//! `cargo run --release -p sokd-baselines --example clusters -- [THOUSANDS OF POINTS]`

#![allow(clippy::print_stdout, reason = "a bench answers on its output")]

use candle::{Device, Tensor};
use sokd_baselines::letkd::kmeans::Clusters;
use sokd_core::{Key, Result, Watch};

const WIDTH: usize = 64;
const CENTRES: usize = 4096;

struct Still;

impl Watch for Still {
    fn at(&self, _: &str, _: usize, _: usize) {}

    fn say(&self, _: &str) {}
}

/// Seconds of the processor, all threads together: on a busy machine a clock on the wall says nothing.
fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The best of two.
fn seconds(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..2 {
        let start = now();
        work()?;
        best = best.min(now() - start);
    }
    Ok(best)
}

fn main() -> Result<()> {
    sokd_ops::set_threads(1)?;
    // candle's own product has threads of its own.
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().ok();
    let points = 1000 * std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut stream = Key::new(0).stream();
    let values: Vec<f32> = (0..points * WIDTH).map(|_| stream.normal() as f32).collect();
    let work = 2.0 * (points * CENTRES * WIDTH) as f64 / 1e9;
    let centres = values[..CENTRES * WIDTH].to_vec();

    let nearest = seconds(|| {
        std::hint::black_box(sokd_ops::nearest(&values, &centres, WIDTH));
        Ok(())
    })?;
    println!("{points} points, {CENTRES} centres, {WIDTH} numbers: {work:.0} billion operations");
    println!("  which is nearest    {nearest:6.2} s, {:5.1} billion a second", work / nearest);
    // An iteration assigns, and the last one assigns once more.
    let of = |iterations| {
        seconds(|| {
            std::hint::black_box(Clusters::from(centres.clone(), &values, WIDTH, iterations, &Still));
            Ok(())
        })
    };
    println!("  a whole iteration   {:6.2} s", of(2)? - of(1)?);

    let matrix = |values: &[f32]| Tensor::from_slice(values, (values.len() / WIDTH, WIDTH), &Device::Cpu);
    let across = matrix(&centres)?.t()?.contiguous()?;
    let product = seconds(|| {
        for some in values.chunks(8192 * WIDTH) {
            std::hint::black_box(matrix(some)?.matmul(&across)?);
        }
        Ok(())
    })?;
    println!("  the product alone   {product:6.2} s, {:5.1} billion a second", work / product);
    Ok(())
}
