use crate::fetch::offline;
use crate::refusal::{Refusal, lost, nonsense};
use crate::wire::{Trouble, chain};
use crate::{Hub, Repository};
use reqwest::Method;
use serde::Deserialize;
use sokd_core::{Error, Result, Watch};
use std::path::{Path, PathBuf};

/// What a repository holds at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit that its revision means.
    pub commit: String,
    /// The paths of its files, in order.
    pub files: Vec<String>,
    /// Where its files lie once they are fetched.
    pub folder: PathBuf,
}

/// As much as is needed of what the Hub tells of a repository.
#[derive(Debug, Deserialize)]
struct Told {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Hub {
    /// The files of a repository; what the cache has of it, where nobody may be asked or nobody answers.
    ///
    /// # Errors
    /// [`Error::Missing`] for a repository or revision that is not there; [`Error::Unreachable`], also for an answer with
    /// file names that lead out of the repository.
    pub fn list(&self, repository: &Repository, watch: &dyn Watch) -> Result<Listing> {
        let what = repository.to_string();
        if self.offline {
            return self.listed(repository)?.ok_or_else(|| offline(&what));
        }
        let Repository { kind, owner, name, revision } = repository;
        let url = self.url(["api", kind.plural(), owner, name, "revision", revision]);
        let answer = match self.wire.ask(&|| self.request(Method::GET, &url, true), watch) {
            Ok(answer) => answer,
            Err(Trouble::Lost(problem)) => {
                let here = self.listed(repository)?.ok_or_else(|| lost(&what, problem.clone()))?;
                watch.say(&format!("hub://{what}: {problem}; this is what the cache has"));
                return Ok(here);
            }
            Err(trouble) => return Err(trouble.tell(&what, repository, &self.cache.root)),
        };
        if !answer.status().is_success() {
            return Err(Refusal::of(answer).tell(&what, repository));
        }
        let text = answer.bytes().map_err(|error| lost(&what, chain(&error.without_url())))?;
        let Ok(Told { sha, siblings }) = serde_json::from_slice(&text) else {
            return nonsense(&what, "the answer is no list of files");
        };
        if !crate::address::is_commit(&sha) {
            return nonsense(&what, "the answer names no commit");
        }
        let mut files: Vec<String> = siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        if let Some(hostile) = files.iter().find(|file| !crate::address::is_inside(file)) {
            return nonsense(&what, format!("it lists {hostile:?}, which would lie outside of its folder"));
        }
        files.sort();
        Ok(Listing { folder: self.cache.snapshot(repository, &sha), commit: sha, files })
    }

    /// Those files of a repository that are wanted, all of one commit.
    ///
    /// # Errors
    /// As [`Hub::list`] and [`Hub::fetch`].
    pub fn pull(
        &self,
        repository: &Repository,
        wanted: impl FnOnce(Vec<String>) -> Vec<String>,
        watch: &dyn Watch,
    ) -> Result<Listing> {
        let mut listing = self.list(repository, watch)?;
        listing.files = wanted(listing.files);
        let at = repository.at(&listing.commit);
        for file in &listing.files {
            self.fetch(&at.file(file)?, watch)?;
        }
        // Not before: until all is here, the revision means what is here of an earlier commit to whoever is offline.
        self.cache.note(repository, &listing.commit)?;
        Ok(listing)
    }

    /// What the cache has of a repository.
    fn listed(&self, repository: &Repository) -> Result<Option<Listing>> {
        let Some(commit) = self.cache.commit(repository) else { return Ok(None) };
        let folder = self.cache.snapshot(repository, &commit);
        if !folder.is_dir() {
            return Ok(None);
        }
        let mut files = Vec::new();
        gather(&folder, "", &mut files)?;
        files.sort();
        Ok(Some(Listing { commit, files, folder }))
    }
}

fn gather(folder: &Path, below: &str, files: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            gather(&path, &format!("{name}/"), files)?;
        } else if path.is_file() {
            files.push(name);
        }
    }
    Ok(())
}
