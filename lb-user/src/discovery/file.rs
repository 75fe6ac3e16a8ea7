//! A file of `EndpointSlices`, JSON or YAML: one, a list of them, or several documents. It is looked at once a second,
//! as the configuration is, and read once it has rested for that long: half of a file can be a valid one.

use std::{fs, io::Read as _, path::Path, time::Duration};

use tokio::time::sleep;

use super::{
    Answer, Reporter,
    slices::{self, Document, Slice},
};
use crate::{config::Protocol, stamp::stamp};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of the largest file: some hundred thousand servers.
const LARGEST: u64 = 64 << 20;

/// Looks at the file until nobody listens.
pub(super) async fn follow(
    path: &Path,
    port: Option<&str>,
    protocol: Protocol,
    reporter: Reporter,
) {
    // At the start there is nobody who writes it for us.
    let mut seen = stamp(path);
    let mut told = None;
    // What an answer is held for until it is given again: the file is read once more.
    let mut again = false;
    loop {
        let now = stamp(path);
        let rests = now == seen;
        seen = now;
        if rests && (again || told.as_ref() != Some(&now)) {
            again = told.as_ref() != Some(&now);
            told = Some(now);
            let owned = path.to_owned();
            let read = tokio::task::spawn_blocking(move || read(&owned)).await;
            let heard = read
                .unwrap_or_else(|error| Err(error.to_string()))
                .and_then(|slices| slices::servers(&slices, port, protocol))
                .map(|found| Answer { found, lacks: None })
                .map_err(|why| format!("{}: {why}", path.display()));
            if !reporter.tell(heard).await {
                return;
            }
        }
        sleep(LOOK).await;
    }
}

fn read(path: &Path) -> Result<Vec<Slice>, String> {
    let mut text = String::new();
    let opened = fs::File::open(path);
    opened
        .and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("it is larger than {} MiB", LARGEST >> 20));
    }
    parse(&text)
}

/// The slices of a text; what is wrong with it is told with its line and column.
fn parse(text: &str) -> Result<Vec<Slice>, String> {
    let documents: Vec<Document> = if text.trim_start().starts_with('{') {
        vec![serde_json::from_str(text).map_err(|error| {
            let words = error.to_string();
            // Which end with the place.
            let words = words.split(" at line ").next().unwrap_or_default();
            placed(error.line() as u64, error.column() as u64, words)
        })?]
    } else {
        serde_saphyr::from_multiple(text).map_err(|error| {
            let words = error.without_snippet().to_string();
            let place = error.location();
            place.map_or(words.clone(), |place| placed(place.line(), place.column(), &words))
        })?
    };
    let mut slices = Vec::new();
    for document in documents {
        slices.extend(document.into_slices()?);
    }
    Ok(slices)
}

fn placed(line: u64, column: u64, words: &str) -> String {
    format!("line {line}, column {column}: {words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "web-1" },
        "ports": [{ "port": 8080 }],
        "endpoints": [{ "addresses": ["10.0.0.1"] }, { "addresses": ["10.0.0.2"] }]
    }"#;
    const YAML: &str = "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
ports:
- port: 8080
endpoints:
- addresses: [10.0.0.1]
- addresses: [10.0.0.2]
  conditions: {ready: false}
---
# A second one.
kind: EndpointSlice
addressType: IPv6
ports:
- port: 8080
endpoints:
- addresses: ['2001:db8::1']
";

    fn addresses(text: &str) -> Vec<String> {
        let found = slices::servers(&parse(text).unwrap(), None, Protocol::Tcp).unwrap();
        found.iter().map(|found| found.address.to_string()).collect()
    }

    #[test]
    fn one_a_list_and_several_documents_are_read() {
        assert_eq!(addresses(JSON), ["10.0.0.1:8080", "10.0.0.2:8080"]);
        assert_eq!(addresses(YAML), ["10.0.0.1:8080", "10.0.0.2:8080", "[2001:db8::1]:8080"]);
        let list =
            format!(r#"{{ "kind": "List", "apiVersion": "v1", "items": [{JSON}, {JSON}] }}"#);
        assert_eq!(addresses(&list).len(), 4);
        let list = format!("kind: EndpointSliceList\nitems: [{JSON}]\n");
        assert_eq!(addresses(&list).len(), 2);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let broken = JSON.replacen("[{ \"port\": 8080 }]", "[{ \"port\": 80800 }]", 1);
        let error = parse(&broken).unwrap_err();
        assert!(error.starts_with("line 4, column "), "{error}");
        let broken = YAML.replacen("- addresses: [10.0.0.1]", "- addresses: [10.0.0.1", 1);
        let error = parse(&broken).unwrap_err();
        assert!(error.starts_with("line ") && !error.contains('\n'), "{error}");
        let broken = YAML.replacen("port: 8080", "port: http", 1);
        let error = parse(&broken).unwrap_err();
        assert!(error.starts_with("line 5, column 9: "), "{error}");
        for (text, says) in [
            ("kind: Service\n", "\"Service\""),
            ("kind: EndpointSlice\n", "addressType"),
            ("[]", "line 1"),
            ("addressType: IPv4\n", "kind"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
