//! Server-sent events as the command line reads them: what a message is, and where it ends.

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::AbortHandle;

use super::ClientError;

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it is; empty where it does not say.
    pub event: String,
    /// Its id; empty where it has none.
    pub id: String,
    /// Its lines of data.
    pub data: String,
}

/// An answer that goes on. Dropping it hangs up.
pub struct Stream {
    body: Incoming,
    connection: AbortHandle,
    read: Vec<u8>,
}

impl Stream {
    pub(super) fn new(body: Incoming, connection: AbortHandle) -> Self {
        Self { body, connection, read: Vec::new() }
    }

    /// The next message; `None`: the daemon has ended.
    ///
    /// # Errors
    ///
    /// [`ClientError::Garbled`] where the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Message>, ClientError> {
        loop {
            while let Some(end) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.read.drain(..end + 2).collect();
                // Without data it is a comment that keeps the connection alive.
                if let Some(message) = message(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(message));
                }
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|error| ClientError::Garbled(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn message(block: &str) -> Option<Message> {
    let mut message = Message::default();
    let mut has_data = false;
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut message.event),
            "id" => value.clone_into(&mut message.id),
            "data" => {
                if has_data {
                    message.data.push('\n');
                }
                message.data.push_str(value);
                has_data = true;
            }
            // A comment, or what we have no use for.
            _ => {}
        }
    }
    has_data.then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_the_specification_says() {
        assert_eq!(message(": keep-alive\n\n"), None);
        assert_eq!(message("id: 7\n\n"), None);
        let of = |event: &str, id: &str, data: &str| {
            Some(Message { event: event.into(), id: id.into(), data: data.into() })
        };
        assert_eq!(
            message("event: event\nid: 7\ndata: {\"a\": 1}\n\n"),
            of("event", "7", "{\"a\": 1}")
        );
        assert_eq!(message("data:one\ndata: two\n\n"), of("", "", "one\ntwo"));
        assert_eq!(message("data\n\n"), of("", "", ""));
    }
}
