//! What the tabulator key offers.

use super::{Cli, entries};
use crate::{Error, Misfit, Result};
use clap::CommandFactory;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{CompleteEnv, Shells};
use entries::Kind;
use std::ffi::OsStr;

/// Answers a shell that asks for completions and ends the program; does nothing else where none asks.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).bin("sokd").completer("sokd").complete();
}

/// Offers names of some kinds, and files.
pub fn names(kinds: &'static [Kind]) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| {
        let start = typed.to_string_lossy();
        let named = kinds.iter().flat_map(|kind| entries::entries(*kind));
        let named = named.filter(|entry| entry.name.starts_with(start.as_ref()));
        let mut found: Vec<CompletionCandidate> =
            named.map(|entry| CompletionCandidate::new(entry.name).help(Some(entry.what.into()))).collect();
        found.extend(PathCompleter::any().complete(typed));
        found
    })
}

/// The script that makes a shell ask.
///
/// # Errors
/// A shell that nobody here knows.
pub fn script(shell: &str) -> Result<String> {
    let shells = Shells::builtins();
    let known = || shells.names().collect::<Vec<_>>().join(", ");
    let unknown = || Error::from(Misfit::new(format!("no shell is called `{shell}` here")).help(known()));
    let completer = shells.completer(shell).ok_or_else(unknown)?;
    let mut script = Vec::new();
    completer
        .write_registration("COMPLETE", "sokd", "sokd", "sokd", &mut script)
        .map_err(|error| sokd_core::Error::setting("completions", error.to_string()))?;
    Ok(String::from_utf8_lossy(&script).trim_end().to_owned())
}
