//! Which backends of a service get new connections, and what part: tiers, the least number of active
//! ones, and what happens when none is left.

use super::ring::gcd;
use crate::config::{Backend, OnAllDown, Service, Tier};

/// What people, probes and the kernel say of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether people let it take part.
    pub admitted: bool,
    /// Whether it is up, and its connections do not fail.
    pub healthy: bool,
    /// Whether it may be up in a moment: its probes have not judged it yet.
    pub awaited: bool,
    /// Part of its weight that it gets, in percent, from 1.
    pub percent: u8,
}

impl Default for Standing {
    /// Nothing is known: it may take part, but is not up.
    fn default() -> Self {
        Self { admitted: true, healthy: false, awaited: true, percent: 100 }
    }
}

impl Standing {
    /// Whether it can serve.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.admitted && self.healthy
    }
}

/// The backends of `service` that get new connections, by their index: the usable primaries; all
/// usable backups, too, where those primaries are fewer than the service's `min_active`; and where
/// nobody is left, those that people let take part, if the service keeps going then.
#[must_use]
pub fn members(service: &Service, standing: impl Fn(&Backend) -> Standing) -> Vec<usize> {
    let of = |tier: Tier, fits: fn(&Standing) -> bool| {
        let backends = service.backends.iter().enumerate();
        backends
            .filter(|(_, backend)| backend.tier == tier && fits(&standing(backend)))
            .map(|(index, _)| index)
            .collect::<Vec<_>>()
    };
    let mut members = of(Tier::Primary, Standing::is_usable);
    if members.len() < service.availability.min_active as usize {
        members.extend(of(Tier::Backup, Standing::is_usable));
    }
    if members.is_empty() && service.availability.on_all_down == OnAllDown::Keep {
        members = of(Tier::Primary, |standing| standing.admitted);
        if members.is_empty() {
            members = of(Tier::Backup, |standing| standing.admitted);
        }
    }
    members.sort_unstable();
    members
}

/// Weights of which some count in part only, as whole numbers in the same proportion. As they are where
/// all count whole.
#[must_use]
pub fn effective(weights: &[(u16, u8)]) -> Vec<u16> {
    /// Slots of a ring at the most, where a part of a weight would make it longer.
    const MOST_SLOTS: u64 = 1 << 16;
    if weights.iter().all(|(_, percent)| *percent >= 100) {
        return weights.iter().map(|(weight, _)| *weight).collect();
    }
    let parts: Vec<u64> =
        weights.iter().map(|(weight, percent)| u64::from(*weight) * u64::from(*percent)).collect();
    let divisor = parts.iter().fold(0, |divisor, part| gcd(divisor, *part)).max(1);
    let sum = parts.iter().sum::<u64>() / divisor;
    let fit = |part: &u64| {
        let part = part / divisor;
        let part = if sum > MOST_SLOTS { part * MOST_SLOTS / sum } else { part };
        u16::try_from(part.max(1)).unwrap_or(u16::MAX)
    };
    parts.iter().map(fit).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;

    /// A service of two primaries and two backups.
    fn service(keys: &str) -> Service {
        let backend = |name: &str, host: u8, tier: &str| {
            format!(
                "[[service.backend]]\nname = \"{name}\"\naddress = \"10.0.0.{host}:80\"\n\
                 tier = \"{tier}\"\n"
            )
        };
        let text = format!(
            "[node]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\n\
             address = \"192.0.2.10:80\"\n{keys}\n{}{}{}{}",
            backend("a", 1, "primary"),
            backend("b", 2, "primary"),
            backend("c", 3, "backup"),
            backend("d", 4, "backup"),
        );
        Config::parse(&text, Path::new("test.toml")).unwrap().config.services.remove(0)
    }

    /// Who is in, where each backend is up (`+`), down (`-`) or taken out (`.`).
    fn who(keys: &str, backends: &str) -> String {
        let service = service(keys);
        let standing = |backend: &Backend| {
            let index = service.backends.iter().position(|known| known == backend).unwrap();
            let mark = backends.as_bytes()[index];
            Standing { admitted: mark != b'.', healthy: mark == b'+', ..Standing::default() }
        };
        let members = members(&service, standing);
        members.into_iter().map(|index| service.backends[index].name.clone()).collect()
    }

    #[test]
    fn backups_join_below_the_least_number() {
        for (keys, backends, expected) in [
            ("", "++++", "ab"),
            ("", "-+++", "b"),
            ("", "--++", "cd"),
            ("", ".-+-", "c"),
            ("min_active = 2", "++++", "ab"),
            ("min_active = 2", "-+++", "bcd"),
            ("min_active = 2", ".+-+", "bd"),
            ("", "----", ""),
            ("on_all_down = \"keep\"", "----", "ab"),
            ("on_all_down = \"keep\"", ".---", "b"),
            ("on_all_down = \"keep\"", "..--", "cd"),
            ("on_all_down = \"keep\"", "--+-", "c"),
            ("on_all_down = \"keep\"", "....", ""),
        ] {
            assert_eq!(who(keys, backends), expected, "{keys} {backends}");
        }
    }

    #[test]
    fn parts_of_weights() {
        assert_eq!(effective(&[(3, 100), (7, 100)]), [3, 7]);
        assert_eq!(effective(&[(1, 100), (1, 10)]), [10, 1]);
        assert_eq!(effective(&[(1, 50)]), [1]);
        assert_eq!(effective(&[(2, 50), (1, 100)]), [1, 1]);
        assert!(effective(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn parts_keep_their_proportion(
            weights in prop::collection::vec((1_u16.., 1_u8..=100), 1..9),
        ) {
            let parts = effective(&weights);
            let wanted = |index: usize| {
                let (weight, percent) = weights[index];
                f64::from(weight) * f64::from(percent)
            };
            let sum: f64 = (0..weights.len()).map(wanted).sum();
            let total: f64 = parts.iter().copied().map(f64::from).sum();
            for (index, part) in parts.iter().enumerate() {
                prop_assert!(*part > 0);
                let (share, fair) = (f64::from(*part) / total, wanted(index) / sum);
                prop_assert!((share - fair).abs() < 0.001, "{} is not {}", share, fair);
            }
        }
    }
}
