//! Kubernetes' API as far as `EndpointSlices` need it, played back: what `recorded/` has, with the changes that a test
//! makes. Plain HTTP/1.1: a list, and watches that stream events.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use evenkeel_tests::netns::Namespace;
use serde_json::{Value, json};

const PAUSE: Duration = Duration::from_millis(50);

/// What is recorded.
fn recorded(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discovery/recorded").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

struct State {
    /// What a list answers; `None`: the server is out of order.
    list: Option<Value>,
    /// Events of watches since the last list was made.
    events: Vec<Value>,
    /// Rises when every watch ends.
    epoch: u64,
    /// What was asked: paths with their queries, each with its `Authorization`.
    asked: Vec<(String, String)>,
    stopped: bool,
}

/// The API, in a namespace. Dropping it ends it.
pub struct Api {
    state: Arc<(Mutex<State>, Condvar)>,
    address: SocketAddr,
}

impl Api {
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let listener = namespace.run(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let state = State {
            list: Some(recorded("list.json")),
            events: Vec::new(),
            epoch: 0,
            asked: Vec::new(),
            stopped: false,
        };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            while !shared.0.lock().unwrap().stopped {
                if let Ok((stream, _)) = listener.accept() {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || drop(converse(&stream, &shared)));
                } else {
                    thread::sleep(PAUSE);
                }
            }
        });
        Ok(Self { state, address })
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "evenkeel", "user": { "token": "secret" } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "evenkeel" } }],
        });
        fs::write(&path, text.to_string())?;
        Ok(path)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
    }

    /// Has the slice say this of its endpoints, by their addresses, and watchers told.
    pub fn say(&self, conditions: &BTreeMap<&str, Value>) {
        self.change(|state| {
            let slice = state.slice(conditions);
            state.events.push(json!({ "type": "MODIFIED", "object": slice }));
        });
    }

    /// The same, but that nobody who watches is told, and that their place in history is forgotten: 410 Gone.
    pub fn forget(&self, conditions: &BTreeMap<&str, Value>) {
        self.change(|state| {
            state.slice(conditions);
            state.events.push(recorded("gone.json"));
        });
    }

    /// Deletes the slice.
    pub fn delete(&self) {
        self.change(|state| {
            let list = state.list.as_mut().unwrap();
            let slice = list["items"].as_array_mut().unwrap().remove(0);
            state.events.push(json!({ "type": "DELETED", "object": slice }));
        });
    }

    /// Ends every connection, and answers 503 until it is brought back with the recorded list.
    pub fn fail(&self) {
        self.change(|state| {
            state.list = None;
            state.epoch += 1;
        });
    }

    pub fn recover(&self) {
        self.change(|state| state.list = Some(recorded("list.json")));
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.state.0.lock().unwrap().asked.clone()
    }
}

impl State {
    fn slice(&mut self, conditions: &BTreeMap<&str, Value>) -> Value {
        let list = self.list.as_mut().unwrap();
        let version: u64 = list["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        let version = (version + 1).to_string();
        list["metadata"]["resourceVersion"] = json!(version);
        let slice = &mut list["items"][0];
        slice["metadata"]["resourceVersion"] = json!(version);
        let pattern = slice["endpoints"][0].clone();
        let endpoints = conditions.iter().map(|(address, conditions)| {
            let mut endpoint = pattern.clone();
            endpoint["addresses"] = json!([address]);
            endpoint["conditions"] = conditions.clone();
            endpoint["targetRef"]["name"] =
                json!(format!("web-6c8b4f9d7-{}", address.replace('.', "-")));
            endpoint
        });
        slice["endpoints"] = endpoints.collect();
        slice.clone()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.change(|state| {
            state.stopped = true;
            state.epoch += 1;
        });
    }
}

/// Answers the requests of one connection.
fn converse(stream: &TcpStream, (state, changed): &(Mutex<State>, Condvar)) -> Result<()> {
    stream.set_nonblocking(false)?;
    let (mut reader, mut writer) = (BufReader::new(stream.try_clone()?), stream.try_clone()?);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let path = lines[0].split(' ').nth(1).context("no path")?.to_owned();
        let bearer = lines.iter().find_map(|line| line.strip_prefix("authorization: "));
        let mut shared = state.lock().unwrap();
        shared.asked.push((path.clone(), bearer.unwrap_or_default().to_owned()));
        let Some(list) = shared.list.clone() else {
            drop(shared);
            let body = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"the server is currently unable to handle the request","reason":"ServiceUnavailable","code":503}"#;
            answer(&mut writer, "503 Service Unavailable", body)?;
            continue;
        };
        if !path.contains("watch=") {
            // Whoever lists anew has missed nothing.
            shared.events.clear();
            drop(shared);
            answer(&mut writer, "200 OK", &list.to_string())?;
            continue;
        }
        let epoch = shared.epoch;
        let mut told = 0;
        writer.write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        loop {
            if shared.epoch != epoch {
                return Ok(stream.shutdown(std::net::Shutdown::Both)?);
            }
            let events = shared.events.get(told..).unwrap_or_default().to_vec();
            told += events.len();
            drop(shared);
            for event in events {
                let line = format!("{event}\n");
                write!(writer, "{:x}\r\n{line}\r\n", line.len())?;
            }
            shared = changed.wait_timeout(state.lock().unwrap(), PAUSE).unwrap().0;
            told = told.min(shared.events.len());
        }
    }
}

fn answer(writer: &mut TcpStream, status: &str, body: &str) -> Result<()> {
    Ok(write!(
        writer,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?)
}
