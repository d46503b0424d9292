use super::Held;
use crate::{Outcome, command};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// One of the two programs, waiting to be asked for steps.
pub struct Side {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl Side {
    /// Starts it, on a processor held to less or not, and has it warm up.
    pub fn start(program: &str, args: &[String], simd: Option<&Held>) -> Outcome<Self> {
        let name = format!("{program} {}", args.join(" "));
        let mut child = command(program, &[])
            .args(args)
            // On a GPU, as PyTorch does in `step.py`.
            .env("SOKD_MEASURE", "1")
            .envs(simd.into_iter().flat_map(|Held(_, to)| to.iter().copied()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name}: no pipes"));
        };
        let mut side = Self { child, ask, answers: BufReader::new(answers), name };
        // A few steps to warm up: allocator, caches, threads, kernels chosen at run time.
        side.fastest(3, "cpu_ms")?;
        Ok(side)
    }

    /// Has it do the work so many times.
    pub fn fastest(&mut self, steps: usize, clock: &str) -> Outcome<f64> {
        writeln!(self.ask, "{steps}").map_err(|error| format!("{}: {error}", self.name))?;
        let answer = self.answer()?;
        let times = answer[clock].as_array().into_iter().flatten().filter_map(Value::as_f64);
        times.min_by(f64::total_cmp).ok_or_else(|| format!("{}: no {clock} in {answer}", self.name))
    }

    /// Ends the program and asks what memory it needed at most, and how often since it was warm it came to a page that it had
    /// not had before, each time it did the work.
    pub fn ends(mut self) -> Outcome<Ended> {
        writeln!(self.ask, "0").map_err(|error| format!("{}: {error}", self.name))?;
        let answer = self.answer()?;
        let _ = self.child.wait();
        let number =
            |key: &str| answer[key].as_f64().ok_or_else(|| format!("{}: no {key} in {answer}", self.name));
        Ok(Ended { peak_mb: number("peak_mb")?, new_pages: number("new_pages")? })
    }

    fn answer(&mut self) -> Outcome<Value> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err(format!("{} ended early: see its message above", self.name)),
            Ok(_) => serde_json::from_str(&line).map_err(|error| format!("{}: {error} in {line}", self.name)),
            Err(error) => Err(format!("{}: {error}", self.name)),
        }
    }
}

/// What a program needed.
#[derive(Clone, Copy)]
pub struct Ended {
    /// The most memory that was ever resident, in MiB.
    pub peak_mb: f64,
    /// Pages it came to for the first time, a step.
    pub new_pages: f64,
}
