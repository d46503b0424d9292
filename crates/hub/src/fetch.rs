use crate::cache::{discard, folder_of, other_digest, other_than_fetched, unkept};
use crate::refusal::{Refusal, lost, nonsense};
use crate::wire::Trouble;
use crate::{Address, Hub};
use reqwest::blocking::Response;
use reqwest::header::{CONTENT_LENGTH, ETAG, LOCATION};
use reqwest::{Method, Url};
use sokd_core::{Error, Result, Watch};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file of the Hub, here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it lies.
    pub path: PathBuf,
    /// The commit that its revision means.
    pub commit: String,
}

/// What a hub says of a file before it sends it.
#[derive(Debug)]
struct Claim {
    commit: String,
    digest: String,
    length: Option<u64>,
}

/// A repository that has moved says where to, once or twice.
const REDIRECTS: usize = 5;

impl Hub {
    /// A file of the Hub: from the cache at a commit, or where the Hub says that nothing has changed; else from the Hub,
    /// and from where an earlier try broke off. What the cache holds is compared with its digest each time.
    ///
    /// # Errors
    /// [`Error::Missing`] where the Hub knows no such file; [`Error::Unreachable`] where it does not answer or wants to
    /// know who asks; [`Error::File`] when what came is not what the Hub said it would be, and nothing of it is kept.
    pub fn fetch(&self, address: &Address, watch: &dyn Watch) -> Result<Fetched> {
        let here = self.cached(address)?;
        if self.offline {
            return here.ok_or_else(|| offline(&address.to_string()));
        }
        if let Some(here) = here.clone().filter(|_| address.repository.is_pinned()) {
            return Ok(here);
        }
        if self.cache.is_absent(address) {
            return Err(Refusal::absent().tell(&address.to_string(), &address.repository));
        }
        let claim = match self.claim(address, watch) {
            Ok(claim) => claim,
            Err(Trouble::Lost(problem)) => {
                let here = here.ok_or_else(|| lost(&address.to_string(), problem.clone()))?;
                watch.say(&format!("hub://{address}: {problem}; the cache has it as of {}", here.commit));
                return Ok(here);
            }
            Err(trouble) => {
                if trouble.is_absence() {
                    self.cache.note_absence(address);
                }
                return Err(trouble.about(address, &self.cache.root));
            }
        }?;
        let path = match here.filter(|here| here.commit == claim.commit) {
            Some(here) => here.path,
            None => self.get(address, &claim, watch)?,
        };
        self.cache.note(&address.repository, &claim.commit)?;
        Ok(Fetched { path, commit: claim.commit })
    }

    /// The file where it is in the cache and whole. What is not is removed, if it can be had again.
    fn cached(&self, address: &Address) -> Result<Option<Fetched>> {
        let Some((path, commit)) = self.cache.find(address) else { return Ok(None) };
        let Some(found) = other_than_fetched(&path)? else { return Ok(Some(Fetched { path, commit })) };
        if self.offline {
            let problem = format!("it has the digest {found}, and not the one under which it was fetched");
            return Err(Error::file(
                &path,
                None,
                problem,
                "unset HF_HUB_OFFLINE, so that it is fetched again",
            ));
        }
        discard(&path)?;
        Ok(None)
    }

    /// What the Hub says of a file. Its own small redirections are followed; where it sends for the content is not asked
    /// yet.
    fn claim(&self, address: &Address, watch: &dyn Watch) -> Result<Result<Claim>, Trouble> {
        let mut url = self.file_url(address);
        for _ in 0..REDIRECTS {
            let answer = self.wire.ask(&|| self.request(Method::HEAD, &url, false), watch)?;
            match moved(&answer, &url) {
                Some(place) => url = place,
                None if answer.status().is_success() || answer.status().is_redirection() => {
                    return Ok(claimed(address, &answer));
                }
                None => return Err(Trouble::Refused(Refusal::of(answer))),
            }
        }
        Ok(nonsense(&address.to_string(), "the Hub sends from one place to the next"))
    }

    /// Fetches what was claimed, under the lock that other processes wait for.
    fn get(&self, address: &Address, claim: &Claim, watch: &dyn Watch) -> Result<PathBuf> {
        let repository = &address.repository;
        let blob = self.cache.blob(repository, &claim.digest);
        if !is_whole(&blob, claim)? {
            let _lock = self.cache.lock(repository, &claim.digest, watch)?;
            // Whoever had the lock before may have fetched it.
            if !is_whole(&blob, claim)? {
                self.receive(address, claim, &blob, watch)?;
            }
        }
        self.cache.link(address, &claim.commit, &claim.digest)
    }

    fn receive(&self, address: &Address, claim: &Claim, blob: &Path, watch: &dyn Watch) -> Result<()> {
        // As Python's library called it up to version 1: what it left is gone on with.
        let aside = blob.with_file_name(format!("{}.incomplete", claim.digest));
        folder_of(&aside)?;
        // Should the branch move meanwhile, the digest tells.
        let url = self.file_url(address);
        let request = || self.request(Method::GET, &url, true);
        loop {
            let file = File::options().create(true).truncate(false).read(true).write(true).open(&aside);
            let mut file = file.map_err(unkept(&aside))?;
            let before = file.metadata().map_err(unkept(&aside))?.len();
            let what = (address.file.as_str(), watch);
            self.wire
                .fill(&request, &mut file, claim.length, what)
                .map_err(|trouble| trouble.about(address, &aside))?;
            file.sync_all().map_err(unkept(&aside))?;
            let Some(found) = other_digest(&aside, &claim.digest)? else {
                return sokd_core::file::rename(&aside, blob);
            };
            std::fs::remove_file(&aside).map_err(unkept(&aside))?;
            // What another try left may have been of something else.
            if before == 0 {
                let path = self.cache.snapshot(&address.repository, &claim.commit).join(&address.file);
                let problem = format!(
                    "what came has the digest {found}, and the Hub says that hub://{address} has {}",
                    claim.digest
                );
                return Err(Error::file(&path, None, problem, "nothing of it is kept: try again"));
            }
        }
    }
}

/// Whether a content is here, as long as it should be and with its digest.
fn is_whole(blob: &Path, claim: &Claim) -> Result<bool> {
    let Ok(found) = blob.metadata() else { return Ok(false) };
    if claim.length.is_none_or(|length| length == found.len()) && other_digest(blob, &claim.digest)?.is_none()
    {
        return Ok(true);
    }
    std::fs::remove_file(blob).map_err(unkept(blob))?;
    Ok(false)
}

/// Where on the same machine an answer sends.
fn moved(answer: &Response, url: &Url) -> Option<Url> {
    let place = answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection())?.to_str().ok()?;
    let elsewhere = Url::parse(place).is_ok() || place.starts_with("//");
    if elsewhere { None } else { url.join(place).ok() }
}

/// Reads what a hub says of a file. Both names become names in the cache, so they are looked at closely.
fn claimed(address: &Address, answer: &Response) -> Result<Claim> {
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.trim().to_owned());
    let number = |name: &str| header(name)?.parse::<u64>().ok();
    let what = address.to_string();
    let Some(commit) = header("x-repo-commit").filter(|commit| crate::address::is_commit(commit)) else {
        return nonsense(&what, "the answer names no commit");
    };
    let tag = header("x-linked-etag").or_else(|| header(ETAG.as_str())).unwrap_or_default();
    let digest = tag.strip_prefix("W/").unwrap_or(&tag).trim_matches('"').to_owned();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if digest.is_empty() || digest.len() > 128 || !digest.bytes().all(plain) {
        return nonsense(&what, "the answer says no digest of the file");
    }
    // Of a redirection the length is that of its own body.
    let own = || number(CONTENT_LENGTH.as_str()).filter(|_| answer.status().is_success());
    let length = number("x-linked-size").or_else(own);
    let verifiable = [40, 64].contains(&digest.len()) && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if length.is_none() && !verifiable {
        return nonsense(&what, "the answer says neither length nor digest of the file");
    }
    Ok(Claim { commit, digest, length })
}

/// It is not here, and nobody may be asked.
pub(crate) fn offline(what: &str) -> Error {
    let problem = "it is not in the cache, and HF_HUB_OFFLINE forbids to ask";
    let remedy = "unset HF_HUB_OFFLINE, or fetch it once where there is a network".to_owned();
    Error::Unreachable { url: format!("hub://{what}"), problem: problem.into(), remedy }
}
