//! Agents on the loopback.

use std::sync::{Arc, Mutex};

use tokio::{io::AsyncWriteExt as _, net::TcpListener, task::JoinHandle};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// Says the same line to everybody, until it is told another; an empty one is no answer.
struct Agent {
    address: SocketAddr,
    line: Arc<Mutex<&'static str>>,
    task: JoinHandle<()>,
}

impl Agent {
    async fn start(line: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, line) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(line)));
        let says = Arc::clone(&line);
        let task = tokio::spawn(async move {
            let mut mute = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let line = *says.lock().unwrap();
                let _ = stream.write_all(line.as_bytes()).await;
                if line.is_empty() {
                    mute.push(stream);
                }
            }
        });
        Self { address, line, task }
    }

    fn say(&self, line: &'static str) {
        *self.line.lock().unwrap() = line;
    }

    fn spec(&self, keep: Duration) -> AgentSpec {
        let (interval, timeout) = (Duration::from_millis(20), Duration::from_millis(200));
        AgentSpec { target: self.address, check: AgentCheck { port: 0, interval, timeout, keep } }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn next(changes: &mut mpsc::Receiver<AgentChange<&'static str>>) -> String {
    let change = timeout(PATIENCE, changes.recv()).await.expect("a change in time").unwrap();
    change.state.to_string()
}

#[tokio::test]
async fn each_line_is_news_once_and_silence_is_forgotten() {
    let agent = Agent::start("50%\n").await;
    let (sender, mut changes) = mpsc::channel(16);
    let mut agents = Agents::new(sender);
    agents.set([("web-01", agent.spec(Duration::from_millis(500)))]);
    assert_eq!(next(&mut changes).await, "50%");
    // The same again is none: what comes next is what is said next.
    sleep(Duration::from_millis(100)).await;
    agent.say("drain #deploy\r\nmore lines");
    assert_eq!(next(&mut changes).await, "drain (deploy)");
    agent.say("what?\n");
    let confused = next(&mut changes).await;
    assert!(
        confused.starts_with("drain (deploy); silent since: its line \"what?\" has the unknown")
    );
    // Its last word stands for a while, then is forgotten.
    let forgotten = next(&mut changes).await;
    assert!(forgotten.starts_with("silent: its line"), "{forgotten}");
    agent.say("up");
    assert_eq!(next(&mut changes).await, "ready");
}

#[tokio::test]
async fn a_word_stands_while_its_time_runs() {
    let agent = Agent::start("maint\n").await;
    let (sender, mut changes) = mpsc::channel(16);
    let mut agents = Agents::new(sender);
    agents.set([("web-01", agent.spec(Duration::from_hours(1)))]);
    assert_eq!(next(&mut changes).await, "maint");
    agent.say("");
    let silent = next(&mut changes).await;
    assert_eq!(silent, "maint; silent since: it did not answer within 200ms");
    let more = timeout(Duration::from_millis(300), changes.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn bad_lines_and_closed_ports_have_their_reason() {
    let agent = Agent::start("").await;
    let spec = agent.spec(Duration::from_secs(1));
    for (line, expected) in [
        ("\n", "says nothing"),
        ("50", "unknown word \"50\""),
        ("\u{fffd}\n", "unknown word"),
        ("", "did not answer within"),
    ] {
        agent.say(line);
        let error = ask(spec).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    agent.say(Box::leak("up ".repeat(200).into_boxed_str()));
    assert!(matches!(ask(spec).await, Err(Silent::TooLong)));
    let closed = crate::health::testing::refused().await;
    let error = ask(AgentSpec { target: closed, ..spec }).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot connect: ") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn who_is_not_wanted_is_asked_no_more() {
    let agent = Agent::start("up\n").await;
    let (sender, mut changes) = mpsc::channel(16);
    let mut agents = Agents::new(sender);
    agents.set([("web-01", agent.spec(PATIENCE))]);
    assert_eq!(next(&mut changes).await, "ready");
    agents.set([]);
    agent.say("down\n");
    let more = timeout(Duration::from_millis(200), changes.recv()).await;
    assert!(more.is_err(), "{more:?}");
    // Wanted again, it begins anew.
    agents.set([("web-01", agent.spec(PATIENCE))]);
    assert_eq!(next(&mut changes).await, "down");
}
