//! What is asked and what passes: `http`, `https`, `udp` and `grpc`.

use hyper::Method;
use toml::{Spanned, de::DeValue};

use super::super::{
    Section,
    values::{self, Problem},
};
use crate::{
    config::diagnostic::Sink,
    health::{GrpcProbe, HttpProbe, TlsCheck, UdpProbe},
};

pub(super) fn http(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> HttpProbe {
    let default = HttpProbe::default();
    let method = section.value_or(sink, "method", method, default.method);
    let mut optional = |key, convert: fn(&DeValue<'_>) -> Result<String, Problem>| {
        section.value(sink, key, convert).map(Spanned::into_inner)
    };
    let path = optional("path", path).unwrap_or(default.path);
    let host = optional("host", host);
    let expect_body = optional("expect_body", body);
    if method == Method::HEAD && expect_body.is_some() {
        let message = format!("expect_body {} can never match", section.subject());
        let remedy = "the answer to HEAD has no body: set method = \"GET\", or remove expect_body";
        sink.error(&section.span_of("expect_body"), message, remedy);
    }
    let expect_status =
        section.value_or(sink, "expect_status", values::statuses, default.expect_status);
    HttpProbe { method, path, host, expect_status, expect_body }
}

pub(super) fn udp(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>) -> Option<UdpProbe> {
    let send = bytes(sink, section, "send", "send_hex");
    let expect = bytes(sink, section, "expect", "expect_hex");
    if !section.has("send") && !section.has("send_hex") {
        section.require(sink, "send", "add send = \"…\" or send_hex = \"…\", which it answers");
    }
    Some(UdpProbe { send: send?, expect })
}

pub(super) fn grpc(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    host: Option<String>,
    tls: Option<TlsCheck>,
) -> GrpcProbe {
    let service = section.value(sink, "service", service).map(Spanned::into_inner);
    GrpcProbe { service, host, tls }
}

/// Bytes under one of two keys: as text, or as hexadecimal digits.
fn bytes(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    text: &str,
    hex: &str,
) -> Option<Vec<u8>> {
    let plain = section.value(sink, text, |value| {
        let bytes = values::string(value)?.as_bytes().to_vec();
        if bytes.is_empty() {
            Err(Problem::new("is empty", "write a byte at least"))
        } else {
            short(bytes)
        }
    });
    let coded = section.value(sink, hex, |value| from_hex(value).and_then(short));
    if section.has(text) && section.has(hex) {
        let message = format!("{hex} {} says again what {text} says", section.subject());
        sink.error(&section.span_of(hex), message, "keep one of the two");
    }
    plain.or(coded).map(Spanned::into_inner)
}

fn short(bytes: Vec<u8>) -> Result<Vec<u8>, Problem> {
    if bytes.len() <= UdpProbe::MOST {
        return Ok(bytes);
    }
    let remedy = format!("a probe's datagram has at most {}", UdpProbe::MOST);
    Err(Problem::new(format!("has {} bytes", bytes.len()), remedy))
}

fn from_hex(value: &DeValue<'_>) -> Result<Vec<u8>, Problem> {
    let text = values::string(value)?;
    let digits: Vec<char> = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let byte = |pair: &[char]| match pair {
        [high, low] => u8::try_from(high.to_digit(16)? << 4 | low.to_digit(16)?).ok(),
        _ => None,
    };
    let bytes = digits.chunks(2).map(byte).collect::<Option<Vec<_>>>();
    bytes.filter(|bytes| !bytes.is_empty()).ok_or_else(|| {
        let remedy = "write two hexadecimal digits a byte, like \"0a ff\"";
        Problem::new(format!("is {text:?}, not bytes in hexadecimal digits"), remedy)
    })
}

fn service(value: &DeValue<'_>) -> Result<String, Problem> {
    let name = values::string(value)?;
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        return Ok(name.to_owned());
    }
    let remedy = "write it like \"shop.Cart\", or remove it to ask about the server as a whole";
    Err(Problem::new(format!("is {name:?}, no name of a gRPC service"), remedy))
}

fn method(value: &DeValue<'_>) -> Result<Method, Problem> {
    let text = values::string(value)?;
    match Method::from_bytes(text.as_bytes()) {
        Ok(method) if text.bytes().all(|b| b.is_ascii_uppercase()) => Ok(method),
        _ => Err(Problem::new(
            format!("is {text:?}"),
            "use an HTTP method such as \"GET\" or \"HEAD\"",
        )),
    }
}

fn path(value: &DeValue<'_>) -> Result<String, Problem> {
    let path = values::string(value)?;
    if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(path.to_owned())
    } else {
        Err(Problem::new(
            format!("is {path:?}"),
            "start it with / and percent-encode spaces and characters that are not ASCII",
        ))
    }
}

fn host(value: &DeValue<'_>) -> Result<String, Problem> {
    let host = values::string(value)?;
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        Ok(host.to_owned())
    } else {
        Err(Problem::new(format!("is {host:?}"), "write a host name such as \"www.example.org\""))
    }
}

fn body(value: &DeValue<'_>) -> Result<String, Problem> {
    let body = values::string(value)?;
    if body.is_empty() {
        return Err(Problem::new("is empty, which every answer contains", "remove it"));
    }
    Ok(body.to_owned())
}
