//! What student-oriented methods cost beside their hosts: a plain step of the host, a step with the method in its search, and one
//! after it, in turns. Where a method searches in passes of its own (TST), a step in its search is the student's and a batch of the
//! search.
//!
//! `cargo bench --package sokd-experiments --bench methods [-- THREADS [PART OF A PRESET'S NAME]]` prints a line of JSON for each
//! pair and method: processor time of the fastest step, and the ratios to the plain step. Images are procedural, 32 × 32; weights
//! are drawn.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use clap::Parser;
use sokd_core::{Key, Step};
use sokd_experiments::Resolved;
use sokd_experiments::assemble::{Parts, assemble};
use sokd_experiments::cli::{Common, Session};
use sokd_experiments::stopwatch::processor_ms;
use sokd_nn::Moment;
use sokd_train::{Hand, Shown, Tally, step};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const PAIRS: [(&str, &str); 2] = [("resnet56", "resnet20"), ("resnet32x4", "resnet8x4")];
/// Presets of hosts, and of what is planted around them.
const METHODS: [[&str; 2]; 4] =
    [["fitnet", "sokd-paper"], ["fitnet", "sokd-robust"], ["kd", "tst"], ["kd", "skd"]];
const ROUNDS: usize = 12;

#[derive(Parser)]
struct Bare {
    #[command(flatten)]
    common: Common,
}

fn main() -> Outcome<()> {
    // Cargo adds a flag of its own to every bench.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (threads, part) = (args.next().unwrap_or_else(|| "1".into()), args.next().unwrap_or_default());
    let session = Session::new(&Bare::parse_from(["sokd", "--quiet", "--threads", &threads]).common)?;
    for pair in PAIRS {
        for method in METHODS.into_iter().filter(|[_, preset]| preset.contains(&part)) {
            measure(pair, method, &threads, &session)?;
        }
    }
    Ok(())
}

fn measure(
    (teacher, student): (&str, &str),
    [host, preset]: [&str; 2],
    threads: &str,
    session: &Session,
) -> Outcome<()> {
    let parts = |presets: &str| -> Outcome<Parts> {
        let said = [
            format!("extends = [\"sokd:cifar100-240\", \"sokd:{host}\"{presets}]"),
            format!("student.model = {student}"),
            format!("teacher = {{ model = \"{teacher}\", weights = \"drawn\" }}"),
            "data = { type = \"shapes\", train = 256, test = 10 }".into(),
            // Maps of drawn weights are huge: one step on them would be the last.
            "phase.student.lr.base = 0.0".into(),
        ];
        let said = said.map(|setting| setting.replacen(" = ", "=", 1));
        let mut parts = assemble(&Resolved::new("cifar100-alone", None, &said)?.recipe, session)?;
        for phase in &mut parts.phases {
            if phase.interlude.take().is_some() {
                phase.epochs = 0..1;
            }
        }
        Ok(parts)
    };
    let mut both = [parts("")?, parts(&format!(", \"sokd:{preset}\""))?];
    // Epoch 0 searches, epoch 100 does not any more.
    let mut fastest = [f64::INFINITY; 3];
    for round in 0..ROUNDS as u64 {
        for (at, (side, epoch)) in [(0, 100), (1, 0), (1, 100)].into_iter().enumerate() {
            let milliseconds =
                once(&mut both[side], Step { epoch, index: round, ..Step::first(Key::new(0)) })?;
            // The first rounds warm up.
            if round > 1 {
                fastest[at] = fastest[at].min(milliseconds);
            }
        }
    }
    let [plain, search, after] = fastest;
    println!(
        "{}",
        serde_json::json!({
            "pair": format!("{teacher} → {student}"), "host": host, "preset": preset, "threads": threads, "plain_ms": plain,
            "search_ms": search, "after_ms": after, "search": search / plain, "after": after / plain,
        })
    );
    Ok(())
}

/// Processor time of a step, in milliseconds. The batch is read before the clock starts.
fn once(parts: &mut Parts, at: Step) -> Outcome<f64> {
    let batch = parts.train.epoch(0, 0).next().ok_or("no image")??;
    let hand = Hand { train: Shown::new(batch), search: None };
    let now = Moment { epoch: at.epoch, step: 0, steps: 1, epochs: 240 };
    let before = processor_ms();
    step(&parts.distiller, &mut parts.phases, &hand, (at, now), &mut Tally::default(), &mut [])?;
    Ok(processor_ms() - before)
}
