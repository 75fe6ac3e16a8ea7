//! `[http]`.

use std::net::SocketAddr;

use toml::{Spanned, de::DeValue};

use super::{
    Form, Is, Section, Shape, key,
    values::{self, Problem},
};
use crate::config::{Http, diagnostic::Sink};

pub(super) const HTTP: Shape = Shape {
    header: "[http]",
    keys: &[key(
        "listen",
        Form::Words("address with port, or `\"off\"`"),
        Is("\"127.0.0.1:9650\""),
        "where the listener is. It reads only, and asks nobody for a password: `check` warns of another address than the loopback",
    )],
    later: &[],
};

/// `[http]` of the document, or its defaults.
pub(super) fn decode(sink: &mut Sink<'_, '_>, root: &Section<'_, '_>) -> Http {
    let mut http = Http::default();
    let Some(section) = root.table(sink, "http", &HTTP, None) else { return http };
    let Some(listen) = section.value(sink, "listen", listen) else { return http };
    if let Some(address) = listen.get_ref()
        && !address.ip().is_loopback()
    {
        let message = format!(
            "listen in [http] is {address}, so whoever reaches it reads metrics, services and \
             backends, unasked and in clear text"
        );
        let remedy = "listen on 127.0.0.1, or let only those reach it who may read";
        sink.warning(&listen.span(), message, remedy);
    }
    http.listen = Spanned::into_inner(listen);
    http
}

fn listen(value: &DeValue<'_>) -> Result<Option<SocketAddr>, Problem> {
    if values::string(value).is_ok_and(|text| text == Http::OFF) {
        return Ok(None);
    }
    let text = values::string(value)?;
    let wrong = || {
        let says = format!("is {text:?}, not an address with a port");
        Problem::new(says, "write it like \"127.0.0.1:9650\", or \"off\"")
    };
    let address: SocketAddr = text.parse().map_err(|_| wrong())?;
    if address.port() == 0 { Err(wrong()) } else { Ok(Some(address)) }
}
