use crate::digest::sha256 as digest_of;
use crate::wire::{Patience, Trouble, Wire};
use reqwest::Method;
use reqwest::header::CONTENT_LENGTH;
use sokd_core::{Error, Result, Watch};
use std::fs::File;
use std::path::Path;

/// A file as its publisher has it.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Where.
    pub url: &'a str,
    /// Its digest, or the first digits of it, as some publishers have them in a file's name.
    pub sha256: &'a str,
    /// Its length, where that is on record.
    pub bytes: Option<u64>,
}

/// Fetches a file from its publisher to a place; it is there whole and with its digest, or not at all. A file that is
/// there with that digest is not fetched again, and what an earlier try left of it is gone on with.
///
/// # Errors
/// [`Error::Unreachable`] where nobody answers; [`Error::File`] when something else came.
pub fn download(original: Original<'_>, path: &Path, patience: Patience, watch: &dyn Watch) -> Result<()> {
    let Original { url, bytes, .. } = original;
    let sha256 = original.sha256.to_lowercase();
    let right = |path: &Path| Ok::<_, Error>(path.is_file() && digest_of(path)?.starts_with(&sha256));
    if right(path)? {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!("{name}.incomplete"));
    let wire = Wire::new(patience)?;
    loop {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&aside);
        let mut file = file.map_err(Error::io(&aside))?;
        // Two processes, one file. Whoever waited finds it done, or goes on with it.
        file.lock().map_err(Error::io(&aside))?;
        if right(path)? {
            return Ok(());
        }
        let before = file.metadata().map_err(Error::io(&aside))?.len();
        let asked = || if before > 0 { announced(&wire, url, watch) } else { None };
        let length = bytes.or_else(asked);
        let request = || wire.client(true).request(Method::GET, url);
        wire.fill(&request, &mut file, length, (&name, watch)).map_err(|trouble| told(trouble, url, path))?;
        file.sync_all().map_err(Error::io(&aside))?;
        let (found, came) = (digest_of(&aside)?, file.metadata().map_err(Error::io(&aside))?.len());
        if found.starts_with(&sha256) {
            return sokd_core::file::rename(&aside, path);
        }
        std::fs::remove_file(&aside).map_err(Error::io(&aside))?;
        // What another try left may have been of something else.
        if before == 0 {
            let problem = format!("{came} bytes came, with the SHA-256 {found} where {sha256} is on record");
            let remedy = "try again; if it stays so, its publisher has changed it";
            return Err(Error::file(path, None, problem, remedy));
        }
    }
}

/// How long the file is, where the server says so: only then is it known when a part is the whole.
fn announced(wire: &Wire, url: &str, watch: &dyn Watch) -> Option<u64> {
    let answer = wire.ask(&|| wire.client(true).request(Method::HEAD, url), watch).ok()?;
    let length = answer.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    length.filter(|_| answer.status().is_success())
}

fn told(trouble: Trouble, url: &str, path: &Path) -> Error {
    let problem = match trouble {
        Trouble::Disk(error) => return Error::io(path)(error),
        Trouble::Lost(problem) => problem,
        Trouble::Refused(refusal) => format!("the server answers {}", refusal.status),
    };
    let remedy = format!(
        "check the network and any proxy, and run it again: what has come is kept; or fetch it by hand to {}",
        path.display()
    );
    Error::Unreachable { url: url.to_owned(), problem, remedy }
}
