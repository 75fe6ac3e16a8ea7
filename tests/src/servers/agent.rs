//! An agent on a backend: says one line to everybody who connects.

use std::{
    io::Write as _,
    net::TcpListener,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};
use rustix::net::shutdown;

use super::AGENT_PORT;
use crate::topology::Host;

/// An agent on [`AGENT_PORT`]. Dropping it closes the port.
#[derive(Debug)]
pub struct Agent {
    line: Arc<Mutex<String>>,
    listener: TcpListener,
    server: Option<JoinHandle<Result<()>>>,
}

impl Agent {
    /// Starts it on `host`, over both families.
    pub fn start(host: &Host, line: &str) -> Result<Self> {
        let listener = host.namespace.run(|| {
            TcpListener::bind(("::", AGENT_PORT))
                .with_context(|| format!("listen on port {AGENT_PORT} of {}", host.name))
        })?;
        let line = Arc::new(Mutex::new(line.to_owned()));
        let (accepting, says) = (listener.try_clone()?, Arc::clone(&line));
        let server = host.namespace.spawn(move || {
            while let Ok((mut stream, _)) = accepting.accept() {
                let line = says.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Whoever asks may go away whenever it likes.
                let _ = writeln!(stream, "{line}");
            }
            Ok(())
        })?;
        Ok(Self { line, listener, server: Some(server) })
    }

    /// From now on it says this.
    pub fn say(&self, line: &str) {
        line.clone_into(&mut self.line.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Wakes the server out of its call; it sees that the listener is done.
        let _ = shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}
