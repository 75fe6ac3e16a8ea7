//! What ExaBGP is told: the process that it runs (`evenkeel exabgp`) asks the daemon again and again, and
//! writes what changed in ExaBGP's text API on its standard output.
//!
//! So nothing is lost when either starts anew: ExaBGP begins its process anew and is told everything.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use super::address::bits;

/// How often the process asks.
pub const EVERY: Duration = Duration::from_millis(200);
/// How long it may be silent before it counts as gone.
const SILENCE: Duration = Duration::from_secs(3);

/// What the daemon knows of the process.
#[derive(Debug, Default)]
pub struct Follower {
    /// When it asked last.
    asked: Option<Instant>,
    /// When what it is told changed.
    changed: Option<Instant>,
    told: BTreeSet<IpAddr>,
}

impl Follower {
    /// Sets what it is told from now on.
    pub fn set(&mut self, addresses: BTreeSet<IpAddr>, now: Instant) {
        if addresses != self.told {
            self.told = addresses;
            self.changed = Some(now);
        }
    }

    /// It asks: these addresses are announced.
    pub fn ask(&mut self, now: Instant) -> BTreeSet<IpAddr> {
        self.asked = Some(now);
        self.told.clone()
    }

    /// Whether it knows what changed last.
    #[must_use]
    pub fn is_up_to_date(&self) -> bool {
        // What it was told it has written only when it asks the next time, but that is a moment.
        self.asked > self.changed || (self.changed.is_none() && self.asked.is_some())
    }

    /// What is wrong with it; `None`: nothing.
    #[must_use]
    pub fn problem(&self, now: Instant) -> Option<String> {
        let silent = |asked: Instant| now.saturating_duration_since(asked) >= SILENCE;
        match self.asked {
            Some(asked) if silent(asked) => Some(
                "ExaBGP's process does not ask any more: see its log, and whether it runs `evenkeel exabgp`"
                    .to_owned(),
            ),
            Some(_) => None,
            None => Some(
                "no process of ExaBGP has asked yet: have it run `evenkeel exabgp` (docs/announce.md)"
                    .to_owned(),
            ),
        }
    }
}

/// The commands that lead from one set of announced addresses to another (ExaBGP 4, text API).
#[must_use]
pub fn commands(before: &BTreeSet<IpAddr>, after: &BTreeSet<IpAddr>) -> Vec<String> {
    let line = |verb: &str, address: &IpAddr| {
        format!("{verb} route {address}/{} next-hop self", bits(*address))
    };
    let withdrawn = before.difference(after).map(|address| line("withdraw", address));
    withdrawn.chain(after.difference(before).map(|address| line("announce", address))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = addresses(&["192.0.2.10", "192.0.2.11"]);
        let after = addresses(&["192.0.2.11", "2001:db8::10"]);
        let told = [
            "withdraw route 192.0.2.10/32 next-hop self",
            "announce route 2001:db8::10/128 next-hop self",
        ];
        assert_eq!(commands(&before, &after), told);
        assert_eq!(commands(&after, &after), [] as [String; 0]);
    }

    #[test]
    fn silence_is_a_problem() {
        let (mut follower, start) = (Follower::default(), Instant::now());
        assert!(follower.problem(start).unwrap().contains("evenkeel exabgp"));
        follower.set(addresses(&["192.0.2.10"]), start);
        assert!(!follower.is_up_to_date());
        let asked = start + Duration::from_millis(1);
        assert_eq!(follower.ask(asked), addresses(&["192.0.2.10"]));
        assert!(follower.is_up_to_date() && follower.problem(asked).is_none());
        follower.set(BTreeSet::new(), asked + EVERY);
        assert!(!follower.is_up_to_date());
        assert!(follower.problem(asked + SILENCE).is_some());
    }
}
