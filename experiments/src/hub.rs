//! Files from elsewhere, with a bar while they come.

use crate::cli::Session;
use crate::{Misfit, Result};
use indicatif::{ProgressBar, ProgressStyle};
use sokd_data::Entry;
use std::path::{Path, PathBuf};

/// A file of the Hub: `owner/repository@revision/file`.
///
/// # Errors
/// What [`sokd_hub::fetch`] meets.
pub fn fetch(address: &str) -> Result<PathBuf> {
    Ok(sokd_hub::fetch(&address.parse()?)?)
}

/// One file of a data set, from its publisher.
///
/// # Errors
/// What [`sokd_hub::download`] meets; a file of which no address or digest is on record.
pub fn download(entry: &Entry, path: &Path, session: &Session) -> Result<()> {
    let (Some(url), Some(sha256)) = (&entry.url, &entry.sha256) else {
        return Err(Misfit::new(format!("no address and digest of {} are on record", entry.name)).into());
    };
    let style =
        ProgressStyle::with_template("{prefix} {bar:20.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━━─");
    let bar = ProgressBar::new(entry.bytes.unwrap_or(0)).with_style(style).with_prefix(entry.name.clone());
    let bar = session.stage.bars.add(bar);
    let fetched = sokd_hub::download(url, path, sha256, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    Ok(fetched?)
}
