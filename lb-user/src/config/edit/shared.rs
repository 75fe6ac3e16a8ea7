//! The part of a text that edges share: its services. It is taken out of one text and put into another, byte for
//! byte but for line ends and the blank lines around it.

use std::ops::Range;

use toml::de::DeTable;

use super::{EditError, layout::Layout};

/// Every `[[service]]` of a text with what is in it and the comments at them, in the order of the text. Lines end
/// with a line feed, and there are no blank ones around.
///
/// # Errors
/// When the text is no TOML, or the services are written in brackets and braces.
pub fn services_of(text: &str) -> Result<String, EditError> {
    let layout = Layout::of_tables(text)?;
    let blocks = runs(&layout).into_iter().map(|run| plain(&text[run]));
    Ok(blocks.filter(|block| !block.is_empty()).collect::<Vec<_>>().join("\n"))
}

/// The text with these services in the place of its own.
///
/// # Errors
/// As [`services_of`].
pub fn with_services(text: &str, services: &str) -> Result<String, EditError> {
    let layout = Layout::of_tables(text)?;
    let mut parts = Vec::new();
    let mut from = 0;
    for (number, run) in runs(&layout).into_iter().enumerate() {
        parts.push(plain(&text[from..run.start]));
        if number == 0 {
            parts.push(plain(services));
        }
        from = run.end;
    }
    parts.push(plain(&text[from..]));
    if from == 0 {
        parts.push(plain(services));
    }
    parts.retain(|part| !part.is_empty());
    Ok(parts.join("\n").replace('\n', layout.newline()))
}

/// Why a text is not services alone; `None`: it is, as far as can be said without the rest of a configuration.
#[must_use]
pub fn why_not_services(text: &str) -> Option<String> {
    let (root, faults) = DeTable::parse_recoverable(text);
    if let Some(fault) = faults.first() {
        let at = fault.span().map_or(0, |span| span.start).min(text.len());
        let line = text[..text.floor_char_boundary(at)].matches('\n').count() + 1;
        return Some(format!("line {line} is no TOML: {}", fault.message()));
    }
    let root = root.into_inner();
    let strange = root.keys().find(|key| key.get_ref() != "service")?;
    Some(format!("it has {strange:?}, which is each edge's own; it may have [[service]] alone"))
}

/// Where tables of services follow each other.
fn runs(layout: &Layout<'_>) -> Vec<Range<usize>> {
    let mut tables: Vec<_> = layout.services.iter().flat_map(|place| &place.tables).collect();
    tables.sort_unstable();
    let runs = tables.chunk_by(|a, b| **a + 1 == **b).filter_map(|run| {
        let (first, last) = (run.first()?, run.last()?);
        Some(layout.chunk(**first).start..layout.chunk(**last).end)
    });
    runs.collect()
}

/// Lines that end with a line feed, without blank ones around.
fn plain(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| line.trim_end_matches('\r')).collect();
    let is_blank = |line: &&&str| line.trim().is_empty();
    let before = lines.iter().take_while(is_blank).count();
    let after = lines[before..].iter().rev().take_while(is_blank).count();
    let kept = &lines[before..lines.len() - after];
    kept.iter().fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "# This host.\n[node]\ninterfaces = [\"eth0\"]\n";
    const SERVICES: &str = "# The shop.\n[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\n\n\
                            [service.health]\nkind = \"tcp\"\n\n# The first.\n[[service.backend]]\n\
                            name = \"a\"\naddress = \"10.0.0.1:80\"\n\n[[service]]\nname = \"dns\"\n\
                            address = \"192.0.2.10:53\"\nprotocol = \"udp\"\n";

    #[test]
    fn services_go_from_one_text_to_another() {
        let whole = format!("{LOCAL}\n{SERVICES}\n[http]\nlisten = \"off\"\n");
        assert_eq!(services_of(&whole).unwrap(), SERVICES);
        assert_eq!(with_services(&whole, SERVICES).unwrap(), whole);
        // Where there are none yet they stand last.
        let bare = format!("{LOCAL}\n[http]\nlisten = \"off\"\n");
        assert_eq!(services_of(&bare).unwrap(), "");
        let with = with_services(&bare, SERVICES).unwrap();
        assert_eq!(with, format!("{bare}\n{SERVICES}"));
        assert_eq!(services_of(&with).unwrap(), SERVICES);
        // Other ones take their place.
        let other = "[[service]]\nname = \"x\"\naddress = \"192.0.2.11:80\"\n";
        let changed = with_services(&whole, other).unwrap();
        assert_eq!(changed, format!("{LOCAL}\n{other}\n[http]\nlisten = \"off\"\n"));
        assert_eq!(with_services(&whole, "").unwrap(), bare);
    }

    #[test]
    fn what_is_between_services_and_not_theirs_stays() {
        let one = "[[service]]\nname = \"a\"\naddress = \"192.0.2.10:80\"\n";
        let two = "[[service]]\nname = \"b\"\naddress = \"192.0.2.11:80\"\n";
        let text = format!("{LOCAL}\n{one}\n[http]\nlisten = \"off\"\n\n{two}");
        assert_eq!(services_of(&text).unwrap(), format!("{one}\n{two}"));
        let merged = with_services(&text, &format!("{one}\n{two}")).unwrap();
        assert_eq!(merged, format!("{LOCAL}\n{one}\n{two}\n[http]\nlisten = \"off\"\n"));
    }

    #[test]
    fn line_ends_are_the_texts_own() {
        let text = format!("{LOCAL}\n{SERVICES}").replace('\n', "\r\n");
        assert_eq!(services_of(&text).unwrap(), SERVICES);
        assert_eq!(with_services(&text, SERVICES).unwrap(), text);
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(why_not_services(SERVICES), None);
        assert_eq!(why_not_services(""), None);
        assert!(why_not_services("[node]\n").unwrap().contains("node"));
        assert!(why_not_services("\n[[service]\n").unwrap().contains("line 2"));
        assert!(matches!(
            services_of("service = [{ name = \"a\" }]\n"),
            Err(EditError::InlineTables { .. })
        ));
    }
}
