//! Questions to the kernel over one netlink socket, each with a deadline.
//!
//! It must not know what is asked: routes, links and neighbours word their own messages. Events
//! come over a socket of their own (see `watch`), so that none is taken for an answer.

use std::{io, time::Duration};

use futures_util::StreamExt;
use rtnetlink::{
    Handle, new_connection,
    packet_core::{
        NLM_F_ACK, NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
};
use tokio::{task::AbortHandle, time::timeout};

/// The kernel answers in microseconds. An answer that is not there by now was not understood.
const PATIENCE: Duration = Duration::from_millis(500);

/// An open socket for questions. Dropping it closes the socket.
pub(super) struct Requests {
    handle: Handle,
    connection: AbortHandle,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The kernel refused it.
    #[error("{0}")]
    Refused(io::Error),
    /// No answer, or none that can be read.
    #[error("no readable answer")]
    Unanswered,
    /// The socket is gone.
    #[error("the netlink socket closed")]
    Closed,
}

impl RequestError {
    /// The kernel's error number, when it refused.
    pub(super) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => error.raw_os_error(),
            Self::Unanswered | Self::Closed => None,
        }
    }
}

impl Requests {
    /// Opens a socket in the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let (mut connection, handle, _events) = new_connection()?;
        // So that every answer has an end, and a stream that stops short is a socket that closed.
        connection.set_forward_done(true);
        connection.set_forward_ack(true);
        Ok(Self { handle, connection: tokio::spawn(connection).abort_handle() })
    }

    /// Asks about one thing and answers the first message that comes back, if any.
    pub(super) async fn one(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Option<RouteNetlinkMessage>, RequestError> {
        self.ask(message, flags).await.map(|answers| answers.into_iter().next())
    }

    /// Asks for everything of a kind.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        self.ask(message, NLM_F_DUMP).await
    }

    async fn ask(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, RequestError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut stream = self.handle.clone().request(request).map_err(|_| RequestError::Closed)?;
        let mut answers = Vec::new();
        loop {
            // The deadline is for each message: a long dump is as good as a short one.
            let Ok(next) = timeout(PATIENCE, stream.next()).await else {
                return Err(RequestError::Unanswered);
            };
            let Some(message) = next else {
                return Err(RequestError::Closed);
            };
            let more = (message.header.flags & NLM_F_MULTIPART) | (flags & NLM_F_ACK) != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => {
                    answers.push(answer);
                    if !more {
                        return Ok(answers);
                    }
                }
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(RequestError::Refused(error.to_io())),
                _ => return Err(RequestError::Unanswered),
            }
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_closes_is_told_from_an_empty_answer() {
        let requests = Requests::open().unwrap();
        let question = || RouteNetlinkMessage::GetLink(LinkMessage::default());
        assert!(!requests.dump(question()).await.unwrap().is_empty());
        requests.connection.abort();
        assert!(matches!(requests.dump(question()).await, Err(RequestError::Closed)));
    }
}
