//! That the documentation holds together: every page is in the book, every link leads somewhere, every
//! alert has its page of the playbook, what commands are shown to print has the layout that they print. What is
//! in the reference is compared by `lb-user`'s own tests.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it, like the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use evenkeel::alerts::catalogue;
use evenkeel_tests::{
    settings::{Service, Settings},
    stage::Stage,
    topology::{Family, Wiring},
};

/// What each page of the playbook says, in this order.
const HEADINGS: [&str; 5] =
    ["What it means", "How to confirm", "What to do now", "What to do afterwards", "Who to tell"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every page below `docs/`, by its path from the root of the tree.
fn pages() -> BTreeMap<PathBuf, String> {
    fn walk(root: &Path, folder: &Path, pages: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                walk(root, &path, pages);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(root.join(&path)).unwrap();
                pages.insert(path, text);
            }
        }
    }
    let mut pages = BTreeMap::new();
    walk(&root(), Path::new("docs"), &mut pages);
    pages
}

/// The lines that are prose: blocks of code are left out, and so is code within a line.
fn prose(text: &str) -> Vec<String> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// Where the links of a page lead.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap();
            found.push(target.to_owned());
        }
    }
    found
}

/// The anchors of a page's headings, as mdBook and GitHub make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    let headings = prose(text);
    for heading in headings.iter().filter_map(|line| line.trim_start_matches('#').strip_prefix(' '))
    {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let id: String = heading.trim().to_lowercase().chars().filter(kept).collect();
        let id = id.replace(' ', "-");
        let mut unique = id.clone();
        let mut number = 0;
        while !taken.insert(unique.clone()) {
            number += 1;
            unique = format!("{id}-{number}");
        }
    }
    taken
}

/// `a/b/../c` as `a/c`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            assert!(tidied.pop(), "{} leads out of the tree", path.display());
        } else {
            tidied.push(component);
        }
    }
    tidied
}

#[test]
fn every_page_is_in_the_book_and_every_entry_is_a_page() {
    let pages = pages();
    let summary = &pages[Path::new("docs/SUMMARY.md")];
    let entries: Vec<_> = links(summary).iter().map(|link| Path::new("docs").join(link)).collect();
    let listed: BTreeSet<_> = entries.iter().collect();
    assert_eq!(listed.len(), entries.len(), "an entry stands twice");
    let there: BTreeSet<_> =
        pages.keys().filter(|path| *path != Path::new("docs/SUMMARY.md")).collect();
    let missing: Vec<_> = listed.difference(&there).collect();
    let forgotten: Vec<_> = there.difference(&listed).collect();
    assert!(missing.is_empty(), "entries without a page: {missing:?}");
    assert!(forgotten.is_empty(), "pages that SUMMARY.md does not have: {forgotten:?}");
}

#[test]
fn every_link_leads_to_a_file_and_every_anchor_to_a_heading() {
    let root = root();
    let mut texts = pages();
    for name in ["README.md", "ARCHITECTURE.md", "BENCHMARKS.md"] {
        texts.insert(name.into(), fs::read_to_string(root.join(name)).unwrap());
    }
    let mut wrong = Vec::new();
    let mut followed = 0;
    for (page, text) in &texts {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                tidy(&page.parent().unwrap().join(file))
            };
            let told = || format!("{}: {link}", page.display());
            if !root.join(&target).is_file() {
                wrong.push(told());
            } else if !anchor.is_empty() {
                let there = texts.get(&target).is_some_and(|text| anchors(text).contains(anchor));
                if !there {
                    wrong.push(told());
                }
            }
            // The built book has its own pages alone.
            if page.starts_with("docs") && !target.starts_with("docs") {
                wrong.push(format!("{} leads out of the book", told()));
            }
        }
    }
    assert!(followed > 100, "only {followed} links were found");
    assert!(wrong.is_empty(), "links that lead nowhere: {wrong:#?}");
}

#[test]
fn pages_that_are_named_elsewhere_exist() {
    let root = root();
    let mut named = 0;
    for folder in ["lb-user/src", "lb-user/Cargo.toml", "dist", "xtask/src"] {
        visit(&root.join(folder), &mut |path, text| {
            for (at, _) in text.match_indices("docs/") {
                let name: String = text[at..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'))
                    .collect();
                let name = name.trim_end_matches('.');
                if Path::new(name).extension().is_some_and(|extension| extension == "md") {
                    named += 1;
                    assert!(root.join(name).is_file(), "{} names {name}", path.display());
                }
            }
        });
    }
    assert!(named > 0, "no page is named any more: this test looks at nothing");
}

fn visit(path: &Path, look: &mut impl FnMut(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), look);
        }
    } else if let Ok(text) = fs::read_to_string(path) {
        look(path, &text);
    }
}

#[test]
fn every_alert_has_its_page_with_all_that_is_asked_of_it() {
    let pages = pages();
    let playbook = Path::new("docs/playbook");
    let written: BTreeSet<_> = pages
        .keys()
        .filter(|path| path.starts_with(playbook) && !path.ends_with("index.md"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let kinds: BTreeSet<_> = kinds().into_iter().collect();
    let without: Vec<_> = kinds.difference(&written).collect();
    let idle: Vec<_> = written.difference(&kinds).collect();
    assert!(without.is_empty(), "alerts without a page: {without:?}");
    assert!(idle.is_empty(), "pages of no alert: {idle:?}");

    let index = links(&pages[&playbook.join("index.md")]);
    for kind in &kinds {
        let file = format!("{kind}.md");
        let text = &pages[&playbook.join(&file)];
        assert!(index.contains(&file), "the playbook's index does not have {kind}");
        assert!(text.starts_with(&format!("# {kind}\n")), "{kind}: the title is not its name");
        let mut parts = text.split("\n## ").skip(1);
        for heading in HEADINGS {
            let part = parts.next().unwrap_or_else(|| panic!("{kind} lacks {heading:?}"));
            let (title, body) = part.split_once('\n').unwrap();
            assert_eq!(title, heading, "{kind}");
            assert!(body.trim().len() > 20, "{kind}: {heading} says nothing");
        }
        assert_eq!(parts.next(), None, "{kind} has a heading too many");
        assert!(text.contains("```console\n# "), "{kind}: no command confirms it");
    }
}

/// The names of all kinds of alerts: the daemon's, and what only Prometheus can tell.
fn kinds() -> Vec<String> {
    let daemon = catalogue().iter().map(|entry| entry.kind.to_string());
    daemon.chain(["daemon-down".to_owned()]).collect()
}

#[test]
fn commands_of_the_pages_are_commands_of_the_program() {
    let reference = &pages()[Path::new("docs/reference/cli.md")];
    let known: BTreeSet<_> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("## `evenkeel ")?.strip_suffix('`'))
        .map(|command| command.split(' ').next().unwrap().to_owned())
        .collect();
    let mut unknown = BTreeSet::new();
    let mut seen = 0;
    for (page, text) in pages() {
        for (at, _) in text.match_indices("evenkeel ") {
            // A command begins a line of a block, or a piece of code within a line.
            if !text[..at].ends_with(['`', '\n']) && !text[..at].ends_with("\n# ") {
                continue;
            }
            let word = text[at + 9..].split([' ', '\n', '`', '|']).next().unwrap();
            let is_command = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
            if is_command {
                seen += 1;
                if !known.contains(word) {
                    unknown.insert(format!("{}: evenkeel {word}", page.display()));
                }
            }
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
    assert!(unknown.is_empty(), "no such commands: {unknown:#?}");
}

/// The lines between fences that are shown of a terminal: those of commands, and what they print.
fn terminals(text: &str) -> Vec<Vec<&str>> {
    let blocks = text.split("```console\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().lines().collect()).collect()
}

/// A table's heads, if a line is such: capital words, some blanks apart.
fn heads(line: &str) -> Option<Vec<&str>> {
    let heads: Vec<_> = line.split("  ").map(str::trim).filter(|head| !head.is_empty()).collect();
    let is_head = |head: &&str| {
        head.len() > 2 && head.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b' ' | b'/'))
    };
    (heads.len() > 1 && heads.iter().all(is_head)).then_some(heads)
}

#[test]
fn tables_are_shown_with_the_columns_that_they_have() {
    let web = |name: &str, port, lab: &_| {
        Service::web(name, Family::V4).at_port(port).backends(lab).line("expected_connections = 10")
    };
    let stage = Stage::new(Wiring::Switched, 2, |lab| {
        Settings::new(lab).with(web("web", 80, lab)).with(web("api", 81, lab))
    });
    let stage = stage.unwrap();
    let mut known = BTreeSet::new();
    let note = |known: &mut BTreeSet<String>, command: &[&str]| {
        let printed = stage.balancer.cli(command).unwrap().success().unwrap();
        let found: Vec<_> =
            printed.lines().filter_map(heads).map(|heads| heads.join(" ")).collect();
        assert!(!found.is_empty(), "{command:?} prints no table: {printed}");
        known.extend(found);
    };
    let drain = ["backend", "drain", "api/web-02", "--for", "1h", "--reason", "a new disk"];
    let commands: [&[&str]; 9] = [
        &["status"],
        &["status", "-o", "wide"],
        &["counters"],
        &["counters", "-o", "wide"],
        &["connections", "list"],
        &["connections", "list", "-o", "wide"],
        &["connections", "count", "--by", "client"],
        &["connections", "count", "--by", "state"],
        &["history"],
    ];
    // With and without somebody whose reason is to be told.
    for command in commands {
        note(&mut known, command);
    }
    stage.balancer.cli(&drain).unwrap().success().unwrap();
    for command in commands {
        note(&mut known, command);
    }
    let mut verify = stage.balancer.command(&["verify", "--connections", "200"]);
    verify.arg(stage.balancer.config_path());
    let verified = String::from_utf8(verify.output().unwrap().stdout).unwrap();
    known.extend(verified.lines().filter_map(heads).map(|heads| heads.join(" ")));

    let mut texts = pages();
    texts.insert("README.md".into(), fs::read_to_string(root().join("README.md")).unwrap());
    let (mut seen, mut wrong) = (0, Vec::new());
    for (page, text) in &texts {
        for lines in terminals(text) {
            for heads in lines.iter().filter_map(|line| heads(line)) {
                seen += 1;
                if !known.contains(&heads.join(" ")) {
                    wrong.push(format!("{}: {}", page.display(), heads.join("  ")));
                }
            }
            wrong.extend(status_is_whole(&lines).map(|what| format!("{}: {what}", page.display())));
        }
    }
    assert!(seen > 15, "only {seen} tables were found");
    assert!(wrong.is_empty(), "no command prints that: {wrong:#?}\n{known:#?}");
}

/// Says what is wrong with a block in which `evenkeel status` is shown: its first line is the verdict, its second
/// one says which daemon it is. A command alone shows nothing.
fn status_is_whole(lines: &[&str]) -> Option<String> {
    let at =
        lines.iter().position(|line| line.strip_prefix(['#', '$']) == Some(" evenkeel status"))?;
    let mut shown = lines[at + 1..].iter().take_while(|line| !line.starts_with("# "));
    let verdict = shown.next().filter(|line| !line.starts_with("evenkeel: "))?;
    let daemon = shown.next().copied().unwrap_or_default();
    let is_whole = verdict.contains("active") && daemon.starts_with("evenkeel 0.");
    (!is_whole).then(|| format!("`evenkeel status` does not begin like that: {verdict}"))
}
