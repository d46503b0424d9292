//! The program `sokd`.

use clap::Parser;
use sokd_experiments::cli;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(own_up));
    cli::answer();
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit().into();
            cli::complain(error);
            code
        }
    }
}

/// Every fault that a user can make has an error of its own: whatever panics is a bug, and is called one.
fn own_up(panic: &PanicHookInfo<'_>) {
    if sokd_core::is_contained() {
        return;
    }
    let what = panic.payload_as_str().unwrap_or("no word about it");
    let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
    let version = env!("CARGO_PKG_VERSION");
    writeln!(
        std::io::stderr(),
        "This is a bug in sokd {version}, not a fault of yours: {what}{place}\n\
         What was saved is whole; `sokd resume` goes on from it. Please report the command and these lines."
    )
    .ok();
}
