//! Long downloads that are read slowly, and go on until they are told to come to their end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use evenkeel_tests::{
    http::Connection,
    netns::Namespace,
    wait::{PATIENCE, eventually},
};

/// Bytes that are read at once, and the rest after it.
const BITE: usize = 16 << 10;
const REST: Duration = Duration::from_millis(50);

/// Downloads under way.
pub struct Downloads {
    finish: Arc<AtomicBool>,
    under_way: Vec<UnderWay>,
}

struct UnderWay {
    read: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Downloads {
    /// Begins `count` downloads of `/files/big`, each over a connection of its own.
    pub fn begin(client: &Namespace, server: SocketAddr, count: usize) -> Result<Self> {
        let finish = Arc::new(AtomicBool::new(false));
        let begin = |_| {
            let read = Arc::new(AtomicU64::new(0));
            let (told, finish) = (Arc::clone(&read), Arc::clone(&finish));
            let thread = client.spawn(move || download(server, &told, &finish))?;
            Ok(UnderWay { read, thread })
        };
        let downloads = Self { under_way: (0..count).map(begin).collect::<Result<_>>()?, finish };
        downloads.proceed()?;
        Ok(downloads)
    }

    /// Waits until each that has not broken has read more than now.
    pub fn proceed(&self) -> Result<()> {
        let more = u64::try_from(4 * BITE)?;
        let read = |one: &UnderWay| one.read.load(Ordering::Relaxed);
        let before: Vec<_> = self.under_way.iter().map(read).collect();
        eventually("every download has gone on", PATIENCE, || {
            let stuck = self.under_way.iter().zip(&before);
            let stuck = stuck
                .filter(|(one, before)| !one.thread.is_finished() && read(one) < **before + more);
            let stuck = stuck.count();
            ensure!(stuck == 0, "{stuck} of {} do not", self.under_way.len());
            Ok(())
        })
    }

    /// Reads all of them to their end; the errors of those that broke.
    pub fn finish(self) -> Result<Vec<String>> {
        self.finish.store(true, Ordering::Relaxed);
        let mut broken = Vec::new();
        for one in self.under_way {
            let ended = one.thread.join().map_err(|_| anyhow!("a download panicked"))?;
            broken.extend(ended.err().map(|error| format!("{error:#}")));
        }
        Ok(broken)
    }
}

fn download(server: SocketAddr, told: &AtomicU64, finish: &AtomicBool) -> Result<()> {
    let mut connection = Connection::open(server)?;
    let local = connection.local()?;
    let length = connection.begin("/files/big")?;
    let (mut buffer, mut sum) = (vec![0; BITE], 0);
    loop {
        let read = connection.read(&mut buffer);
        let read = read.with_context(|| format!("from {local}, after {sum} bytes"))?;
        if read == 0 {
            break;
        }
        sum += read;
        told.store(u64::try_from(sum)?, Ordering::Relaxed);
        if !finish.load(Ordering::Relaxed) {
            thread::sleep(REST);
        }
    }
    ensure!(sum == length, "from {local}: {sum} of {length} bytes came");
    Ok(())
}
