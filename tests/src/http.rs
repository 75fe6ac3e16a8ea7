//! A small HTTP/1.1 client: enough for load and for single requests, and much faster than
//! starting curl for each. It understands `Content-Length` bodies and bodies ended by the
//! connection's end; our servers send nothing else.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// The longest any single step may take. A SYN that is lost costs 1 s, then 2 s, then 4 s.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text, without white space around it.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

/// An open connection to a web server.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    /// Connects within [`DEADLINE`], which also bounds every later read and write.
    pub fn open(server: SocketAddr) -> Result<Self> {
        Self::open_within(server, DEADLINE)
    }

    /// The same, where the handshake has to be over within `limit`.
    pub fn open_within(server: SocketAddr, limit: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&server, limit).context("connect")?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host: server })
    }

    /// This end's address and port.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(self.stream.get_ref().local_addr()?)
    }

    /// Asks for `path` and keeps the connection open.
    pub fn get(&mut self, path: &str) -> Result<Response> {
        self.request(path, "keep-alive")?;
        let (status, length) = self.head()?;
        let length = length.context("the answer has no length, and the connection is to stay")?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("read the body")?;
        Ok(Response { status, body })
    }

    /// Asks for `path`, reads until the server closes, and closes too. The server closes first,
    /// so that the client's port is free again at once.
    pub fn get_and_close(mut self, path: &str) -> Result<Response> {
        self.request(path, "close")?;
        let (status, length) = self.head()?;
        let mut body = Vec::new();
        self.stream.read_to_end(&mut body).context("read the body")?;
        ensure!(
            length.is_none_or(|length| length == body.len()),
            "the body has {} bytes, and {length:?} were announced",
            body.len()
        );
        Ok(Response { status, body })
    }

    /// Asks for `path` and returns its announced length; the body is read with
    /// [`Connection::read`].
    pub fn begin(&mut self, path: &str) -> Result<usize> {
        self.request(path, "close")?;
        let (status, length) = self.head()?;
        ensure!(status == 200, "{path}: status {status}");
        length.with_context(|| format!("{path}: no Content-Length"))
    }

    /// Reads more of a body begun by [`Connection::begin`]; 0 is its end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.stream.read(buffer).context("read the body")
    }

    fn request(&mut self, path: &str, connection: &str) -> Result<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: {connection}\r\n\r\n",
            self.host
        );
        self.stream.get_mut().write_all(request.as_bytes()).context("send the request")
    }

    fn head(&mut self) -> Result<(u16, Option<usize>)> {
        let mut line = String::new();
        self.line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("not an HTTP answer: {line:?}"))?;
        let mut length = None;
        loop {
            self.line(&mut line)?;
            if line.is_empty() {
                return Ok((status, length));
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse().context("read Content-Length")?);
            }
        }
    }

    fn line(&mut self, line: &mut String) -> Result<()> {
        line.clear();
        if self.stream.read_line(line).context("read the answer's head")? == 0 {
            bail!("the server closed the connection without an answer");
        }
        line.truncate(line.trim_end().len());
        Ok(())
    }
}

/// One request over a connection of its own.
pub fn get(server: SocketAddr, path: &str) -> Result<Response> {
    let connection = Connection::open(server)?;
    let local = connection.local()?;
    connection.get_and_close(path).with_context(|| format!("from {local}"))
}
