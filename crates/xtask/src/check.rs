//! Everything CI checks, cheapest first.

use crate::{Outcome, command, finish, output, root};

/// Formatting, lints, documentation, tests, licences. `--fast` leaves out the tests.
pub fn run(args: &[String]) -> Outcome {
    let fast = match args {
        [] => false,
        [flag] if flag == "--fast" => true,
        _ => return Err(format!("check takes only --fast, got {args:?}")),
    };
    step("formatting", formatting)?;
    step("lints", || {
        finish(command("cargo", &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
        // As a user builds it: without what the tests ask of the crates.
        finish(command("cargo", &["clippy", "--package", "sokd-experiments", "--", "--deny", "warnings"]))
    })?;
    step("lints of what only a build for NVIDIA's GPUs compiles", crate::cuda::check)?;
    step("documentation", || {
        let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--quiet"]);
        doc.env("RUSTDOCFLAGS", "--deny warnings");
        finish(doc)
    })?;
    if !fast {
        step("tests", || finish(command("cargo", &["test", "--workspace"])))?;
    }
    if output(command("cargo", &["deny", "--version"])).is_ok() {
        step("licences and sources", || {
            finish(command(
                "cargo",
                &["deny", "--offline", "--all-features", "check", "licenses", "bans", "sources"],
            ))
        })?;
    } else {
        println!("licences and sources: skipped, because cargo-deny is not installed");
    }
    Ok(())
}

/// Writes the JSON Schemas of recipes and tables, from which editors complete.
pub fn schema() -> Outcome {
    for file in ["recipe", "table"] {
        let sokd = ["run", "--quiet", "--package", "sokd-experiments", "--"];
        let text = output(command("cargo", &[&sokd[..], &["config", "schema", file]].concat()))?;
        let path = root().join(format!("docs/{file}.schema.json"));
        std::fs::write(&path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> Outcome) -> Outcome {
    println!("── {name}");
    run()
}

/// rustfmt over every tracked file: `cargo fmt` does not see modules that `catalog!` declares.
fn formatting() -> Outcome {
    let files = output(command("git", &["ls-files", "*.rs"]))?;
    let mut rustfmt = command("rustfmt", &["--edition", "2024", "--check"]);
    rustfmt.args(files.lines());
    finish(rustfmt)
}
