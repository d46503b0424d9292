//! What the benches have in common: how they are called, and a step by the clock.

use clap::Parser;
use sokd_core::Step;
use sokd_experiments::assemble::Parts;
use sokd_experiments::cli::{Common, Session};
use sokd_experiments::stopwatch::processor_ms;
use sokd_nn::Moment;
use sokd_train::{Hand, Shown, Tally, step};

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The first rounds of these warm up.
pub const ROUNDS: usize = 12;

#[derive(Parser)]
struct Bare {
    #[command(flatten)]
    common: Common,
}

/// The session, how many threads it has, and the part of a name that what is measured has to have.
pub fn start() -> Outcome<(Session, String, String)> {
    // Cargo adds a flag of its own to every bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (threads, part) = (args.next().unwrap_or_else(|| "1".into()), args.next().unwrap_or_default());
    let session = Session::new(&Bare::parse_from(["sokd", "--quiet", "--threads", &threads]).common, None)?;
    Ok((session, threads, part))
}

/// Processor time of a step, in milliseconds. The batch is read before the clock starts.
pub fn once(parts: &mut Parts, at: Step) -> Outcome<f64> {
    let batch = parts.images.train.epoch(0, 0).next().ok_or("no image")??;
    let hand = Hand::alone(Shown::new(batch));
    let now = Moment { epoch: at.epoch, step: 0, steps: 1, epochs: 240 };
    let before = processor_ms();
    step(&parts.distiller, &mut parts.phases, &hand, (at, now), &mut Tally::default(), &mut [])?;
    Ok(processor_ms() - before)
}
