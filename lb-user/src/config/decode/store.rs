//! `[store]`.

use std::{path::Path, time::Duration};

use hyper::Uri;
use toml::{Spanned, de::DeValue};

use super::{
    Form, Is, Means, Section, Shape, file_of, health, key, names,
    values::{self, Problem},
};
use crate::config::{
    Store, StoreKind,
    diagnostic::Sink,
    store::{Identity, Login},
};

pub(super) const STORE: Shape = Shape {
    header: "[store]",
    keys: &[
        key(
            "kind",
            Form::Choice(names::<StoreKind>),
            Is("\"file\""),
            "what keeps the services: this file alone, or an etcd, whose services this file then has a copy of",
        ),
        key(
            "endpoints",
            Form::Words("list of addresses, `http://` or `https://`"),
            Means("none, which is an error for `etcd`"),
            "the members of etcd; one that does not answer is left for the next",
        ),
        key(
            "prefix",
            Form::Words("path, from `/` on"),
            Is("\"/evenkeel\""),
            "what the keys begin with: edges with the same one share their services",
        ),
        key(
            "edge",
            Form::Words("name"),
            Means("the host's name"),
            "what this edge is called among the others; each has another name",
        ),
        key(
            "ca_file",
            Form::Words("file of certificates in PEM"),
            Means("the system's authorities"),
            "whom to trust instead, for `https://`",
        ),
        key(
            "certificate_file",
            Form::Words("file of certificates in PEM"),
            Means("no certificate"),
            "the certificate to show, with `key_file`",
        ),
        key(
            "key_file",
            Form::Words("file of a key in PEM"),
            Means("no certificate"),
            "the key of `certificate_file`",
        ),
        key(
            "user",
            Form::Words("name"),
            Means("nobody"),
            "who to be in etcd, with `password_file`",
        ),
        key(
            "password_file",
            Form::Words("file name"),
            Means("nobody"),
            "a file with the password of `user`, read anew for each connection",
        ),
        key(
            "timeout",
            Form::Duration(SHORTEST, LONGEST),
            Is("\"5s\""),
            "how long a request to etcd may take, and how long a change waits for the other edges",
        ),
    ],
    later: &[],
};
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// `[store]` of the document; `None`: the file alone. Files are looked for from `folder`; where there is none,
/// they are not looked at.
pub(super) fn decode(
    sink: &mut Sink<'_, '_>,
    root: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<Store> {
    let section = root.table(sink, "store", &STORE, None)?;
    let kind = section.value_or(sink, "kind", values::choice, StoreKind::default());
    if kind == StoreKind::File {
        for name in STORE.names().filter(|name| *name != "kind" && section.has(name)) {
            let message = format!("{name} in [store] means nothing to the kind \"file\"");
            sink.error(&section.span_of(name), message, "remove it, or write kind = \"etcd\"");
        }
        return None;
    }
    let example = "add endpoints = [\"http://127.0.0.1:2379\"]";
    let endpoints = section.list(sink, "endpoints", endpoint).unwrap_or_default();
    if section.require(sink, "endpoints", example) && section.is_empty_list("endpoints") {
        sink.error(&section.span_of("endpoints"), "endpoints in [store] is empty", example);
    }
    let endpoints: Vec<_> = endpoints.into_iter().map(Spanned::into_inner).collect();
    let tls = endpoints.iter().filter(|endpoint| endpoint.starts_with("https://")).count();
    if tls > 0 && tls < endpoints.len() {
        let message = "endpoints in [store] are partly https:// and partly http://";
        let remedy = "use one of the two for all members";
        sink.error(&section.span_of("endpoints"), message, remedy);
    }
    let ca_file = health::ca_file(sink, &section, folder);
    let remedy = "name a file in PEM";
    let certificate_file = file_of(sink, &section, "certificate_file", folder, remedy);
    let key_file = file_of(sink, &section, "key_file", folder, remedy);
    for name in ["ca_file", "certificate_file", "key_file"] {
        if tls == 0 && !endpoints.is_empty() && section.has(name) {
            let message = format!("{name} in [store] means nothing to endpoints of http://");
            sink.error(&section.span_of(name), message, "write https://, or remove it");
        }
    }
    both(sink, &section, "certificate_file", "key_file");
    both(sink, &section, "user", "password_file");
    let user = section.value(sink, "user", values::string_of).map(Spanned::into_inner);
    let remedy = "make it, with the password alone in it, or correct the path";
    let password_file = file_of(sink, &section, "password_file", folder, remedy);
    if password_file.is_some() && tls == 0 {
        let message = "the password of [store] goes over the network in clear text";
        sink.warning(&section.span_of("password_file"), message, "use endpoints of https://");
    }
    let timeout = |v: &DeValue<'_>| values::duration(v, SHORTEST, LONGEST);
    Some(Store {
        kind,
        endpoints,
        prefix: section.value_or(sink, "prefix", prefix, Store::PREFIX.to_owned()),
        edge: section.value(sink, "edge", values::name).map(Spanned::into_inner),
        ca_file,
        identity: certificate_file
            .zip(key_file)
            .map(|(certificate_file, key_file)| Identity { certificate_file, key_file }),
        login: user.zip(password_file).map(|(user, password_file)| Login { user, password_file }),
        timeout: section.value_or(sink, "timeout", timeout, Store::TIMEOUT),
    })
}

/// Reports one of two keys that stands without the other.
fn both(sink: &mut Sink<'_, '_>, section: &Section<'_, '_>, one: &str, other: &str) {
    for (one, other) in [(one, other), (other, one)] {
        if section.has(one) && !section.has(other) {
            let message = format!("{one} in [store] needs {other}");
            sink.error(&section.span_of(one), message, format!("add {other}, or remove {one}"));
        }
    }
}

fn endpoint(value: &DeValue<'_>) -> Result<String, Problem> {
    let text = values::string(value)?;
    let known: Option<Uri> = text.parse().ok();
    let fits = known.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.port().is_some()
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    });
    if fits {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    let remedy = "write it like \"https://10.0.0.1:2379\"";
    Err(Problem::new(format!("is {text:?}, no address of an etcd member"), remedy))
}

fn prefix(value: &DeValue<'_>) -> Result<String, Problem> {
    let text = values::string(value)?;
    let plain = text.trim_end_matches('/');
    let fits = plain.starts_with('/')
        && !plain.contains("//")
        && plain.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        return Ok(plain.to_owned());
    }
    let says = format!("is {text:?}, which cannot begin keys");
    Err(Problem::new(says, "write a path like \"/evenkeel\""))
}
