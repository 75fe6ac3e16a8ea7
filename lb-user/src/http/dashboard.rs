//! The dashboard: the files that a browser gets, all of them in this program; and the playbook, which alerts
//! name a page of.
//!
//! Their sources are in `dashboard/src`; the chart library comes from npm, by way of this package's build script.
//! The page asks nobody but the listener that it came from, and its policy lets it ask nobody else.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// What the page may do: its own scripts, styles and pictures, and the listener's own answers. Nothing inline,
/// nothing from elsewhere, and no other page around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const CSS: &str = "text/css; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file: its name below `/assets/`, its type, and what is in it.
struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $kind:expr,)*) => {
        [$(Asset {
            name: $name,
            kind: $kind,
            content: include_bytes!(concat!("../../../dashboard/src/", $name)),
        }),*]
    };
}

const PAGE: Asset = Asset {
    name: "index.html",
    kind: HTML,
    content: include_bytes!("../../../dashboard/src/index.html"),
};
const OWN: [Asset; 17] = assets! {
    "alerts.js": JAVASCRIPT,
    "backend.js": JAVASCRIPT,
    "charts.js": JAVASCRIPT,
    "colours.css": CSS,
    "dom.js": JAVASCRIPT,
    "format.js": JAVASCRIPT,
    "header.js": JAVASCRIPT,
    "history.js": JAVASCRIPT,
    "icon.svg": SVG,
    "main.js": JAVASCRIPT,
    "model.js": JAVASCRIPT,
    "page.css": CSS,
    "service.js": JAVASCRIPT,
    "services.css": CSS,
    "stream.js": JAVASCRIPT,
    "theme.js": JAVASCRIPT,
    "timeline.js": JAVASCRIPT,
};
/// Empty where the build found no library: the page goes without charts then.
const LIBRARY: [Asset; 3] = [
    Asset {
        name: "uplot.js",
        kind: JAVASCRIPT,
        content: include_bytes!(env!("EVENKEEL_UPLOT_JS")),
    },
    Asset { name: "uplot.css", kind: CSS, content: include_bytes!(env!("EVENKEEL_UPLOT_CSS")) },
    Asset {
        name: "uplot-licence.txt",
        kind: TEXT,
        content: include_bytes!(env!("EVENKEEL_UPLOT_LICENCE")),
    },
];

macro_rules! playbook {
    ($($name:literal,)*) => {
        [$(($name, include_str!(concat!("../../../docs/playbook/", $name, ".md")))),*]
    };
}

/// The playbook's pages, in Markdown.
const PLAYBOOK: [(&str, &str); 24] = playbook! {
    "all-down",
    "announce-failed",
    "backend-down",
    "config-not-applied",
    "connection-failures",
    "daemon-down",
    "delivery-failed",
    "discovery-failed",
    "drift",
    "edge-behind",
    "edge-lost",
    "flapping",
    "imbalance",
    "index",
    "interface-lost",
    "lone-survivor",
    "no-headroom",
    "node-drained",
    "out-of-service",
    "probes-late",
    "slow-handshakes",
    "store-refused",
    "store-unreachable",
    "table-pressure",
};

/// `/`, `/assets/*`, and `/docs/playbook/*`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async |asked: HeaderMap| PAGE.answer(&asked)))
        .route("/assets/{name}", get(asset))
        .route("/docs/playbook/{page}", get(playbook))
}

async fn asset(Path(name): Path<String>, asked: HeaderMap) -> Response {
    match OWN.iter().chain(&LIBRARY).find(|asset| asset.name == name) {
        Some(asset) => asset.answer(&asked),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A page as it was written: it reads well, and is at hand where no network is.
async fn playbook(Path(page): Path<String>, asked: HeaderMap) -> Response {
    let name = page.strip_suffix(".html");
    match PLAYBOOK.iter().find(|(known, _)| Some(*known) == name) {
        Some((name, text)) => answer(HTML, shown(name, text).into_bytes().into(), &asked),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A text as a document of its own.
fn shown(name: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name} · Evenkeel's playbook</title>\n\
         <link rel=\"stylesheet\" href=\"../../assets/colours.css\">\n\
         <link rel=\"stylesheet\" href=\"../../assets/page.css\">\n\
         <main class=\"playbook\"><p><a href=\"../../\">Dashboard</a></p>\n<pre>{text}</pre></main>\n</html>\n"
    )
}

impl Asset {
    fn answer(&self, asked: &HeaderMap) -> Response {
        answer(self.kind, self.content.into(), asked)
    }
}

/// A file, or that the browser has it already. It is asked each time, so that an upgrade is seen at once.
fn answer(kind: &'static str, content: Cow<'static, [u8]>, asked: &HeaderMap) -> Response {
    let tag = tag(&content);
    let fixed = [
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let mut headers: HeaderMap =
        fixed.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
    let has = matches_any(asked, &tag);
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    if has {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    (headers, content).into_response()
}

/// A file's entity tag: another content, another tag.
fn tag(content: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether `If-None-Match` names a tag (RFC 9110, section 13.1.2).
fn matches_any(asked: &HeaderMap, tag: &str) -> bool {
    asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|one| one.trim().trim_start_matches("W/"))
        .any(|one| one == tag || one == "*")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::alerts::catalogue;

    fn asked(tag: &str) -> HeaderMap {
        [(header::IF_NONE_MATCH, HeaderValue::try_from(tag).unwrap())].into_iter().collect()
    }

    /// The names in a directory of the workspace, sorted.
    fn names(directory: &str) -> Vec<String> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(directory);
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_source_and_every_page_of_the_playbook_is_served() {
        let mut sources = names("dashboard/src");
        sources.retain(|name| name != PAGE.name);
        assert_eq!(OWN.map(|asset| asset.name).to_vec(), sources);
        let pages = PLAYBOOK.map(|(name, _)| format!("{name}.md"));
        assert_eq!(pages.to_vec(), names("docs/playbook"));
    }

    #[test]
    fn every_alert_names_a_page_that_is_served() {
        for entry in catalogue() {
            let page = entry.kind.page(None);
            let name = page.strip_prefix("docs/playbook/").unwrap().strip_suffix(".html");
            assert!(PLAYBOOK.iter().any(|(known, _)| Some(*known) == name), "{page}");
        }
    }

    #[test]
    fn a_page_of_the_playbook_shows_its_text() {
        let page = shown("x", "a < b && c");
        assert!(page.contains("<pre>a &lt; b &amp;&amp; c</pre>"), "{page}");
    }

    #[test]
    fn the_page_names_only_what_is_served() {
        let page = std::str::from_utf8(PAGE.content).unwrap();
        let named: Vec<_> =
            page.split("assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(named.len() >= 6, "{named:?}");
        for name in named {
            assert!(OWN.iter().chain(&LIBRARY).any(|asset| asset.name == name), "{name}");
        }
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let tag = tag(PAGE.content);
        for known in [tag.clone(), format!("W/{tag}"), format!("\"old\", {tag}"), "*".to_owned()] {
            let answer = PAGE.answer(&asked(&known));
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(answer.headers()[header::ETAG], tag.as_str());
        }
        let answer = PAGE.answer(&asked("\"old\""));
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], HTML);
        assert_ne!(super::tag(OWN[0].content), super::tag(OWN[1].content));
    }
}
