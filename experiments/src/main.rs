//! The program `sokd`.

use clap::Parser;
use sokd_experiments::{Error, cli::Cli};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => tell(error),
    }
}

/// Prints what went wrong and how to mend it, and gives the exit code that goes with it.
fn tell(error: Error) -> ExitCode {
    let code = error.exit().into();
    eprintln!("{:?}", miette::Report::new(error));
    code
}
