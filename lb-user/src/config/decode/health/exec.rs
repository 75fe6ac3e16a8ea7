//! `command` and `user` of a probe that runs a program.

use std::{fs::Metadata, ops::Range, os::unix::fs::MetadataExt as _, path::Path};

use nix::unistd::User;
use toml::{Spanned, de::DeValue};

use super::super::{
    Section,
    values::{self, Problem},
};
use crate::{config::diagnostic::Sink, health::ExecProbe};

pub(in super::super) fn decode(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    folder: Option<&Path>,
) -> Option<ExecProbe> {
    let name = section.value(sink, "user", user_name);
    if !section.require(sink, "command", "add command = [\"/usr/lib/evenkeel/check\"]") {
        return None;
    }
    let words = section.list(sink, "command", word)?;
    let Some(program) = words.first() else {
        // A list of which every entry is wrong has its errors already.
        if section.is_empty_list("command") {
            let message = format!("command {} is empty", section.subject());
            let remedy = "write the program and its arguments: [\"/usr/lib/evenkeel/check\"]";
            sink.error(&section.span_of("command"), message, remedy);
        }
        return None;
    };
    let (path, span) = (program.get_ref().clone(), program.span());
    if !Path::new(&path).is_absolute() {
        let message = format!("command {} is {path:?}, not an absolute path", section.subject());
        let remedy =
            "write the whole path of the program, and each argument as an entry of its own";
        sink.error(&span, message, remedy);
    } else if folder.is_some() {
        let named = name.as_ref().map_or(ExecProbe::USER, |name| name.get_ref().as_str());
        let user_span = name.as_ref().map_or_else(|| span.clone(), Spanned::span);
        if let Some(user) = known_user(sink, section, named, &user_span) {
            check_program(sink, section, Path::new(&path), &span, &user);
        }
    }
    Some(ExecProbe {
        command: words.into_iter().map(Spanned::into_inner).collect(),
        user: name.map_or_else(|| ExecProbe::USER.to_owned(), Spanned::into_inner),
        environment: Vec::new(),
    })
}

/// The user of this host by the name, which must not be root's.
fn known_user(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    name: &str,
    span: &Range<usize>,
) -> Option<User> {
    let fault = match User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => "has every privilege".to_owned(),
        Ok(Some(user)) => return Some(user),
        Ok(None) => "this host does not have".to_owned(),
        Err(error) => format!("cannot be looked up: {error}"),
    };
    let message = format!("user {} is {name:?}, which {fault}", section.subject());
    let remedy = "name a user without privileges, made for the check (`useradd --system …`)";
    sink.error(span, message, remedy);
    None
}

fn check_program(
    sink: &mut Sink<'_, '_>,
    section: &Section<'_, '_>,
    path: &Path,
    span: &Range<usize>,
    user: &User,
) {
    let (fault, remedy) = match path.metadata() {
        Ok(found) if !found.is_file() => ("is no file".to_owned(), "name a program"),
        Ok(found) if !may_run(&found, user) => {
            (format!("user {:?} may not run", user.name), "make it executable (`chmod a+rx`)")
        }
        Ok(_) => return,
        Err(error) => (format!("cannot be run: {error}"), "install it, or correct the path"),
    };
    let message = format!("command {} is {}, which {fault}", section.subject(), path.display());
    sink.error(span, message, remedy);
}

/// Whether the file's mode lets `user` run it, as a member of its own group alone.
fn may_run(file: &Metadata, user: &User) -> bool {
    let shift = if file.uid() == user.uid.as_raw() {
        6
    } else if file.gid() == user.gid.as_raw() {
        3
    } else {
        0
    };
    file.mode() >> shift & 1 == 1
}

fn word(value: &DeValue<'_>) -> Result<String, Problem> {
    let word = values::string(value)?;
    if word.contains('\0') {
        return Err(Problem::new("has a zero byte", "remove it"));
    }
    Ok(word.to_owned())
}

fn user_name(value: &DeValue<'_>) -> Result<String, Problem> {
    let name = values::string(value)?;
    if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == ':') {
        let remedy = "name a user without privileges, or remove it for \"nobody\"";
        return Err(Problem::new(format!("is {name:?}, no name of a user"), remedy));
    }
    Ok(name.to_owned())
}
