use crate::address::{Address, Repository};
use crate::cache::Cache;
use crate::token::Token;
use crate::wire::{Patience, Wire};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Url};
use sokd_core::{Error, Result};
use std::path::{Path, PathBuf};

/// A Hugging Face Hub, or a mirror of it, and the cache that its files are kept in.
///
/// # Example
/// ```no_run
/// # struct Silent;
/// # impl sokd_core::Watch for Silent {
/// #     fn at(&self, _: &str, _: usize, _: usize) {}
/// #     fn say(&self, _: &str) {}
/// # }
/// let hub = sokd_hub::Hub::from_env()?;
/// let weights = hub.fetch(&"timm/resnet18.a1_in1k/model.safetensors".parse()?, &Silent)?;
/// # Ok::<(), sokd_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Hub {
    pub(crate) endpoint: Url,
    pub(crate) token: Option<Token>,
    pub(crate) cache: Cache,
    pub(crate) offline: bool,
    pub(crate) wire: Wire,
}

/// Who is asked where `HF_ENDPOINT` names no one.
const ENDPOINT: &str = "https://huggingface.co";

impl Hub {
    /// The Hub as the environment has it: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_HUB_OFFLINE`.
    ///
    /// # Errors
    /// [`Error::Setting`] for an endpoint that is no address.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let mut hub = Self::new(&endpoint, &hf_hub::resolve_cache_dir())?;
        hub.token = Token::from_env();
        hub.offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
            .iter()
            .find_map(|name| set(name))
            .is_some_and(|value| is_true(&value));
        Ok(hub)
    }

    /// A hub at an address with a cache in a folder: nobody's token, and online.
    ///
    /// # Errors
    /// [`Error::Setting`] for what is no address.
    pub fn new(endpoint: &str, cache: &Path) -> Result<Self> {
        let url = Url::parse(endpoint).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        // It may hold a password, so it is not repeated.
        let wrong = || Error::setting("HF_ENDPOINT", "it is no address such as https://huggingface.co");
        Ok(Self {
            endpoint: url.ok_or_else(wrong)?,
            token: None,
            cache: Cache::new(cache),
            offline: false,
            wire: Wire::new(Patience::default())?,
        })
    }

    /// With a token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Token::new(token), ..self }
    }

    /// Without a network.
    #[must_use]
    pub fn offline(self) -> Self {
        Self { offline: true, ..self }
    }

    /// With another patience.
    ///
    /// # Errors
    /// As [`Hub::new`].
    pub fn with_patience(self, patience: Patience) -> Result<Self> {
        Ok(Self { wire: Wire::new(patience)?, ..self })
    }

    /// Who is asked, without a password that may stand in the address.
    pub fn endpoint(&self) -> String {
        let mut shown = self.endpoint.clone();
        // Both fail for addresses without a host only, which are no endpoints.
        shown.set_username("").ok();
        shown.set_password(None).ok();
        shown.as_str().trim_end_matches('/').to_owned()
    }

    /// Where files are kept.
    pub fn cache(&self) -> PathBuf {
        self.cache.root.clone()
    }

    /// Whether it may be asked.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Whether there is a token to send.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Where a file is to be had.
    pub(crate) fn file_url(&self, Address { repository, file }: &Address) -> Url {
        let Repository { kind, owner, name, revision } = repository;
        let place = [kind.prefix().trim_end_matches('/'), owner, name, "resolve", revision];
        self.url(place.into_iter().filter(|part| !part.is_empty()).chain(file.split('/')))
    }

    /// Below the endpoint; each part is escaped, a slash in it too.
    pub(crate) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(parts);
        }
        url
    }

    /// A request, by whoever the token says; `follows` redirections to other machines, or brings them back.
    pub(crate) fn request(
        &self,
        method: Method,
        url: &Url,
        follows: bool,
    ) -> reqwest::blocking::RequestBuilder {
        let request = self.wire.client(follows).request(method, url.clone());
        let proof = self.token.as_ref().and_then(|token| {
            let mut proof = HeaderValue::from_str(&format!("Bearer {}", token.secret())).ok()?;
            // Whatever logs headers leaves it out.
            proof.set_sensitive(true);
            Some(proof)
        });
        match proof {
            Some(proof) => request.header(AUTHORIZATION, proof),
            None => request,
        }
    }
}

/// As Python's library reads a switch.
pub(crate) fn is_true(value: &str) -> bool {
    ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str())
}
