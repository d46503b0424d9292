//! A hub of one file, on this machine, for tests.

use crate::digest::hex;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Serves `model.safetensors` under its digest, whatever the body really is.
pub(crate) struct Mock {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Mock {
    /// `body`: what the file is; `instead`: what is sent where it is asked for.
    pub(crate) fn new(body: &'static [u8], instead: Option<&'static [u8]>) -> Self {
        let sent = instead.unwrap_or(body);
        Self::start(body, sent, sent.len())
    }

    /// Declares the length of `body`, and sends less.
    pub(crate) fn declaring(body: &'static [u8], sent: &'static [u8]) -> Self {
        Self::start(body, sent, body.len())
    }

    fn start(body: &'static [u8], sent: &'static [u8], length: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                answer(stream, body, sent, length).ok();
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(mut stream: TcpStream, body: &[u8], sent: &[u8], length: usize) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The headers end in an empty line.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (commit, etag) = ("0".repeat(40), hex(&Sha256::digest(body)));
    let common = format!("X-Repo-Commit: {commit}\r\nETag: \"{etag}\"\r\nConnection: close\r\n");
    if !request.contains("/model.safetensors ") {
        write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nContent-Length: 0\r\n{common}\r\n"
        )
    } else if request.starts_with("HEAD") {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{common}\r\n", body.len())
    } else {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{common}\r\n")?;
        stream.write_all(sent)
    }
}
