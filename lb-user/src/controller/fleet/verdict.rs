//! Whether what the store has is taken. Pure.

use crate::store::{Kept, Snapshot};

/// What is to be done with what the store has.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is at work here.
    Done,
    /// It is to be taken.
    Take,
    /// The store is empty, and gets what is here.
    Fill,
    /// It is not taken.
    Refuse(String),
}

/// What is known here.
pub struct Here<'a> {
    /// What was taken last.
    pub kept: &'a Kept,
    /// The services at work, as TOML.
    pub services: &'a str,
    /// The file that has them.
    pub file: &'a str,
    /// What the store's keys begin with.
    pub keys: &'a str,
    /// Whether the store's last change was made here.
    pub is_ours: bool,
    /// Whether those are taken out here whom the store says.
    pub same_exceptions: bool,
}

const WAY_OUT: &str = "`evenkeel store pull` takes what the store has, `evenkeel store push` writes what is at work \
                       here over it";

/// What is to be done with `seen`.
#[must_use]
pub fn judge(seen: &Snapshot, here: &Here<'_>) -> Verdict {
    let &Here { kept, services, file, keys, is_ours, same_exceptions } = here;
    let refuse = |why: String| Verdict::Refuse(format!("{why}; {WAY_OUT}"));
    if let Some(problem) = &seen.problem {
        return refuse(problem.clone());
    }
    let revision = seen.revision();
    let is_at_work = kept.cluster == seen.cluster && kept.revision == revision;
    if is_ours && !is_at_work {
        return Verdict::Take;
    }
    if seen.is_empty() {
        return match (kept.has_joined(), services.is_empty()) {
            (true, _) => refuse(format!("the store has nothing under {keys} any more")),
            (false, true) => Verdict::Done,
            (false, false) => Verdict::Fill,
        };
    }
    if !kept.has_joined() {
        if services.is_empty() || services == seen.services {
            return Verdict::Take;
        }
        return refuse(format!(
            "{file} has other services than the store, and this edge has never followed it"
        ));
    }
    // An etcd that lost its data and was given them again by another edge: following it changes nothing.
    let is_the_same = services == seen.services && same_exceptions;
    if kept.cluster != seen.cluster && !is_the_same {
        return refuse("this is another etcd than the one that this edge followed".to_owned());
    }
    if revision < kept.revision && !is_the_same {
        let before = kept.revision;
        return refuse(format!("the store went back from revision {before} to {revision}"));
    }
    if services != kept.services && services != seen.services {
        return refuse(format!(
            "the services in {file} were edited by hand since revision {}",
            kept.revision
        ));
    }
    if is_at_work && services == seen.services { Verdict::Done } else { Verdict::Take }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::{
        admin::{AdminState, Exception},
        api::Peer,
        store::Bases,
    };

    const OLD: &str = "[[service]]\nname = \"old\"\n";
    const NEW: &str = "[[service]]\nname = \"new\"\n";

    fn seen(revision: i64, services: &str) -> Snapshot {
        let bases = Bases { services: revision, exceptions: revision, change: revision };
        Snapshot { cluster: 7, bases, services: services.into(), ..Snapshot::default() }
    }

    fn kept(revision: i64) -> Kept {
        let services = if revision > 0 { OLD.to_owned() } else { String::new() };
        Kept { cluster: 7, revision, services, ..Kept::default() }
    }

    fn judged(seen: &Snapshot, kept: &Kept, services: &str, is_ours: bool) -> String {
        let (file, keys, same_exceptions) = ("FILE", "/lb/", seen.exceptions.is_empty());
        let here = Here { kept, services, file, keys, is_ours, same_exceptions };
        match judge(seen, &here) {
            Verdict::Refuse(why) => why,
            verdict => format!("{verdict:?}"),
        }
    }

    #[test]
    fn an_edge_that_joins_takes_or_fills_where_nothing_is_lost() {
        let (none, fresh) = (Snapshot::default(), kept(0));
        assert_eq!(judged(&none, &fresh, "", false), "Done");
        assert_eq!(judged(&none, &fresh, OLD, false), "Fill");
        assert_eq!(judged(&seen(9, NEW), &fresh, "", false), "Take");
        assert_eq!(judged(&seen(9, NEW), &fresh, NEW, false), "Take");
        assert!(judged(&seen(9, NEW), &fresh, OLD, false).contains("never followed"));
    }

    #[test]
    fn one_that_follows_takes_what_is_newer_and_nothing_else() {
        let nine = kept(9);
        assert_eq!(judged(&seen(9, OLD), &nine, OLD, false), "Done");
        assert_eq!(judged(&seen(10, NEW), &nine, OLD, false), "Take");
        // Taken, and the daemon died before that was noted.
        assert_eq!(judged(&seen(10, NEW), &nine, NEW, false), "Take");
        assert!(judged(&seen(8, NEW), &nine, OLD, false).contains("from revision 9 to 8"));
        let other = Snapshot { cluster: 8, ..seen(10, NEW) };
        assert!(judged(&other, &nine, OLD, false).contains("another etcd"));
        assert!(judged(&Snapshot::default(), &nine, OLD, false).contains("nothing under /lb/"));
        assert!(judged(&seen(10, NEW), &nine, "# by hand\n", false).contains("edited by hand"));
        assert!(judged(&seen(9, OLD), &nine, NEW, false).contains("edited by hand"));
        let poisoned = Snapshot { problem: Some("poison".into()), ..seen(10, NEW) };
        assert!(judged(&poisoned, &nine, OLD, false).starts_with("poison; `evenkeel store pull`"));
        assert!(judged(&poisoned, &nine, OLD, true).starts_with("poison"));
    }

    #[test]
    fn an_etcd_that_was_given_the_same_again_is_followed() {
        let nine = kept(9);
        assert_eq!(judged(&seen(3, OLD), &nine, OLD, false), "Take");
        let other = Snapshot { cluster: 8, ..seen(3, OLD) };
        assert_eq!(judged(&other, &nine, OLD, false), "Take");
        // It would put somebody back, or take somebody out.
        let exception = Exception {
            service: "old".into(),
            backend: "a".into(),
            state: AdminState::Drain,
            reason: String::new(),
            by: Peer::named("root"),
            since: UNIX_EPOCH,
            until: None,
            discovered: false,
        };
        let other = Snapshot { exceptions: vec![exception], ..other };
        assert!(judged(&other, &nine, OLD, false).contains("another etcd"));
    }

    #[test]
    fn what_was_decided_here_is_taken_whatever_was_before() {
        let other = Snapshot { cluster: 8, ..seen(3, NEW) };
        assert_eq!(judged(&other, &kept(9), OLD, true), "Take");
        assert_eq!(judged(&seen(3, OLD), &kept(0), NEW, true), "Take");
        assert_eq!(judged(&seen(9, OLD), &kept(9), OLD, true), "Done");
    }
}
