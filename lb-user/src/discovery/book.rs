//! What is known of the sources: the last answers, and what is wrong with the newest. Pure: the time is passed in.

use std::{collections::BTreeMap, time::SystemTime};

use super::{
    Answer, Found, Key,
    merge::{backends, fit},
};
use crate::config::Config;

/// Servers that cannot be used and are named.
const MOST_NAMED: usize = 3;

/// What is known of every source. One that is configured no longer is remembered for as long as the daemon lives: a
/// configuration that is rolled back has its backends at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    entries: BTreeMap<Key, Entry>,
}

/// What is known of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The servers of the last answer that was taken, sorted.
    pub found: Vec<Found>,
    /// When the last answer came that said so; `None`: none did yet.
    pub answered: Option<SystemTime>,
    /// Why the newest answer is not taken, or is not whole, and since when that is so.
    pub problem: Option<(String, SystemTime)>,
    /// Servers of the last answer that cannot be backends, each with the reason.
    pub left_out: Vec<String>,
    /// An answer that is taken when it is given again.
    held: Option<Vec<Found>>,
}

/// What became of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Whether other servers are known now.
    pub taken: bool,
    /// What is to be said.
    pub said: Option<Said>,
}

/// What is to be said of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Its answers do not come, or cannot be taken.
    Trouble(String),
    /// They are taken again.
    Well,
}

impl Book {
    /// The servers that a source has.
    #[must_use]
    pub fn found(&self, key: &Key) -> &[Found] {
        self.entries.get(key).map_or(&[], |entry| &entry.found)
    }

    /// What is known of a source.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter()
    }

    /// Remembers what a source said in an earlier life.
    pub fn recall(&mut self, key: Key, found: Vec<Found>, answered: SystemTime) {
        let entry = Entry { found: tidy(found), answered: Some(answered), ..Entry::default() };
        self.entries.insert(key, entry);
    }

    /// Judges what was heard from a source of this configuration.
    ///
    /// No answer, and one without a server that could be used, change nothing. One that would leave the service fewer
    /// backends than its `min_active`, and fewer than it has, is taken when it is given a second time.
    pub fn note(
        &mut self,
        config: &Config,
        key: &Key,
        heard: Result<Answer, String>,
        now: SystemTime,
    ) -> Turn {
        let Some(service) = config.service(&key.0) else { return Turn::default() };
        let before = self.entries.entry(key.clone()).or_default().clone();
        let (found, lacks) = match heard {
            Ok(Answer { found, lacks }) => (tidy(found), lacks),
            Err(why) => return self.trouble(key, why, now),
        };
        let (fitting, left_out) = fit(config, service, &found);
        if fitting.is_empty() {
            let why = left_out.first().map_or_else(
                || "the answer has no server".to_owned(),
                |first| format!("no server of the answer can be a backend: {first}"),
            );
            return self.trouble(key, why, now);
        }
        let is_news = before.found != found;
        let least = service.availability.min_active as usize;
        let (mut had, mut has) = (0, 0);
        if is_news {
            let count = |book: &Self| backends(config, service, book).len();
            had = count(self);
            self.entries.insert(key.clone(), Entry { found: found.clone(), ..before.clone() });
            has = count(self);
        }
        let Some(entry) = self.entries.get_mut(key) else { return Turn::default() };
        if has < least && has < had && before.held.as_ref() != Some(&found) {
            entry.found = before.found;
            entry.held = Some(found);
            let why = format!(
                "the answer would leave {has} of {had} backends, and min_active is {least}; it is taken if \
                 the next one says the same"
            );
            return self.trouble(key, why, now);
        }
        entry.held = None;
        entry.answered = Some(now);
        entry.left_out = left_out;
        if let Some(why) = lacks {
            return Turn { taken: is_news, ..self.trouble(key, why, now) };
        }
        let was_troubled = entry.problem.take().is_some();
        Turn { taken: is_news, said: was_troubled.then_some(Said::Well) }
    }

    /// Has a source keep what it had: an answer was taken that there is no room for.
    pub fn put_back(&mut self, key: &Key, before: Entry, why: String, now: SystemTime) -> Turn {
        self.entries.insert(key.clone(), before);
        self.trouble(key, why, now)
    }

    fn trouble(&mut self, key: &Key, why: String, now: SystemTime) -> Turn {
        let entry = self.entries.entry(key.clone()).or_default();
        let since = entry.problem.as_ref().map_or(now, |(_, since)| *since);
        let is_first = entry.problem.is_none();
        entry.problem = Some((why.clone(), since));
        Turn { taken: false, said: is_first.then_some(Said::Trouble(why)) }
    }
}

impl Entry {
    /// The servers that cannot be backends, in a line; empty where there are none.
    #[must_use]
    pub fn told_left_out(&self) -> String {
        let named = self.left_out.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join("; ");
        match self.left_out.len().saturating_sub(MOST_NAMED) {
            0 => named,
            more => format!("{named}; and {more} more"),
        }
    }
}

/// Sorted, each address once: of several, the one that does the most.
fn tidy(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_unstable();
    found.dedup_by(|later, earlier| later.address == earlier.address);
    found
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::config::Offer;

    fn config(min_active: u32) -> Config {
        let text = format!(
            "[node]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\naddress = \"192.0.2.10:80\"\n\
             min_active = {min_active}\ndiscover = \"dns:web.internal:80\"\n"
        );
        Config::parse(&text, Path::new("evenkeel.toml")).unwrap().config
    }

    fn key() -> Key {
        ("web".to_owned(), "dns:web.internal:80".parse().unwrap())
    }

    fn said(hosts: &[u8]) -> Answer {
        let found = hosts.iter().map(|host| Found::at(([10, 0, 0, *host], 80).into()));
        Answer { found: found.collect(), lacks: None }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn hosts(book: &Book) -> Vec<u8> {
        let last = |found: &Found| match found.address.ip() {
            std::net::IpAddr::V4(v4) => v4.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        book.found(&key()).iter().map(last).collect()
    }

    #[test]
    fn an_answer_that_is_empty_or_does_not_come_takes_nobody_away() {
        let (config, mut book) = (config(1), Book::default());
        let taken = Turn { taken: true, said: None };
        assert_eq!(book.note(&config, &key(), Ok(said(&[2, 1, 2])), at(1)), taken);
        assert_eq!(hosts(&book), [1, 2]);
        for (second, heard) in
            [(2, Err("SERVFAIL".to_owned())), (3, Ok(said(&[]))), (4, Err("x".into()))]
        {
            let turn = book.note(&config, &key(), heard, at(second));
            assert!(!turn.taken);
            // Said once, for as long as it lasts.
            assert_eq!(turn.said.is_some(), second == 2, "{turn:?}");
            assert_eq!(hosts(&book), [1, 2]);
        }
        let entry = book.get(&key()).unwrap();
        assert_eq!(entry.problem, Some(("x".to_owned(), at(2))), "the newest, since the first");
        assert_eq!(entry.answered, Some(at(1)));
        let well = Turn { taken: false, said: Some(Said::Well) };
        assert_eq!(book.note(&config, &key(), Ok(said(&[1, 2])), at(5)), well);
        // One that can be no backend is like none.
        let mut loopback = said(&[1]);
        loopback.found[0].address = "127.0.0.1:80".parse().unwrap();
        let turn = book.note(&config, &key(), Ok(loopback), at(6));
        assert!(matches!(turn, Turn { taken: false, said: Some(Said::Trouble(_)) }), "{turn:?}");
        assert_eq!(hosts(&book), [1, 2]);
    }

    #[test]
    fn too_few_are_taken_when_they_are_said_twice() {
        let (config, mut book) = (config(2), Book::default());
        book.note(&config, &key(), Ok(said(&[1, 2, 3])), at(1));
        assert!(book.note(&config, &key(), Ok(said(&[1, 2])), at(2)).taken, "enough stay");
        let turn = book.note(&config, &key(), Ok(said(&[1])), at(3));
        assert!(
            matches!(&turn.said, Some(Said::Trouble(why)) if why.contains("1 of 2")),
            "{turn:?}"
        );
        assert!(!book.note(&config, &key(), Ok(said(&[2])), at(4)).taken, "another answer");
        assert!(!book.note(&config, &key(), Ok(said(&[1, 2])), at(5)).taken);
        assert_eq!(book.get(&key()).unwrap().problem, None, "all is as it was");
        assert!(!book.note(&config, &key(), Ok(said(&[1])), at(6)).taken);
        let turn = book.note(&config, &key(), Ok(said(&[1])), at(7));
        assert_eq!(turn, Turn { taken: true, said: Some(Said::Well) });
        assert_eq!(hosts(&book), [1]);
        assert!(book.note(&config, &key(), Ok(said(&[3])), at(8)).taken, "as few as before");
    }

    #[test]
    fn what_could_not_be_found_out_is_told_beside_what_could() {
        let (config, mut book) = (config(1), Book::default());
        let lacks = Some("b.internal: SERVFAIL".to_owned());
        let half = Answer { lacks: lacks.clone(), ..said(&[1]) };
        let turn = book.note(&config, &key(), Ok(half), at(1));
        assert_eq!(turn, Turn { taken: true, said: lacks.map(Said::Trouble) });
        assert_eq!(book.note(&config, &key(), Ok(said(&[1])), at(2)).said, Some(Said::Well));
    }

    #[test]
    fn of_one_address_the_one_that_does_the_most_counts() {
        let (config, mut book) = (config(1), Book::default());
        let mut twice = said(&[1, 1, 2]);
        twice.found[0].offer = Offer::Out;
        book.note(&config, &key(), Ok(twice), at(1));
        let offers: Vec<_> = book.found(&key()).iter().map(|found| found.offer).collect();
        assert_eq!(offers, [Offer::Ready, Offer::Ready]);
    }

    proptest! {
        /// Whatever is heard, a service that has backends keeps some, and loses none without an answer.
        #[test]
        fn no_answer_empties_a_service(
            heard in prop::collection::vec(
                prop::option::of(prop::collection::vec(1_u8..9, 0..6)), 1..40,
            ),
            min_active in 1_u32..4,
        ) {
            let (config, mut book) = (config(min_active), Book::default());
            let mut last = Vec::new();
            for (second, hosts_heard) in (1_u64..).zip(heard) {
                let had = hosts(&book);
                let heard = hosts_heard.as_ref().map_or(Err("no answer".into()), |hosts| Ok(said(hosts)));
                book.note(&config, &key(), heard, at(second));
                let has = hosts(&book);
                prop_assert!(had.is_empty() || !has.is_empty());
                let mut named = hosts_heard.clone().unwrap_or_default();
                named.sort_unstable();
                named.dedup();
                if named.is_empty() {
                    prop_assert_eq!(&has, &had);
                } else if has != had {
                    prop_assert_eq!(&has, &named, "what is taken is what was said");
                    let is_short = has.len() < min_active as usize && has.len() < had.len();
                    prop_assert!(!is_short || last == named, "too few were said once");
                }
                last = if named.is_empty() { last } else { named };
            }
        }
    }
}
