//! An application with a bounded memory, behind a server's nginx: what a web server of the outage was.
//!
//! It is a process of its own, whose address space the kernel limits (`RLIMIT_AS`). Each request for its page
//! holds some megabytes for as long as the page takes. When the kernel refuses more it answers 500, and
//! forgets to free what it had: an error path that nobody ever tested. So it does not come back by itself.

use std::{
    env,
    hint::black_box,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{http, process::Process, topology::Host, wait::eventually};

/// Where nginx finds it, for `/shop`.
pub const SHOP_PORT: u16 = 9000;
/// Requests that it can work on at once; more wait for a worker.
const WORKERS: usize = 64;
const MEBIBYTE: usize = 1 << 20;
/// What a page takes: so much memory, in so many pieces, for so long.
const PIECES: usize = 4;
/// What pages are full of, as memory that is not written to takes none.
static INK: [u8; MEBIBYTE / 16] = [1; MEBIBYTE / 16];
const PAGE_TIME: Duration = Duration::from_millis(100);
const START: Duration = Duration::from_secs(10);

/// The shop on one server.
#[derive(Debug)]
pub struct Shop {
    process: Process,
}

impl Shop {
    /// Starts it on `host`: the program and its `arguments` end in [`serve`]. Waits until it answers; its
    /// log goes to `directory`.
    pub fn start(host: &Host, arguments: &[&str], directory: &Path) -> Result<Self> {
        let program = env::current_exe().context("find this executable")?;
        let mut command: Command = host.namespace.command(program);
        command.args(arguments).arg(&host.name);
        // One heap for all threads: each of its own would reserve addresses that nobody uses.
        command.env("MALLOC_ARENA_MAX", "1");
        let mut process = Process::start(&format!("shop-{}", host.name), command, directory)?;
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, SHOP_PORT));
        eventually(&format!("the shop on {} answers", host.name), START, || {
            ensure!(process.ended()?.is_none(), "it ended: {}", process.tail());
            let answer = host.namespace.run(|| http::get(server, "/ready"))?;
            ensure!(answer.status == 200, "status {}", answer.status);
            Ok(())
        })?;
        Ok(Self { process })
    }

    /// Its last words.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// How many pages it can make at once before memory runs out, of a limit in MiB.
#[must_use]
pub const fn pages_at_once(mebibytes: usize) -> usize {
    mebibytes / PIECES
}

/// Serves as `name` until the process is killed, with `mebibytes` for pages.
pub fn serve(name: &str, mebibytes: usize) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, SHOP_PORT)).context("listen")?;
    let (listener, name) = (Arc::new(listener), Arc::new(name.to_owned()));
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (listener, name) = (Arc::clone(&listener), Arc::clone(&name));
            let work = move || {
                while let Ok((stream, _)) = listener.accept() {
                    // nginx may hang up; the next request comes all the same.
                    let _ = answer(stream, &name);
                }
            };
            thread::Builder::new().stack_size(MEBIBYTE / 8).spawn(work).context("start a worker")
        })
        .collect::<Result<_>>()?;
    limit_memory(mebibytes)?;
    for worker in workers {
        let _ = worker.join();
    }
    Ok(())
}

/// From here on the kernel gives no more than so much beside what is taken now.
fn limit_memory(mebibytes: usize) -> Result<()> {
    let statistics =
        std::fs::read_to_string("/proc/self/statm").context("read /proc/self/statm")?;
    let pages = statistics.split(' ').next().context("no size")?.parse::<u64>()?;
    let taken = pages * u64::try_from(rustix::param::page_size())?;
    let limit = taken + u64::try_from(mebibytes * MEBIBYTE)?;
    setrlimit(Resource::As, Rlimit { current: Some(limit), maximum: Some(limit) })
        .context("limit the address space")
}

fn answer(stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut path, mut line) = (String::new(), String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        if path.is_empty() {
            line.split(' ').nth(1).unwrap_or("/").clone_into(&mut path);
        }
    }
    let (status, body) = match path.as_str() {
        "/ready" => ("200 OK", "ready\n".to_owned()),
        _ if page() => ("200 OK", format!("{name}\n")),
        _ => {
            eprintln!("out of memory");
            ("500 Internal Server Error", "out of memory\n".to_owned())
        }
    };
    write!(
        stream.get_mut(),
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Makes a page; says whether there was memory for it.
fn page() -> bool {
    let mut pieces: Vec<Vec<u8>> = Vec::with_capacity(PIECES);
    for _ in 0..PIECES {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(MEBIBYTE).is_err() {
            std::mem::forget(pieces);
            return false;
        }
        while piece.len() < MEBIBYTE {
            piece.extend_from_slice(&INK);
        }
        pieces.push(black_box(piece));
    }
    thread::sleep(PAGE_TIME);
    drop(black_box(pieces));
    true
}
