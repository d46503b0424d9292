//! Our work beside PyTorch's, beside that of another commit of ours, or a method beside its host: both programs stay alive and
//! take turns, so that whatever else the machine does hits both. Only the ratio is a claim.

mod history;
mod kernels;
mod side;
mod work;

use crate::{Outcome, command, finish, output, root};
use serde_json::{Value, json};
use side::Side;
use std::path::Path;
use work::Work;

const HELP: &str = "\
Usage: cargo xtask bench [OPTIONS]

Work of ours and of PyTorch (channels_last), in turns, of images in 100 classes. With one thread the process's CPU time
counts, with more, and on a GPU, the wall clock. Prints ours / PyTorch of the fastest, the spread of the rounds' ratios, peak
memory, and our page faults a step; writes experiments/results/bench/<date>-<commit>.json. Needs Python with PyTorch.

Options:
  --what WORK,..      train: forward, backward, SGD with momentum and weight decay; train-winograd: the same by Winograd;
                      inference: as a teacher does it; kd, kd-winograd: a teacher's inference and a student's step; with
                      -mixed behind any of these, ours in mixed precision (PyTorch's is a --mode); images: the
                      batches of an epoch of 50,000, cropped and mirrored, beside torchvision's; methods: a step of a
                      student-oriented method while it searches and after that, beside its host's; kernels: where our
                      training step spends its time, beside the processor's peak; not of a GPU
                      [train,inference,kd,methods,kernels]
  --models NAME,..    of train and inference [the eleven of the zoo]
  --pairs A+B,..      teachers and students [resnet56+resnet20,resnet32x4+resnet8x4,wrn_40_2+wrn_16_2]
  --methods HOST+METHOD@EPOCH,..
                      presets, and an epoch of 240 before or in which the method searches, unless it never does
                      [fitnet+sokd-paper@0,fitnet+sokd-robust@0,kd+tst@30,kd+skd]
  --batch N           images in a batch [64]
  --size N            pixels along a side of an image [32]
  --threads N,..      [1,2]
  --rounds N          [10]
  --steps N           in a round [3]
  --device NAME       cpu or cuda [cpu]
  --mode NAME,..      PyTorch's: eager, bf16 (autocast), compile (max-autotune), compile-bf16 [eager]
                      (with SOKD_TF32=1, both sides round the factors of convolutions on a GPU to ten bits, else neither)
  --simd NAME         as on an older processor, both sides: avx2, or portable, for which PyTorch still has SSE [all there is]
  --against COMMIT    beside that commit, which has to have `sokd bench`, instead of PyTorch
  --ours FILE         the program `sokd` of this commit, where there is no cargo to build it";

const MODELS: &str =
    "resnet20,resnet56,resnet8x4,resnet32x4,wrn_16_2,wrn_40_2,vgg8,vgg13,MobileNetV2,ShuffleV1,ShuffleV2";
const PAIRS: &str = "resnet56+resnet20,resnet32x4+resnet8x4,wrn_40_2+wrn_16_2";
const METHODS: &str = "fitnet+sokd-paper@0,fitnet+sokd-robust@0,kd+tst@30,kd+skd";

/// An older processor: its name, and what holds both sides to what it could do.
struct Held(&'static str, [(&'static str, &'static str); 4]);

const HELD: [Held; 2] = [
    Held(
        "avx2",
        [
            ("SOKD_SIMD", "avx2"),
            ("ATEN_CPU_CAPABILITY", "avx2"),
            ("ONEDNN_MAX_CPU_ISA", "AVX2"),
            ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
        ],
    ),
    Held(
        "portable",
        [
            ("SOKD_SIMD", "portable"),
            ("ATEN_CPU_CAPABILITY", "default"),
            ("ONEDNN_MAX_CPU_ISA", "SSE41"),
            ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
        ],
    ),
];

/// What is measured, and how.
struct Settings {
    what: Vec<String>,
    models: Vec<String>,
    pairs: Vec<String>,
    methods: Vec<String>,
    batch: usize,
    size: usize,
    threads: Vec<usize>,
    rounds: usize,
    steps: usize,
    device: String,
    modes: Vec<String>,
    simd: Option<&'static Held>,
    against: Option<String>,
    ours: Option<String>,
}

/// Measures, prints, and writes the history.
pub fn run(args: &[String]) -> Outcome {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    let settings = parse(args)?;
    let works = work::works(&settings)?;
    let beside = beside(&settings, &works)?;
    let ours = settings.ours.clone().map_or_else(|| build(&root()), Ok)?;
    let other = settings.against.as_deref().map(build_commit).transpose()?;
    println!(
        "{:<14} {:<37} {:>7} {:<7}  {:>9} {:>9}  {:>6}  {:<13} {:>8} {:>8} {:>9}",
        "work",
        "model",
        "threads",
        "mode",
        "ours ms",
        "other ms",
        "ratio",
        "spread",
        "ours MB",
        "other MB",
        "new pages"
    );
    let mut ratios = Vec::new();
    for work in &works {
        for &threads in &settings.threads {
            ratios.push(measure(&settings, &ours, other.as_deref(), work, threads)?);
        }
    }
    let mut kernels = Vec::new();
    if settings.what.iter().any(|what| what == "kernels") {
        for (model, &threads) in
            settings.models.iter().flat_map(|model| std::iter::repeat(model).zip(&settings.threads))
        {
            kernels.push(kernels::kernels(&ours, model, threads)?);
        }
    }
    history::write(&settings, &ours, &beside, &ratios, &kernels)
}

fn measure(
    settings: &Settings,
    ours: &str,
    other: Option<&str>,
    work: &Work,
    threads: usize,
) -> Outcome<Value> {
    let (count, device) = (threads.to_string(), settings.device.as_str());
    let Work { what, model, mode, .. } = work;
    let start = |program: &str, asked: &[String]| {
        let common = ["bench", "--turns", "--threads", &count, "--device", device].map(str::to_owned);
        Side::start(program, &[&common, asked].concat(), settings.simd)
    };
    let mut sides = [
        start(ours, &work.asked)?,
        match (other, &work.host) {
            (Some(other), _) => start(other, &work.asked)?,
            (None, Some(host)) => start(ours, host)?,
            (None, None) => {
                let script = root().join("experiments/benches/step.py").to_string_lossy().into_owned();
                let (batch, size) = (settings.batch.to_string(), settings.size.to_string());
                let asked = [&script, what, model, &count, device, mode, &batch, &size].map(str::to_owned);
                Side::start("python3", &asked, settings.simd)?
            }
        },
    ];
    let clock = if threads == 1 && device == "cpu" { "cpu_ms" } else { "wall_ms" };
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
    let [ours, other] = sides.map(Side::ends);
    let (ours, other) = (ours?, other?);
    let (ratio, median) = (best[0] / best[1], rounds[rounds.len() / 2]);
    let spread = [rounds[0], rounds[rounds.len() - 1]];
    println!(
        "{what:<14} {model:<37} {threads:>7} {mode:<7}  {:>9.1} {:>9.1}  {ratio:>6.3}  {:.3}–{:.3}   {:>8.0} {:>8.0} {:>9.1}",
        best[0], best[1], spread[0], spread[1], ours.peak_mb, other.peak_mb, ours.new_pages
    );
    Ok(json!({
        "model": model, "what": what, "threads": threads, "mode": mode, "clock": clock, "ratio": ratio, "median": median,
        "spread": spread, "ours_ms": best[0], "other_ms": best[1], "ours_peak_mb": ours.peak_mb,
        "other_peak_mb": other.peak_mb, "ours_new_pages": ours.new_pages,
    }))
}

/// What stands beside ours, as the history has it. A PyTorch that is not there is missed before anything is built.
fn beside(settings: &Settings, works: &[Work]) -> Outcome<String> {
    if let Some(commit) = &settings.against {
        return Ok(format!("commit {commit}"));
    }
    if works.iter().all(|work| work.host.is_some()) {
        return Ok("our own".into());
    }
    Ok(format!("PyTorch {}", output(command("python3", &["-c", "import torch; print(torch.__version__)"]))?))
}

fn parse(args: &[String]) -> Outcome<Settings> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let mut settings = Settings {
        what: list("train,inference,kd,methods,kernels"),
        models: list(MODELS),
        pairs: list(PAIRS),
        methods: list(METHODS),
        batch: 64,
        size: 32,
        threads: vec![1, 2],
        rounds: 10,
        steps: 3,
        device: "cpu".into(),
        modes: list("eager"),
        simd: None,
        against: None,
        ours: None,
    };
    for pair in args.chunks(2) {
        let [flag, value] = pair else { return Err(format!("{pair:?} lacks a value\n\n{HELP}")) };
        let number = |text: &str| {
            let number = text.parse::<usize>().ok().filter(|&number| number > 0);
            number.ok_or(format!("{flag}: `{text}` is no positive number"))
        };
        match flag.as_str() {
            "--what" => settings.what = list(value),
            "--models" => settings.models = list(value),
            "--pairs" => settings.pairs = list(value),
            "--methods" => settings.methods = list(value),
            "--threads" => settings.threads = value.split(',').map(number).collect::<Result<_, _>>()?,
            "--batch" => settings.batch = number(value)?,
            "--size" => settings.size = number(value)?,
            "--rounds" => settings.rounds = number(value)?,
            "--steps" => settings.steps = number(value)?,
            "--device" => settings.device.clone_from(value),
            "--mode" => settings.modes = list(value),
            "--simd" => {
                let held = HELD.iter().find(|Held(name, _)| name == value);
                settings.simd = Some(held.ok_or(format!("{flag}: `{value}` is neither avx2 nor portable"))?);
            }
            "--against" => settings.against = Some(value.clone()),
            "--ours" => settings.ours = Some(value.clone()),
            _ => return Err(format!("unknown option {flag}\n\n{HELP}")),
        }
    }
    // Kernels of a GPU run on while their time is taken.
    settings.what.retain(|what| what != "kernels" || settings.device == "cpu");
    if settings.against.is_some() && settings.modes != ["eager"] {
        return Err("--mode says how PyTorch works, and --against measures beside another commit".into());
    }
    Ok(settings)
}

/// Builds a checkout and tells where its program is.
fn build(checkout: &Path) -> Outcome<String> {
    let mut cargo = command("cargo", &["build", "--release", "--package", "sokd-experiments"]);
    cargo.current_dir(checkout);
    finish(cargo)?;
    Ok(checkout.join("target/release/sokd").to_string_lossy().into_owned())
}

/// The same of a commit, checked out beside what is built here.
fn build_commit(commit: &str) -> Outcome<String> {
    let full = output(command("git", &["rev-parse", "--verify", &format!("{commit}^{{commit}}")]))?;
    let checkout = root().join("target/bench").join(&full);
    if !checkout.is_dir() {
        finish(command("git", &["worktree", "add", "--detach", &checkout.to_string_lossy(), &full]))?;
    }
    build(&checkout)
}
