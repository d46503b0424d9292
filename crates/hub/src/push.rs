//! Publishing, by the Hub's own client: what it does well is not done again.

use crate::refusal::lost;
use crate::wire::chain;
use crate::{Hub, Kind, Repository};
use hf_hub::repository::{AddSource, CommitOperation, RepoTypeModel};
use hf_hub::{HFClient, HFError};
use sokd_core::{Error, Result, Watch};
use std::path::PathBuf;
use std::time::Duration;

/// What is published in one commit.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Files on the disk, by their paths in the repository.
    pub files: Vec<(String, PathBuf)>,
    /// Files that are written for the occasion.
    pub texts: Vec<(String, String)>,
    /// What the commit says of itself.
    pub message: String,
    /// Whether a repository that is made for it is shown to its owner only.
    pub private: bool,
}

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The repository's page.
    pub page: String,
    /// The commit.
    pub commit: String,
}

impl Hub {
    /// Publishes files in one commit to a model's repository, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Unreachable`] without a token, for one that may not write there, and where the Hub does not answer. Then
    /// nothing is published: a commit is whole or not at all.
    pub fn push(&self, repository: &Repository, parcel: &Parcel, watch: &dyn Watch) -> Result<Pushed> {
        let what = repository.to_string();
        if repository.kind != Kind::Model {
            return Err(Error::setting(format!("hub://{what}"), "only models are published"));
        }
        if self.offline {
            let problem = "HF_HUB_OFFLINE forbids to publish anything".to_owned();
            let url = format!("hub://{what}");
            return Err(Error::Unreachable { url, problem, remedy: "unset HF_HUB_OFFLINE".into() });
        }
        let Some(token) = &self.token else {
            let remedy =
                "set HF_TOKEN to a token that may write, or log in with Python's `hf auth login`".to_owned();
            let problem = "there is no token to publish by".to_owned();
            return Err(Error::Unreachable { url: format!("hub://{what}"), problem, remedy });
        };
        let secret =
            |text: &[u8]| text.windows(token.secret().len()).any(|part| part == token.secret().as_bytes());
        let small = |path: &&PathBuf| path.metadata().is_ok_and(|file| file.len() < SMALL);
        let read = parcel.files.iter().map(|(_, path)| path).filter(small).flat_map(std::fs::read);
        if parcel.texts.iter().any(|(_, text)| secret(text.as_bytes()))
            || read.into_iter().any(|text| secret(&text))
        {
            return Err(Error::setting(
                format!("hub://{what}"),
                "the token itself stands in what would be published",
            ));
        }
        let client = HFClient::builder()
            .endpoint(self.endpoint.as_str())
            .token(token.secret())
            .cache_dir(&self.cache.root)
            .build_sync()
            .map_err(|error| refused(repository, &error))?;
        let publish = || {
            let name = repository.path();
            let create = client.create_repository().repo_id(&name).repo_type(RepoTypeModel);
            // Whoever may write to a repository may not always make one; then what the commit says counts.
            let made = match create.private(parcel.private).exist_ok(true).send() {
                Err(error) if !matches!(error, HFError::Forbidden { .. }) => return Err(error),
                made => made,
            };
            let model = client.model(&repository.owner, &repository.name);
            let commit = model.create_commit().operations(operations(parcel));
            let commit = commit.commit_message(parcel.message.clone()).revision(repository.revision.clone());
            let info = commit.send().or_else(|error| made.and(Err(error)))?;
            let page = format!("{}/{name}", self.endpoint());
            Ok(Pushed { page, commit: info.commit_oid.unwrap_or_default() })
        };
        for _ in 1..TRIES {
            match publish() {
                Err(HFError::RateLimited { retry_after: Some(pause), .. }) if pause <= LONGEST => {
                    watch.say(&format!("the Hub asks to come again in {} s", pause.as_secs()));
                    std::thread::sleep(pause);
                }
                done => return done.map_err(|error| refused(repository, &error)),
            }
        }
        publish().map_err(|error| refused(repository, &error))
    }
}

/// Text that people wrote; weights are not looked through.
const SMALL: u64 = 1 << 20;

/// How often the Hub may ask to come again.
const TRIES: usize = 5;

/// The longest that it may ask to wait.
const LONGEST: Duration = Duration::from_mins(5);

fn operations(parcel: &Parcel) -> Vec<CommitOperation> {
    let files = parcel.files.iter().map(|(name, path)| (name, AddSource::File(path.clone())));
    let texts = parcel.texts.iter().map(|(name, text)| (name, AddSource::Bytes(text.clone().into())));
    files
        .chain(texts)
        .map(|(name, source)| CommitOperation::Add { path_in_repo: name.clone(), source })
        .collect()
}

fn refused(repository: &Repository, error: &HFError) -> Error {
    let url = format!("hub://{repository}");
    let (problem, remedy) = match error {
        HFError::AuthRequired { context } | HFError::Forbidden { context } => (
            said(context.status, context.server_message.as_deref()),
            "set HF_TOKEN to a token that may write to this owner's repositories",
        ),
        HFError::RepoNotFound { .. } => (
            "the Hub knows no such repository, or does not let you write to it".into(),
            "check owner and name, and what the token may do",
        ),
        HFError::Http { context } | HFError::Conflict { context } | HFError::RateLimited { context, .. } => (
            said(context.status, context.server_message.as_deref()),
            "run it again: a commit is published whole or not at all",
        ),
        HFError::Io(error) => (error.to_string(), "check that the files can be read"),
        error => return lost(&repository.to_string(), chain(error)),
    };
    Error::Unreachable { url, problem, remedy: remedy.into() }
}

fn said(status: impl std::fmt::Display, message: Option<&str>) -> String {
    let message = message.map(|message| format!(": {message}")).unwrap_or_default();
    format!("the Hub answers {status}{message}")
}
