#![doc = include_str!("../README.md")]
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

mod bench;
mod check;
mod cuda;
mod formulas;
mod golden;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const HELP: &str = "\
Usage: cargo xtask COMMAND

Commands:
  check             everything CI checks, cheapest first (--fast: without the tests)
  bench [OPTIONS]   our work beside PyTorch's or another commit's; `cargo xtask bench --help`
  cuda              builds for NVIDIA's GPUs, with a compiler from PyPI where there is none
  golden [SCRIPT]   records the golden values again (needs Python with PyTorch)
  schema            writes docs/recipe.schema.json and docs/table.schema.json
  formulas          what mdbook asks for the book's formulas (docs/book.toml)";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let done = match args.first().map(String::as_str) {
        Some("check") => check::run(rest),
        Some("bench") => bench::run(rest),
        Some("cuda") => cuda::run(rest),
        Some("golden") => golden::run(rest),
        Some("schema") => check::schema(),
        Some("formulas") => formulas::run(rest),
        None | Some("help" | "-h" | "--help") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => Err(format!("unknown command `{other}`\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What a task did not manage, in words.
type Outcome<T = ()> = Result<T, String>;

/// The workspace's root, wherever the task was called from; on a machine that has it not, the folder that it was called in.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).unwrap_or(here);
    if root.is_dir() { root.to_owned() } else { PathBuf::from(".") }
}

/// A command in the workspace's root.
fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// A command as one would type it, without its environment.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs a command to its end; a failure names the command.
fn finish(mut command: Command) -> Outcome {
    let shown = shown(&command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status} from: {shown}")),
        Err(error) => Err(format!("cannot start {shown}: {error}")),
    }
}

/// What a command prints.
fn output(mut command: Command) -> Outcome<String> {
    let shown = shown(&command);
    let out = command.output().map_err(|error| format!("cannot start {shown}: {error}"))?;
    if !out.status.success() {
        return Err(format!("{} from: {shown}", out.status));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
