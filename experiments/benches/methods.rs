//! What student-oriented methods cost beside their hosts: a plain step of the host, a step with the method in its search, and one
//! after it, in turns. Where a method searches in passes of its own (TST), a step in its search is the student's and a batch of the
//! search.
//!
//! `cargo bench --package sokd-experiments --bench methods [-- THREADS [PART OF A PRESET'S NAME]]` prints a line of JSON for each
//! pair and method: processor time of the fastest step, and the ratios to the plain step. Images are procedural, 32 × 32; weights
//! are drawn.

#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

mod shared;

use shared::{Outcome, ROUNDS, once, start};
use sokd_core::{Key, Step};
use sokd_experiments::Resolved;
use sokd_experiments::assemble::{Parts, assemble};
use sokd_experiments::cli::Session;

const PAIRS: [(&str, &str); 2] = [("resnet56", "resnet20"), ("resnet32x4", "resnet8x4")];
/// Presets of hosts, and of what is planted around them.
const METHODS: [[&str; 2]; 4] =
    [["fitnet", "sokd-paper"], ["fitnet", "sokd-robust"], ["kd", "tst"], ["kd", "skd"]];

fn main() -> Outcome<()> {
    let (session, threads, part) = start()?;
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
