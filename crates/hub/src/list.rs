use crate::fetch::offline;
use crate::refusal::{Refusal, lost, nonsense};
use crate::wire::{Trouble, chain};
use crate::{Hub, Repository};
use reqwest::header::LINK;
use reqwest::{Method, Url};
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

/// As much as is needed of what a hub tells of a repository.
#[derive(Debug, Deserialize)]
struct Told {
    sha: String,
    /// Some mirrors leave them out.
    siblings: Option<Vec<Sibling>>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
}

/// A file or folder, as a page of the tree has it.
#[derive(Debug, Deserialize)]
struct Leaf {
    #[serde(rename = "type")]
    kind: String,
    path: String,
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
        match self.told(repository, watch) {
            Ok(listing) => listing,
            Err(Trouble::Lost(problem)) => {
                let here = self.listed(repository)?.ok_or_else(|| lost(&what, problem.clone()))?;
                watch.say(&format!("hub://{what}: {problem}; this is what the cache has"));
                Ok(here)
            }
            Err(trouble) => Err(trouble.tell(&what, repository, &self.cache.root)),
        }
    }

    /// What a hub lists.
    fn told(&self, repository: &Repository, watch: &dyn Watch) -> Result<Result<Listing>, Trouble> {
        let what = repository.to_string();
        let (text, _) = self.page(&self.about(repository, "revision", &repository.revision), watch)?;
        let Ok(Told { sha, siblings }) = serde_json::from_slice(&text) else {
            return Ok(nonsense(&what, "the answer is no list of files"));
        };
        if !crate::address::is_commit(&sha) {
            return Ok(nonsense(&what, "the answer names no commit"));
        }
        let files = match siblings {
            Some(siblings) => Ok(siblings.into_iter().map(|sibling| sibling.rfilename).collect()),
            None => self.leaves(repository, &sha, watch)?,
        };
        let mut files: Vec<String> = match files {
            Ok(files) => files,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(hostile) = files.iter().find(|file| !crate::address::is_inside(file)) {
            return Ok(nonsense(
                &what,
                format!("it lists {hostile:?}, which would lie outside of its folder"),
            ));
        }
        files.sort();
        Ok(Ok(Listing { folder: self.cache.snapshot(repository, &sha), commit: sha, files }))
    }

    /// The files of a commit's tree, page by page.
    fn leaves(
        &self,
        repository: &Repository,
        commit: &str,
        watch: &dyn Watch,
    ) -> Result<Result<Vec<String>>, Trouble> {
        let mut url = self.about(repository, "tree", commit);
        url.set_query(Some("recursive=true"));
        let mut files = Vec::new();
        loop {
            let (text, next) = self.page(&url, watch)?;
            let Ok(leaves) = serde_json::from_slice::<Vec<Leaf>>(&text) else {
                return Ok(nonsense(&repository.to_string(), "the answer is no list of files"));
            };
            files.extend(leaves.into_iter().filter(|leaf| leaf.kind == "file").map(|leaf| leaf.path));
            match next {
                None => return Ok(Ok(files)),
                // The token goes with each request, and to no one else.
                Some(next) if next.origin() != url.origin() => {
                    return Ok(nonsense(&repository.to_string(), "its list goes on elsewhere"));
                }
                Some(next) => url = next,
            }
        }
    }

    fn about(&self, Repository { kind, owner, name, .. }: &Repository, what: &str, revision: &str) -> Url {
        self.url(["api", kind.plural(), owner, name, what, revision])
    }

    /// An answer of the Hub's API, and where it goes on.
    fn page(&self, url: &Url, watch: &dyn Watch) -> Result<(Vec<u8>, Option<Url>), Trouble> {
        let answer = self.wire.ask(&|| self.request(Method::GET, url, true), watch)?;
        if !answer.status().is_success() {
            return Err(Trouble::Refused(Refusal::of(answer)));
        }
        // `<https://...>; rel="next"`
        let link = answer.headers().get(LINK).and_then(|link| link.to_str().ok());
        let next = link.filter(|link| link.contains("rel=\"next\"")).and_then(|link| {
            let (address, _) = link.strip_prefix('<')?.split_once('>')?;
            url.join(address).ok()
        });
        let text = answer.bytes().map_err(|error| Trouble::Lost(chain(&error.without_url())))?;
        Ok((text.to_vec(), next))
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
