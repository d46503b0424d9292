//! A hub on this machine, over real HTTP, for tests: as much of the Hub as is asked of it, and faults on demand.

mod wire;

use crate::digest::hex;
use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wire::{Reply, read, unescaped};

/// What goes wrong when a file's content is asked for; what is said of it before is right.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// This status and body in place of the content.
    Status(u16, String),
    /// Another body, whole.
    Instead(Vec<u8>),
    /// So many bytes, as if they were all.
    Short(usize),
    /// So many bytes of those that are announced, and the connection ends.
    Cut(usize),
    /// The content, after a while.
    Slow(Duration),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, `HEAD`, `POST`.
    pub method: String,
    /// With what stands behind a question mark.
    pub path: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// What came with it.
    pub body: Vec<u8>,
}

type Files = BTreeMap<String, Vec<u8>>;

/// What it knows and has heard.
#[derive(Debug, Default)]
struct Known {
    /// Commits by repository (`owner/name`, `datasets/owner/name`), the last one `main`.
    commits: BTreeMap<String, Vec<(String, Files)>>,
    faults: Vec<(Fault, usize)>,
    /// Answers to any request, before anything else: status, header, how often.
    busy: Option<(u16, Option<String>, usize)>,
    /// Headers that say something else of every file.
    claims: BTreeMap<String, String>,
    /// Names that it lists beside those of its files.
    listed: Vec<String>,
    /// Whether it lists files by the pages of their tree, and there alone.
    pages: bool,
    /// Without this token it gives nothing.
    token: Option<String>,
    /// Another machine that has the contents.
    store: Option<String>,
    heard: Vec<Request>,
}

/// A hub on this machine. It ends with the test's process.
#[derive(Clone, Debug)]
pub struct Mock {
    port: u16,
    known: Arc<Mutex<Known>>,
}

impl Mock {
    /// A hub without repositories.
    ///
    /// # Panics
    /// Where no port can be had.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mock = Self { port, known: Arc::default() };
        let served = mock.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.answer(stream).ok());
            }
        });
        mock
    }

    /// A hub of one file: `owner/name`, `model.safetensors`.
    pub fn of(content: &[u8]) -> Self {
        let mock = Self::start();
        mock.put("owner/name", "model.safetensors", content);
        mock
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a file by a new commit, whose name is returned.
    pub fn put(&self, repository: &str, file: &str, content: &[u8]) -> String {
        self.commit(repository, [(file.to_owned(), content.to_vec())])
    }

    /// Adds files by a new commit, whose name is returned.
    pub fn commit(&self, repository: &str, new: impl IntoIterator<Item = (String, Vec<u8>)>) -> String {
        let mut known = self.known();
        let commits = known.commits.entry(repository.to_owned()).or_default();
        let mut files = commits.last().map(|(_, files)| files.clone()).unwrap_or_default();
        files.extend(new);
        let commit = hex(&Sha256::digest(format!("{} {files:?}", commits.len())))[..40].to_owned();
        commits.push((commit.clone(), files));
        commit
    }

    /// A file as the last commit has it.
    pub fn file(&self, repository: &str, file: &str) -> Option<Vec<u8>> {
        self.known().commits.get(repository)?.last()?.1.get(file).cloned()
    }

    /// Lets something go wrong for the next so many contents.
    pub fn fail(&self, fault: Fault, times: usize) {
        self.known().faults.push((fault, times));
    }

    /// Answers the next so many requests with a status, and `Retry-After` if there is one to say.
    pub fn busy(&self, status: u16, retry_after: Option<&str>, times: usize) {
        self.known().busy = Some((status, retry_after.map(str::to_owned), times));
    }

    /// Says something else of every file by a header, such as `ETag`.
    pub fn claim(&self, header: &str, value: &str) {
        self.known().claims.insert(header.to_owned(), value.to_owned());
    }

    /// Lists a name that it has no file of.
    pub fn list(&self, name: &str) {
        self.known().listed.push(name.to_owned());
    }

    /// Lists files by the pages of their tree alone, one on each.
    pub fn list_in_pages(&self) {
        self.known().pages = true;
    }

    /// Gives nothing to whoever comes without this token.
    pub fn want(&self, token: &str) {
        self.known().token = Some(token.to_owned());
    }

    /// Sends to another machine for every content, as the Hub does for large files.
    pub fn store(&self, endpoint: &str) {
        self.known().store = Some(endpoint.to_owned());
    }

    /// What it has heard, in order.
    pub fn heard(&self) -> Vec<Request> {
        self.known().heard.clone()
    }

    /// How many requests of a method came.
    pub fn asked(&self, method: &str) -> usize {
        self.known().heard.iter().filter(|request| request.method == method).count()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read(&mut reader)? {
            self.known().heard.push(request.clone());
            let reply = self.reply(&request);
            std::thread::sleep(reply.after);
            if !reply.send(&mut stream, request.method != "HEAD")? {
                return stream.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    fn reply(&self, request: &Request) -> Reply {
        let mut known = self.known();
        if let Some((status, retry_after, times)) = &mut known.busy
            && *times > 0
        {
            *times -= 1;
            let headers = retry_after.iter().map(|after| ("Retry-After".to_owned(), after.clone()));
            return Reply { headers: headers.collect(), ..Reply::json(*status, &json!({ "error": "busy" })) };
        }
        let proof = request.headers.get("authorization").map(String::as_str);
        if let Some(token) = &known.token
            && proof != Some(&format!("Bearer {token}"))
        {
            return Reply::json(401, &json!({ "error": "Invalid username or password." }));
        }
        let path = request.path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let parts: Vec<String> = path.split('/').map(unescaped).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match parts[..] {
            ["api", "repos", "create"] => {
                let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
                let name = format!("{}/{}", text("organization"), text("name"));
                if known.commits.contains_key(&name) {
                    return Reply::json(409, &json!({ "error": "You already created this model repo" }));
                }
                known.commits.insert(name.clone(), Vec::new());
                Reply::json(200, &json!({ "url": format!("{}/{name}", self.endpoint()) }))
            }
            ["api", "models", _, _, "preupload", _] => {
                let asked: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                let mode = |file: &Value| {
                    let lfs = file["path"].as_str().is_some_and(|path| path.ends_with(".safetensors"));
                    let mode = if lfs { "lfs" } else { "regular" };
                    json!({ "path": file["path"], "uploadMode": mode, "shouldIgnore": false, "oid": null })
                };
                let files: Vec<Value> = asked["files"].as_array().into_iter().flatten().map(mode).collect();
                Reply::json(200, &json!({ "files": files }))
            }
            [_, _, "info", "lfs", "objects", "batch"] => {
                Reply::json(200, &json!({ "transfer": "basic", "objects": [] }))
            }
            ["api", "models", owner, name, "commit", _] => {
                drop(known);
                let commit = self.commit(&format!("{owner}/{name}"), added(&request.body));
                let url = format!("{}/{owner}/{name}/commit/{commit}", self.endpoint());
                Reply::json(200, &json!({ "success": true, "commitOid": commit, "commitUrl": url }))
            }
            ["api", kind, owner, name, "revision", revision] => known.tell(kind, owner, name, revision),
            ["api", kind, owner, name, "tree", revision] => {
                let query = request.path.split_once("page=").and_then(|(_, page)| page.parse().ok());
                known.page(kind, owner, name, (revision, query.unwrap_or(0)))
            }
            ["datasets", owner, name, "resolve", revision, ref file @ ..] => {
                known.send(&format!("datasets/{owner}/{name}"), revision, &file.join("/"), request)
            }
            [owner, name, "resolve", revision, ref file @ ..] => {
                known.send(&format!("{owner}/{name}"), revision, &file.join("/"), request)
            }
            _ => Reply::json(404, &json!({ "error": "Sorry, we can't find the page you are looking for." })),
        }
    }
}

impl Known {
    fn at(&self, repository: &str, revision: &str) -> Result<&(String, Files), Reply> {
        let unknown = || Reply::missing("RepoNotFound", "Repository not found");
        let commits = self.commits.get(repository).ok_or_else(unknown)?;
        let found = commits.iter().rev().find(|(commit, _)| revision == "main" || revision == commit);
        found.ok_or_else(|| Reply::missing("RevisionNotFound", &format!("Invalid rev id: {revision}")))
    }

    fn tell(&self, kind: &str, owner: &str, name: &str, revision: &str) -> Reply {
        let prefix = if kind == "datasets" { "datasets/" } else { "" };
        match self.at(&format!("{prefix}{owner}/{name}"), revision) {
            Ok((commit, files)) => {
                let names = files.keys().chain(&self.listed);
                let siblings: Vec<Value> = names.map(|name| json!({ "rfilename": name })).collect();
                let siblings = if self.pages { Value::Null } else { siblings.into() };
                Reply::json(
                    200,
                    &json!({ "id": format!("{owner}/{name}"), "sha": commit, "siblings": siblings }),
                )
            }
            Err(reply) => reply,
        }
    }

    /// A page of the tree: a folder and a file.
    fn page(&self, kind: &str, owner: &str, name: &str, (revision, page): (&str, usize)) -> Reply {
        let prefix = if kind == "datasets" { "datasets/" } else { "" };
        let files = match self.at(&format!("{prefix}{owner}/{name}"), revision) {
            Ok((_, files)) => files,
            Err(reply) => return reply,
        };
        let file = files.keys().nth(page);
        let leaves = [("directory", Some("folder")), ("file", file.map(String::as_str))];
        let leaf = |(kind, path): (&str, Option<&str>)| Some(json!({ "type": kind, "path": path? }));
        let mut reply = Reply::json(200, &leaves.into_iter().filter_map(leaf).collect());
        if page + 1 < files.len() {
            let next = format!("/api/{kind}/{owner}/{name}/tree/{revision}?recursive=true&page={}", page + 1);
            reply.headers.insert("Link".into(), format!("<{next}>; rel=\"next\""));
        }
        reply
    }

    fn send(&mut self, repository: &str, revision: &str, file: &str, request: &Request) -> Reply {
        let (commit, content) = match self.at(repository, revision) {
            Err(reply) => return reply,
            Ok((commit, files)) => match files.get(file) {
                None => return Reply::missing("EntryNotFound", "Entry not found"),
                Some(content) => (commit.clone(), content.clone()),
            },
        };
        let mut headers = BTreeMap::from([
            ("X-Repo-Commit".to_owned(), commit),
            ("ETag".to_owned(), format!("\"{}\"", hex(&Sha256::digest(&content)))),
            ("X-Linked-Size".to_owned(), content.len().to_string()),
            ("Accept-Ranges".to_owned(), "bytes".to_owned()),
        ]);
        headers.extend(self.claims.clone());
        let head = request.method == "HEAD";
        if let Some(store) = &self.store {
            headers.insert("X-Linked-ETag".into(), headers["ETag"].clone());
            headers.insert("ETag".into(), "\"of the redirection\"".into());
            headers.insert("Location".into(), format!("{store}{}", request.path));
            return Reply { headers, ..Reply::json(302, &json!({})) };
        }
        let fault = self.faults.iter_mut().find(|(_, times)| *times > 0 && !head).map(|(fault, times)| {
            *times -= 1;
            fault.clone()
        });
        let range = request.headers.get("range").filter(|_| !head);
        let from =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let mut status = 200;
        let mut body = content.clone();
        if let Some(from) = from {
            if from >= content.len() {
                return Reply { headers, ..Reply::json(416, &json!({})) };
            }
            status = 206;
            body = content[from..].to_vec();
            headers.insert(
                "Content-Range".into(),
                format!("bytes {from}-{}/{}", content.len() - 1, content.len()),
            );
        }
        let whole = Reply { status, headers, length: body.len(), body, after: Duration::ZERO };
        match fault {
            None => whole,
            Some(Fault::Status(status, body)) => {
                Reply { status, length: body.len(), body: body.into_bytes(), ..whole }
            }
            Some(Fault::Instead(body)) => Reply { status: 200, length: body.len(), body, ..whole },
            Some(Fault::Short(count)) => {
                Reply { status: 200, length: count, body: content[..count].to_vec(), ..whole }
            }
            Some(Fault::Cut(count)) => {
                let count = count.min(whole.body.len());
                Reply { body: whole.body[..count].to_vec(), ..whole }
            }
            Some(Fault::Slow(after)) => Reply { after, ..whole },
        }
    }
}

/// The files that a commit adds, a line each.
fn added(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let lines =
        body.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let file = |line: Value| {
        let value = line.get("value").filter(|_| line["key"] == "file")?;
        let content = base64::engine::general_purpose::STANDARD.decode(value["content"].as_str()?).ok()?;
        Some((value["path"].as_str()?.to_owned(), content))
    };
    lines.filter_map(file).collect()
}
