//! Records the golden values again.

use crate::{Outcome, command, finish, root};

/// Runs the recording scripts, or the one named.
pub fn run(args: &[String]) -> Outcome {
    let folder = root().join("tests/golden");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        // A script that records has a file of values beside it; the others are imported.
        .filter(|path| path.extension().is_some_and(|e| e == "py") && path.with_extension("json").exists())
        .filter(|path| {
            args.is_empty() || args.iter().any(|name| path.file_stem().is_some_and(|s| s == &**name))
        })
        .collect();
    scripts.sort();
    if scripts.is_empty() {
        return Err(format!("no recording script named {args:?} in tests/golden"));
    }
    for script in scripts {
        println!("── {}", script.display());
        finish(command("python3", &[&script.to_string_lossy()]))?;
    }
    Ok(())
}
