//! How long clusters take at the size of CIFAR-100: 3.2 million points of 64 numbers, 4096 clusters.
//!
//! `cargo run -p sokd-baselines --example clusters -- [points] [width] [clusters] [iterations]`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "it measures, and says what")]

use sokd_baselines::letkd::kmeans::Clusters;
use sokd_core::{Key, Watch};
use std::time::Instant;

/// Says when an iteration begins.
struct Clock(Instant);

impl Watch for Clock {
    fn at(&self, what: &str, done: usize, of: usize) {
        println!("{:7.1} s  {what} {done} of {of}", self.0.elapsed().as_secs_f64());
    }

    fn say(&self, line: &str) {
        println!("{line}");
    }
}

fn main() -> sokd_core::Result<()> {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let at = |place: usize, usual: usize| given.get(place).copied().unwrap_or(usual);
    let (number, width, clusters, iterations) = (at(0, 3_200_000), at(1, 64), at(2, 4096), at(3, 20));
    let mut stream = Key::new(0).stream();
    let points: Vec<f32> = (0..number * width).map(|_| stream.uniform() as f32).collect();
    let clock = Clock(Instant::now());
    Clusters::of(&points, width, clusters, iterations, Key::new(1), &clock)?;
    println!("{:7.1} s  done, on {} threads", clock.0.elapsed().as_secs_f64(), rayon::current_num_threads());
    Ok(())
}
