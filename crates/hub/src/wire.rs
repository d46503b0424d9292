//! Requests that are made again where that may help, and bodies that go on where they broke off.

use crate::refusal::Refusal;
use reqwest::StatusCode;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE, RETRY_AFTER};
use sokd_core::{Error, Result, Watch};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::time::Duration;

/// How long to insist on an answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Requests in a row that bring nothing new.
    pub attempts: u32,
    /// Before the second request; each later pause is twice as long. A server that says how long to wait is heeded.
    pub pause: Duration,
    /// The longest that a server may ask to wait.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_millis(500), longest: Duration::from_mins(5) }
    }
}

/// Why nothing came.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nobody answers, or only that another time would be better.
    Lost(String),
    /// An answer that asking again would not change.
    Refused(Refusal),
    /// The system does not take what comes.
    Disk(io::Error),
}

/// Connections.
#[derive(Debug)]
pub(crate) struct Wire {
    follows: Client,
    stays: Client,
    patience: Patience,
}

/// What is left of a patience.
struct Tries<'a> {
    patience: &'a Patience,
    made: u32,
    watch: &'a dyn Watch,
}

/// A request that may be made again, after as long as the server wants, and why.
struct Again(Option<Duration>, String);

/// Why a body broke off.
enum Broken {
    Again(Again),
    For(Trouble),
}

impl Wire {
    pub fn new(patience: Patience) -> Result<Self> {
        let client = |redirects| {
            let mut headers = HeaderMap::new();
            // The digest and the length on record are those of the file as it is.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            let client = Client::builder()
                .user_agent(concat!("sokd/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers)
                .redirect(redirects)
                .connect_timeout(Duration::from_secs(30))
                // For each read and not for the whole: a large file may take hours on a slow line.
                .timeout(Duration::from_mins(1));
            client.build().map_err(|error| Error::setting("network", chain(&error)))
        };
        let (follows, stays) = (reqwest::redirect::Policy::default(), reqwest::redirect::Policy::none());
        Ok(Self { follows: client(follows)?, stays: client(stays)?, patience })
    }

    pub fn client(&self, follows: bool) -> &Client {
        if follows { &self.follows } else { &self.stays }
    }

    fn tries<'a>(&'a self, watch: &'a dyn Watch) -> Tries<'a> {
        Tries { patience: &self.patience, made: 0, watch }
    }

    /// The answer to a request: whatever it is, but not that the server is busy.
    pub fn ask(&self, request: &dyn Fn() -> RequestBuilder, watch: &dyn Watch) -> Result<Response, Trouble> {
        let mut tries = self.tries(watch);
        loop {
            match sent(request()) {
                Ok(answer) => return Ok(answer),
                Err(again) => tries.wait(again)?,
            }
        }
    }

    /// Writes a body behind what `file` holds of it already, until all of it is there.
    pub fn fill(
        &self,
        request: &dyn Fn() -> RequestBuilder,
        file: &mut File,
        mut length: Option<u64>,
        (what, watch): (&str, &dyn Watch),
    ) -> Result<(), Trouble> {
        let (mut tries, mut furthest) = (self.tries(watch), 0);
        loop {
            let have = file.metadata().map_err(Trouble::Disk)?.len();
            if length == Some(have) {
                return Ok(());
            }
            // More than there should be is something else, and of an unknown length no part is known to be right.
            let from = if length.is_some_and(|length| have < length) { have } else { 0 };
            let seen = |at: u64, of: u64| watch.at(what, at as usize, of as usize);
            let again = match body(request(), file, from, &mut length, &seen) {
                Ok(()) => return Ok(()),
                Err(Broken::For(trouble)) => return Err(trouble),
                Err(Broken::Again(again)) => again,
            };
            let now = file.metadata().map_err(Trouble::Disk)?.len();
            if now > furthest {
                (furthest, tries.made) = (now, 0);
            }
            tries.wait(again)?;
        }
    }
}

impl Tries<'_> {
    fn wait(&mut self, Again(asked, problem): Again) -> Result<(), Trouble> {
        self.made += 1;
        let own = self.patience.pause * 2u32.saturating_pow(self.made - 1);
        let pause = asked.unwrap_or(own);
        if pause > self.patience.longest {
            let seconds = pause.as_secs();
            return Err(Trouble::Lost(format!("{problem}, and asks to come again in {seconds} s")));
        }
        if self.made >= self.patience.attempts {
            return Err(Trouble::Lost(format!("{problem} ({} times in a row)", self.made)));
        }
        if pause >= Duration::from_secs(1) {
            self.watch.say(&format!("{problem}: once more in {} s", pause.as_secs()));
        }
        std::thread::sleep(pause);
        Ok(())
    }
}

fn sent(request: RequestBuilder) -> Result<Response, Again> {
    let answer = request.send().map_err(|error| Again(None, chain(&error.without_url())))?;
    let status = answer.status();
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if busy || status.is_server_error() {
        let seconds =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        return Err(Again(seconds.map(Duration::from_secs), format!("the server answers {status}")));
    }
    Ok(answer)
}

fn body(
    request: RequestBuilder,
    file: &mut File,
    from: u64,
    length: &mut Option<u64>,
    seen: &dyn Fn(u64, u64),
) -> Result<(), Broken> {
    let disk = |error| Broken::For(Trouble::Disk(error));
    let again = |problem: String| Broken::Again(Again(None, problem));
    let request = if from > 0 { request.header(RANGE, format!("bytes={from}-")) } else { request };
    let mut answer = sent(request).map_err(Broken::Again)?;
    let status = answer.status();
    let goes_on = status == StatusCode::PARTIAL_CONTENT && first_byte(&answer) == Some(from);
    if status == StatusCode::RANGE_NOT_SATISFIABLE || (status == StatusCode::PARTIAL_CONTENT && !goes_on) {
        file.set_len(0).map_err(disk)?;
        return Err(again("the server has no such part".into()));
    }
    if !status.is_success() {
        return Err(Broken::For(Trouble::Refused(Refusal::of(answer))));
    }
    let mut at = if goes_on { from } else { 0 };
    *length = length.or_else(|| answer.content_length());
    let length = *length;
    file.set_len(at).and_then(|()| file.seek(SeekFrom::Start(at))).map_err(disk)?;
    let mut block = vec![0; 1 << 16];
    loop {
        let count = answer.read(&mut block).map_err(|error| again(chain(&error)))?;
        if count == 0 {
            break;
        }
        file.write_all(&block[..count]).map_err(disk)?;
        at += count as u64;
        seen(at, length.unwrap_or(0));
        if length.is_some_and(|length| at > length) {
            break;
        }
    }
    match length {
        Some(length) if at < length => Err(again(format!("{at} bytes came, and the file has {length}"))),
        Some(length) if at > length => {
            file.set_len(0).map_err(disk)?;
            Err(again(format!("more than the {length} bytes of the file came")))
        }
        _ => Ok(()),
    }
}

/// Where the part begins that a server sends: `bytes 3-6/7`.
fn first_byte(answer: &Response) -> Option<u64> {
    let range = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// An error with its causes: the outermost alone says only that a request failed.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = inner.source();
    }
    said
}
