use crate::address::{Address, Repository};
use crate::wire::Trouble;
use reqwest::StatusCode;
use reqwest::blocking::Response;
use sokd_core::{Error, Result};
use std::io::Read;

/// An answer other than what was asked for: its status, and what the Hub says of it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    /// `RepoNotFound`, `RevisionNotFound`, `EntryNotFound`, `GatedRepo`.
    pub code: Option<String>,
    pub message: Option<String>,
}

/// What a Hub says is shown, but no more of it than a person reads.
const LONGEST: usize = 300;

/// How the Hub calls a file that is not there, in a repository and at a revision that are.
const ABSENT: &str = "EntryNotFound";

impl Refusal {
    /// What the Hub answers for a file that a commit does not have.
    pub fn absent() -> Self {
        Self { status: StatusCode::NOT_FOUND, code: Some(ABSENT.to_owned()), message: None }
    }

    pub fn of(answer: Response) -> Self {
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (status, code, message) = (answer.status(), header("x-error-code"), header("x-error-message"));
        let message = message.or_else(|| {
            let mut body = Vec::new();
            answer.take(1 << 16).read_to_end(&mut body).ok()?;
            let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
            Some(body.get("error")?.as_str()?.to_owned())
        });
        Self { status, code, message }
    }

    /// What to tell whoever asked for `what` in `repository`.
    pub fn tell(&self, what: &str, repository: &Repository) -> Error {
        let Self { status, code, message } = self;
        let Repository { kind, revision, .. } = repository;
        let place = format!("{}{}", kind.prefix(), repository.path());
        let url = format!("hub://{what}");
        let missing = |what: String, remedy: &str| Error::Missing {
            path: url.clone().into(),
            what,
            remedy: remedy.to_owned(),
        };
        match (status.as_u16(), code.as_deref()) {
            // Whoever may not see a repository is told that there is none.
            (_, Some("RepoNotFound")) => missing(
                format!("the Hub knows no repository {place}, or does not show it to you"),
                "check its owner and name; a data set's begins with `datasets/`, and a private one needs HF_TOKEN",
            ),
            (_, Some("RevisionNotFound")) => missing(
                format!("the repository {place} has no revision {revision}"),
                "name a branch, a tag or a commit that its page shows",
            ),
            (_, Some(ABSENT)) => missing(
                format!("the repository {place} has no such file at {revision}"),
                &format!("see what it has: sokd pull {place} --list"),
            ),
            (404, _) => missing(
                "the Hub knows no such repository, revision or file".into(),
                "check all three; a data set's address begins with `datasets/`, and a private one needs HF_TOKEN",
            ),
            (401 | 403, _) => Error::Unreachable {
                url,
                problem: format!("the Hub answers {status}{}", self.said()),
                remedy:
                    "accept the terms on the repository's page, and set HF_TOKEN to a token that may do this"
                        .into(),
            },
            _ => Error::Unreachable {
                url,
                problem: format!(
                    "the Hub answers {status}{}",
                    message.as_deref().map(|_| self.said()).unwrap_or_default()
                ),
                remedy: "check HF_ENDPOINT and any proxy".into(),
            },
        }
    }

    /// The Hub's own words, on one line.
    fn said(&self) -> String {
        let Some(message) = &self.message else { return String::new() };
        let plain: String = message.chars().filter(|letter| !letter.is_control()).take(LONGEST).collect();
        if plain.is_empty() { plain } else { format!(": {plain}") }
    }
}

impl Trouble {
    /// Whether it is the file alone that is not there.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code.as_deref() == Some(ABSENT))
    }

    /// What to tell whoever asked for a file.
    pub fn about(self, address: &Address, at: &std::path::Path) -> Error {
        self.tell(&address.to_string(), &address.repository, at)
    }

    /// What to tell whoever asked for `what` in `repository`, to be kept at a path.
    pub fn tell(self, what: &str, repository: &Repository, at: &std::path::Path) -> Error {
        match self {
            Self::Lost(problem) => lost(what, problem),
            Self::Refused(refusal) => refusal.tell(what, repository),
            Self::Disk(error) => crate::cache::unkept(at)(error),
        }
    }
}

/// Nobody answers.
pub(crate) fn lost(what: &str, problem: String) -> Error {
    let remedy = "check the network, HF_ENDPOINT and any proxy, and run it again: what has come is kept; or fetch \
                  the file by hand and name its path";
    Error::Unreachable { url: format!("hub://{what}"), problem, remedy: remedy.into() }
}

/// An answer that is no hub's, or a hostile one's.
pub(crate) fn nonsense<T>(what: &str, problem: impl Into<String>) -> Result<T> {
    let remedy = "check that HF_ENDPOINT names a hub, and that no proxy answers in its place".to_owned();
    Err(Error::Unreachable { url: format!("hub://{what}"), problem: problem.into(), remedy })
}
