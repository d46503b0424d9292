//! Requests and answers as they go over the wire.

use super::Request;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::time::Duration;

/// An answer, and what is wrong with it.
pub(super) struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// What is announced, whatever is sent.
    pub length: usize,
    pub after: Duration,
}

impl Reply {
    pub fn json(status: u16, value: &Value) -> Self {
        let body = value.to_string().into_bytes();
        Self { status, headers: BTreeMap::new(), length: body.len(), body, after: Duration::ZERO }
    }

    pub fn missing(code: &str, message: &str) -> Self {
        let say = [("X-Error-Code", code), ("X-Error-Message", message)];
        let headers = say.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { headers, ..Self::json(404, &json!({ "error": message })) }
    }

    /// Sends it; the connection may go on, unless less is sent than was announced.
    pub fn send(&self, stream: &mut impl Write, with_body: bool) -> std::io::Result<bool> {
        write!(stream, "HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", self.status, self.length)?;
        for (name, value) in &self.headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        if with_body {
            stream.write_all(&self.body)?;
        }
        Ok(!with_body || self.body.len() == self.length)
    }
}

/// The next request of a connection.
pub(super) fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (method, path) =
        (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, headers, body }))
}

/// A part of a path, as it was before it was escaped.
pub(super) fn unescaped(part: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
