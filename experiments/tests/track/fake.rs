//! A server that speaks as much of MLflow as a run asks, and fails as it is told.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    /// Answers.
    Well,
    /// Answers with 500.
    Ill,
    /// Takes the request and says nothing.
    Dumb,
    /// Breaks off in the middle of an answer.
    Torn,
}

/// What it has heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// Paths and bodies, in order.
    pub requests: Vec<(String, Value)>,
    /// What came as proof of who asks.
    pub proofs: Vec<String>,
    /// Runs that it made.
    pub runs: usize,
}

pub struct Fake {
    pub port: u16,
    pub mood: Arc<Mutex<Mood>>,
    pub heard: Arc<Mutex<Heard>>,
    over: Arc<AtomicBool>,
}

impl Fake {
    pub fn new(mood: Mood) -> Self {
        Self::at(0, mood)
    }

    /// At a port, where one was before.
    pub fn at(port: u16, mood: Mood) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mood, heard) = (Arc::new(Mutex::new(mood)), Arc::new(Mutex::new(Heard::default())));
        let over = Arc::new(AtomicBool::new(false));
        let (feels, hears, ends) = (Arc::clone(&mood), Arc::clone(&heard), Arc::clone(&over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let (feels, hears) = (Arc::clone(&feels), Arc::clone(&hears));
                std::thread::spawn(move || answer(stream.unwrap(), &feels, &hears));
            }
        });
        Self { port, mood, heard, over }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bodies that came to a path.
    pub fn said(&self, path: &str) -> Vec<Value> {
        let heard = self.heard.lock().unwrap();
        heard.requests.iter().filter(|(at, _)| at.ends_with(path)).map(|(_, body)| body.clone()).collect()
    }

    /// The points of a metric.
    pub fn points(&self, name: &str) -> Vec<(u64, f64)> {
        let batches = self.said("runs/log-batch");
        let entries = batches.iter().filter_map(|batch| batch["metrics"].as_array()).flatten();
        let named = entries.filter(|entry| entry["key"] == name);
        named.map(|entry| (entry["step"].as_u64().unwrap(), entry["value"].as_f64().unwrap())).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

fn answer(stream: TcpStream, mood: &Mutex<Mood>, heard: &Mutex<Heard>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let (mut first, mut length) = (String::new(), 0);
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "authorization" => heard.lock().unwrap().proofs.push(value.to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mood = *mood.lock().unwrap();
        let text = match mood {
            Mood::Dumb => {
                std::thread::sleep(Duration::from_mins(2));
                return;
            }
            Mood::Ill => r#"{"error_code":"INTERNAL_ERROR","message":"out of order"}"#.to_owned(),
            Mood::Well | Mood::Torn => {
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                reply(&path, body, &mut heard.lock().unwrap()).to_string()
            }
        };
        let status = if mood == Mood::Ill { "500 Internal Server Error" } else { "200 OK" };
        let (length, end) = (text.len(), if mood == Mood::Torn { text.len() / 2 } else { text.len() });
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        if stream.write_all(format!("{head}{}", &text[..end]).as_bytes()).is_err() || mood == Mood::Torn {
            return;
        }
    }
}

fn reply(path: &str, body: Value, heard: &mut Heard) -> Value {
    let name = path.split('?').next().unwrap();
    let answer = match name.rsplit("mlflow/").next().unwrap() {
        "experiments/get-by-name" => json!({ "experiment": { "experiment_id": "7" } }),
        "runs/search" if heard.runs > 0 => json!({ "runs": [{ "info": { "run_id": "run-1" } }] }),
        "runs/create" => {
            heard.runs += 1;
            json!({ "run": { "info": { "run_id": format!("run-{}", heard.runs) } } })
        }
        _ => json!({}),
    };
    heard.requests.push((name.to_owned(), body));
    answer
}
