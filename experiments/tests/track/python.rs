//! A Python with packages that are not ours.

use std::ffi::OsString;
use std::process::Command;

/// The Python that has all of these packages, or a word about what is skipped.
pub fn with(packages: &[&str]) -> Option<OsString> {
    let python = std::env::var_os("SOKD_PYTHON").unwrap_or_else(|| "python3".into());
    for package in packages {
        let look = format!("import importlib.util as u, sys; sys.exit(u.find_spec('{package}') is None)");
        if !Command::new(&python).args(["-c", &look]).output().is_ok_and(|answer| answer.status.success()) {
            let python = python.display();
            println!("skipped, because {python} has no {package}: SOKD_PYTHON names a Python that has it");
            return None;
        }
    }
    Some(python)
}
