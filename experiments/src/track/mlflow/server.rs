//! A server and its answers.

use super::batch::short;
use super::{ADDRESS, TOKEN};
use crate::{Misfit, Result};
use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use sokd_core::Error;
use std::time::Duration;

/// A server that takes longer is away.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The one request that is a question only.
const BY_NAME: &str = "experiments/get-by-name";

/// An MLflow server.
pub struct Server {
    /// Its address, without any word of who we are.
    pub name: String,
    address: Url,
    token: Option<String>,
    /// Made when it is first needed: it reads the certificates of the machine.
    client: Option<Client>,
}

/// What came instead of an answer.
pub enum Trouble {
    /// No word, or none in time.
    Away(String),
    /// The server's no, and MLflow's own name for it.
    Refused { status: u16, code: String, message: String },
}

impl Server {
    /// The one that the environment names.
    ///
    /// # Errors
    /// An address that is missing, or not of a server.
    pub fn from_env() -> Result<Self> {
        let text = std::env::var(ADDRESS).unwrap_or_default();
        let help =
            "set it to the address of a server, such as http://127.0.0.1:5000: `mlflow server` starts one";
        if text.trim().is_empty() {
            return Err(Misfit::new(format!("mlflow: {ADDRESS} is not set")).help(help).into());
        }
        // The address may hold a password: no message repeats it.
        let web = |url: &Url| ["http", "https"].contains(&url.scheme()) && url.has_host();
        let address = Url::parse(text.trim()).ok().filter(web);
        let address = address.ok_or_else(|| {
            Misfit::new(format!("mlflow: {ADDRESS} is no http:// or https:// address")).help(help)
        })?;
        let name = bare(&address);
        let token = std::env::var(TOKEN).ok().map(|token| token.trim().to_owned());
        let token = token.filter(|token| !token.is_empty());
        Ok(Self { name, address, token, client: None })
    }

    /// What the server answers to a request.
    pub fn ask(&mut self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let away = |error: reqwest::Error| Trouble::Away(sokd_hub::chain(&error.without_url()));
        let client = if let Some(client) = self.client.clone() {
            client
        } else {
            let client = Client::builder()
                .user_agent(concat!("sokd/", env!("CARGO_PKG_VERSION")))
                // Who answers elsewhere shall be named by the address.
                .redirect(Policy::none())
                .timeout(TIMEOUT);
            self.client.insert(client.build().map_err(away)?).clone()
        };
        let mut address = self.address.clone();
        address.set_path(&format!("{}/api/2.0/mlflow/{path}", address.path().trim_end_matches('/')));
        let request = if path == BY_NAME {
            for (name, value) in body.as_object().into_iter().flatten() {
                address.query_pairs_mut().append_pair(name, value.as_str().unwrap_or_default());
            }
            client.get(address)
        } else {
            client.post(address).body(body.to_string()).header("content-type", "application/json")
        };
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().map_err(away)?;
        let status = answer.status();
        let bytes = answer.bytes().map_err(away)?;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() {
            return Ok(value);
        }
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Err(Trouble::Refused { status: status.as_u16(), code: text("error_code"), message: text("message") })
    }

    /// The same, where no other answer than yes is of use.
    pub fn say(&mut self, path: &str, body: &Value) -> Result<Value> {
        self.ask(path, body).map_err(|trouble| self.error(trouble))
    }

    /// Trouble in words.
    pub fn error(&self, trouble: Trouble) -> crate::Error {
        let problem = match trouble {
            Trouble::Away(problem) => problem,
            Trouble::Refused { status, message, .. } if message.is_empty() => format!("answers {status}"),
            Trouble::Refused { status, message, .. } => {
                format!("answers {status}: {}", short(message.lines().next().unwrap_or_default(), 300))
            }
        };
        let remedy = format!("see that the server runs, and what {ADDRESS} and {TOKEN} say");
        Error::Unreachable { url: self.name.clone(), problem, remedy }.into()
    }

    /// The number of the experiment of that name, which is made where there is none.
    pub fn experiment(&mut self, name: &str) -> Result<String> {
        let id = |answer: &Value, at: &str| answer.pointer(at).and_then(Value::as_str).map(str::to_owned);
        for _ in 0..2 {
            match self.ask(BY_NAME, &json!({ "experiment_name": name })) {
                Ok(answer) => {
                    if let Some(id) = id(&answer, "/experiment/experiment_id") {
                        return Ok(id);
                    }
                }
                Err(Trouble::Refused { status: 404, .. }) => {}
                Err(trouble) => return Err(self.error(trouble)),
            }
            match self.ask("experiments/create", &json!({ "name": name })) {
                Ok(answer) => {
                    if let Some(id) = id(&answer, "/experiment_id") {
                        return Ok(id);
                    }
                }
                // Another run was faster.
                Err(Trouble::Refused { code, .. }) if code == "RESOURCE_ALREADY_EXISTS" => {}
                Err(trouble) => return Err(self.error(trouble)),
            }
        }
        Err(self.error(Trouble::Away("no MLflow server: it names no experiment".to_owned())))
    }
}

/// An address without user, password and query.
pub fn bare(address: &Url) -> String {
    let mut address = address.clone();
    // Refused by addresses that cannot have any.
    address.set_username("").ok();
    address.set_password(None).ok();
    address.set_query(None);
    address.set_fragment(None);
    address.as_str().trim_end_matches('/').to_owned()
}
