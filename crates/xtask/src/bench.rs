//! Training steps beside PyTorch's: both programs stay alive and take turns, so that whatever else the machine
//! does hits both. Only the ratio is a claim.

use crate::{Outcome, command, output, root};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

const HELP: &str = "\
Usage: cargo xtask bench [--models resnet20,resnet8x4,wrn_16_2,vgg8] [--threads 1,2] [--rounds 10] [--steps 3]

One training step (forward, backward, SGD with momentum and weight decay; batch 64, 32 x 32, 100 classes, f32) of
ours and of PyTorch eager with channels_last, in turns. With one thread the process's CPU time counts, with more the
wall clock. Prints ours / PyTorch of the fastest steps, the spread of the rounds' ratios, and peak memory; writes
experiments/results/bench/<date>-<commit>.json. Needs Python with PyTorch.";

struct Settings {
    models: Vec<String>,
    threads: Vec<usize>,
    rounds: usize,
    steps: usize,
}

/// Measures, prints, and writes the history.
pub fn run(args: &[String]) -> Outcome {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    let settings = parse(args)?;
    let ours = build()?;
    let theirs = root().join("experiments/benches/step.py").to_string_lossy().into_owned();
    println!(
        "{:<12} {:>7}  {:>9} {:>9}  {:>6}  {:<13} {:>9} {:>9}",
        "model", "threads", "ours ms", "torch ms", "ratio", "spread", "ours MB", "torch MB"
    );
    let mut ratios = Vec::new();
    for model in &settings.models {
        for &threads in &settings.threads {
            let threads_text = threads.to_string();
            let mut sides = [
                Side::start(&ours, &["--bench", model, &threads_text])?,
                Side::start("python3", &[&theirs, model, &threads_text])?,
            ];
            let clock = if threads == 1 { "cpu_ms" } else { "wall_ms" };
            let (mut best, mut rounds) = ([f64::INFINITY; 2], Vec::new());
            for _ in 0..settings.rounds {
                let mut fastest = [0.0; 2];
                for (at, side) in sides.iter_mut().enumerate() {
                    fastest[at] = side.fastest(settings.steps, clock)?;
                    best[at] = f64::min(best[at], fastest[at]);
                }
                rounds.push(fastest[0] / fastest[1]);
            }
            rounds.sort_by(f64::total_cmp);
            let [ours_mb, torch_mb] = sides.map(Side::peak_mb);
            let (ours_mb, torch_mb) = (ours_mb?, torch_mb?);
            let (ratio, median) = (best[0] / best[1], rounds[rounds.len() / 2]);
            let spread = [rounds[0], rounds[rounds.len() - 1]];
            println!(
                "{model:<12} {threads:>7}  {:>9.1} {:>9.1}  {ratio:>6.3}  {:.3}–{:.3}   {ours_mb:>9.0} {torch_mb:>9.0}",
                best[0], best[1], spread[0], spread[1]
            );
            ratios.push(json!({
                "model": model, "what": "train", "threads": threads, "clock": clock, "ratio": ratio,
                "median": median, "spread": spread, "ours_ms": best[0], "torch_ms": best[1],
                "ours_peak_mb": ours_mb, "torch_peak_mb": torch_mb,
            }));
        }
    }
    write(&settings, &ratios)
}

fn parse(args: &[String]) -> Outcome<Settings> {
    let names = ["resnet20", "resnet8x4", "wrn_16_2", "vgg8"];
    let mut settings =
        Settings { models: names.map(str::to_owned).into(), threads: vec![1, 2], rounds: 10, steps: 3 };
    for pair in args.chunks(2) {
        let [flag, value] = pair else { return Err(format!("{pair:?} lacks a value\n\n{HELP}")) };
        let number = |text: &str| {
            text.parse::<usize>()
                .ok()
                .filter(|&n| n > 0)
                .ok_or(format!("{flag}: `{text}` is no positive number"))
        };
        match flag.as_str() {
            "--models" => settings.models = value.split(',').map(str::to_owned).collect(),
            "--threads" => settings.threads = value.split(',').map(number).collect::<Result<_, _>>()?,
            "--rounds" => settings.rounds = number(value)?,
            "--steps" => settings.steps = number(value)?,
            _ => return Err(format!("unknown option {flag}\n\n{HELP}")),
        }
    }
    Ok(settings)
}

/// Builds our program and tells where it is.
fn build() -> Outcome<String> {
    let args =
        ["bench", "--package", "sokd-experiments", "--bench", "step", "--no-run", "--message-format", "json"];
    let mut cargo = command("cargo", &args);
    cargo.stderr(Stdio::inherit());
    let told = output(cargo)?;
    told.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|message| {
            let ours = message["target"]["name"] == "step";
            ours.then(|| message["executable"].as_str().map(str::to_owned)).flatten()
        })
        .ok_or_else(|| "cargo built the bench and did not say where".to_owned())
}

/// One of the two programs, waiting to be asked for steps.
struct Side {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    name: String,
}

impl Side {
    fn start(program: &str, args: &[&str]) -> Outcome<Self> {
        let name = format!("{program} {}", args.join(" "));
        let mut child = command(program, args)
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

    fn fastest(&mut self, steps: usize, clock: &str) -> Outcome<f64> {
        writeln!(self.ask, "{steps}").map_err(|error| format!("{}: {error}", self.name))?;
        let answer = self.answer()?;
        let times = answer[clock].as_array().into_iter().flatten().filter_map(Value::as_f64);
        times.min_by(f64::total_cmp).ok_or_else(|| format!("{}: no {clock} in {answer}", self.name))
    }

    /// Ends the program and asks what it needed at most.
    fn peak_mb(mut self) -> Outcome<f64> {
        writeln!(self.ask, "0").map_err(|error| format!("{}: {error}", self.name))?;
        let answer = self.answer()?;
        let _ = self.child.wait();
        answer["peak_mb"].as_f64().ok_or_else(|| format!("{}: no peak_mb in {answer}", self.name))
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

fn write(settings: &Settings, ratios: &[Value]) -> Outcome {
    let commit = output(command("git", &["rev-parse", "--short", "HEAD"]))?;
    let dirty =
        !output(command("git", &["status", "--porcelain", "--", "crates", "experiments"]))?.is_empty();
    let date = output(command("date", &["-u", "+%Y-%m-%d"]))?;
    let python = "import torch; print(torch.__version__)";
    let history = json!({
        "machine": machine(),
        "date": date,
        "commit": commit,
        "uncommitted_changes": dirty,
        "pytorch": output(command("python3", &["-c", python]))?,
        "protocol": format!(
            "batch 64, 3 x 32 x 32, 100 classes, f32; {} rounds of {} steps in turns; fastest step of each side; \
             CPU time with one thread, wall clock with more; PyTorch eager, channels_last",
            settings.rounds, settings.steps
        ),
        "ratios": ratios,
    });
    let folder = root().join("experiments/results/bench");
    let path = folder.join(format!("{date}-{commit}.json"));
    let text = serde_json::to_string_pretty(&history).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&path, text + "\n"))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    println!("written: {}", path.strip_prefix(root()).unwrap_or(&path).display());
    Ok(())
}

/// The processor, by the name it gives itself, and how many of it.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let simd = ["avx512f", "avx2"].into_iter().find(|flag| info.contains(flag)).unwrap_or("no AVX");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}, {cores} cores, {simd}", name.trim_start_matches([' ', '\t', ':']))
}
