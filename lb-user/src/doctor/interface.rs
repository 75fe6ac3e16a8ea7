//! An interface: whether the program can be there, how fast it runs there, and who else is there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, Level, counted, netdev::XdpFeatures};
use crate::config::XdpMode;

/// Drivers give a packet at the most the rest of a page when a program shall see all of it: 4096 bytes
/// less 256 of headroom and what a `skb_shared_info` takes.
const LARGEST_IN_A_PAGE: u32 = 3498;

/// What is known of an interface.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the kernel's own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether there is a cable.
    pub carrier: bool,
    /// Whether it is the loopback.
    pub loopback: bool,
    /// Whether it sends Ethernet frames.
    pub ethernet: bool,
    /// Whether it is a port of a bond.
    pub bonded: bool,
    /// What kind of virtual interface it is: `veth`, `vlan`, `bond`, …
    pub kind: Option<String>,
    /// The driver of a real one.
    pub driver: Option<String>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// The interface that this VLAN's is on.
    pub vlan_of: Option<String>,
    /// The VLANs' interfaces on it.
    pub vlans: Vec<String>,
    /// The program that is attached.
    pub attached: Option<Attached>,
    /// What its driver can do with programs, where the kernel tells.
    pub features: Option<XdpFeatures>,
    /// Its queues, where it has any.
    pub channels: Option<Channels>,
    /// Its offloads that are on, as `ethtool -k` and the kernel name them.
    pub offloads: BTreeSet<String>,
    /// Those among them that cannot be switched off.
    pub fixed: BTreeSet<String>,
    /// The processors of each of its interrupts.
    pub interrupts: Vec<String>,
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Where it runs.
    pub mode: Mode,
    /// The kernel's number of it.
    pub id: u32,
    /// Whose it is.
    pub owner: Owner,
}

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// After it.
    Generic,
    /// In hardware, or in several places.
    Other,
}

/// Whose a program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The one pinned where ours is.
    Us,
    /// Somebody else's, with its name where it has one.
    Somebody(Option<String>),
}

/// Queues of packets that come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// In use.
    pub used: u32,
    /// That there can be.
    pub most: u32,
}

impl Interface {
    /// Whether packets meet the program after the kernel has made socket buffers of them, as far as known.
    pub fn is_generic(&self, asked: XdpMode) -> bool {
        match &self.attached {
            Some(attached) if attached.owner == Owner::Us => attached.mode == Mode::Generic,
            _ => {
                asked == XdpMode::Generic
                    || (asked == XdpMode::Auto
                        && self.features.is_some_and(|features| !features.native()))
            }
        }
    }

    fn found(&self, level: Level, check: &'static str, message: impl Into<String>) -> Finding {
        Finding::new(level, check, &self.name, message)
    }
}

/// Judges an interface; `asked` is the configured mode, `many` whether packets leave by other ones.
pub fn check(link: &Interface, asked: XdpMode, cpus: usize, many: bool) -> Vec<Finding> {
    let mut found = vec![state(link)];
    found.extend(place(link));
    if link.loopback || !link.ethernet {
        return found;
    }
    found.push(program(link, asked));
    found.extend(redirects(link, many));
    found.extend(queues(link, cpus));
    if link.mtu > LARGEST_IN_A_PAGE && !matches!(&link.attached, Some(a) if a.mode == Mode::Native)
    {
        let message = format!(
            "an MTU of {} is more than most drivers take programs with: they refuse native mode",
            link.mtu
        );
        let remedy =
            format!("where it is refused: ip link set {} mtu {LARGEST_IN_A_PAGE}", link.name);
        found.push(link.found(Level::Note, "mtu", message).remedy(remedy));
    }
    found
}

fn state(link: &Interface) -> Finding {
    let name = &link.name;
    if link.loopback {
        return link
            .found(Level::Warning, "interface", "the loopback: no client's packet comes by it")
            .remedy("name the interfaces that traffic enters by in [node] interfaces");
    }
    if !link.ethernet {
        return link
            .found(
                Level::Problem,
                "interface",
                "it has no Ethernet frames, and the program reads nothing else",
            )
            .remedy("balance on the Ethernet interface that its packets come by");
    }
    if !link.up {
        let remedy = format!("ip link set {name} up");
        return link.found(Level::Problem, "interface", "it is down").remedy(remedy);
    }
    if !link.carrier {
        return link
            .found(Level::Problem, "interface", "it has no carrier")
            .remedy("see to its cable and to the other end");
    }
    let what =
        link.driver.as_ref().or(link.kind.as_ref()).map_or("an unknown driver", String::as_str);
    link.found(Level::Ok, "interface", format!("up, {what}, MTU {}", link.mtu))
}

/// Interfaces that are not where packets really enter.
fn place(link: &Interface) -> Option<Finding> {
    if let Some(below) = &link.vlan_of {
        let message = format!("a VLAN of {below}: programs run slowly there (generic mode)");
        let remedy = format!(
            "name {below} instead: tags are walked and kept; clients and backends of a service are then in one VLAN"
        );
        return Some(link.found(Level::Warning, "vlan", message).remedy(remedy));
    }
    link.bonded.then(|| {
        link.found(Level::Problem, "interface", "a port of a bond, which takes no program")
            .remedy("name the bond instead")
    })
}

fn program(link: &Interface, asked: XdpMode) -> Finding {
    let slow = "several times slower than native mode";
    match &link.attached {
        Some(Attached { owner: Owner::Somebody(name), id, .. }) => {
            let name = name.as_ref().map_or(String::new(), |name| format!(" {name:?}"));
            let message = format!("another XDP program{name} (id {id}) is attached; there is room for one");
            let remedy = format!(
                "`bpftool prog show id {id}` tells whose it is; stop that, or take it off: `ip link set dev {} xdp off`",
                link.name
            );
            link.found(Level::Problem, "xdp-program", message).remedy(remedy)
        }
        Some(Attached { mode: Mode::Generic, .. }) => {
            let level = if asked == XdpMode::Generic { Level::Note } else { Level::Warning };
            let message = format!("our program is attached in generic mode, {slow}");
            link.found(level, "xdp-mode", message).remedy(generic_remedy(link, asked))
        }
        Some(Attached { .. }) => link.found(Level::Ok, "xdp-mode", "our program is attached, native"),
        None if asked == XdpMode::Generic => {
            let message = format!("generic mode is asked for, {slow}");
            link.found(Level::Note, "xdp-mode", message).remedy("[node] xdp_mode = \"auto\"")
        }
        None => match link.features {
            Some(features) if features.native() => {
                link.found(Level::Ok, "xdp-mode", "its driver runs programs natively")
            }
            Some(_) => {
                let (level, then) = match asked {
                    XdpMode::Native => (Level::Problem, "and xdp_mode asks for nothing else".to_owned()),
                    _ => (Level::Warning, format!("so it gets generic mode, {slow}")),
                };
                let message = format!("its driver does not run programs natively, {then}");
                link.found(level, "xdp-mode", message).remedy(generic_remedy(link, asked))
            }
            None => link.found(
                Level::Note,
                "xdp-mode",
                "this kernel does not tell what its driver can do; `run` tries native mode, and logs what comes of it",
            ),
        },
    }
}

fn generic_remedy(link: &Interface, asked: XdpMode) -> &'static str {
    if asked == XdpMode::Generic {
        "[node] xdp_mode = \"auto\""
    } else if matches!(link.kind.as_deref(), Some("bridge")) {
        "name the bridge's ports instead; [node] xdp_mode = \"generic\" accepts it"
    } else {
        "take a network card whose driver has XDP, or try a smaller MTU and no LRO; [node] xdp_mode = \
         \"generic\" accepts it"
    }
}

/// Told of drivers under a program only: some say so only then.
fn redirects(link: &Interface, many: bool) -> Option<Finding> {
    let native =
        matches!(&link.attached, Some(Attached { mode: Mode::Native, owner: Owner::Us, .. }));
    let sends = link.features?.sends_redirected();
    if !many || !native || sends {
        return None;
    }
    let remedy = if link.kind.as_deref() == Some("veth") {
        "at the cable's other end: `ethtool -K DEV gro on`, or any XDP program"
    } else {
        "see its driver's documentation on XDP_REDIRECT: some need a queue for each processor (`ethtool -L`)"
    };
    let message = "packets that are redirected to it vanish: nothing takes them there";
    Some(link.found(Level::Problem, "xdp-redirect", message).remedy(remedy))
}

fn queues(link: &Interface, cpus: usize) -> Vec<Finding> {
    let Some(channels) = link.channels else { return Vec::new() };
    // A veth's packets are handled where they were sent.
    if cpus < 2 || link.kind.as_deref() == Some("veth") {
        return Vec::new();
    }
    let Channels { used, most } = channels;
    let mut found = Vec::new();
    let queues = counted(used as usize, "queue");
    if (used as usize) < cpus && used < most {
        let message =
            format!("{used} of {most} queues for {cpus} processors: the others stand idle");
        let enough = most.min(u32::try_from(cpus).unwrap_or(u32::MAX));
        let remedy = format!("ethtool -L {} combined {enough} (or rx)", link.name);
        found.push(link.found(Level::Warning, "queues", message).remedy(remedy));
    } else if (used as usize) < cpus {
        let message = format!("{queues} for {cpus} processors, and it has no more");
        found.push(link.found(Level::Note, "queues", message));
    } else {
        found.push(link.found(Level::Ok, "queues", format!("{queues} for {cpus} processors")));
    }
    found.extend(interrupts(link, used));
    found
}

/// Queues are worth little when one processor serves them all.
fn interrupts(link: &Interface, queues: u32) -> Option<Finding> {
    let mut loads: BTreeMap<&str, usize> = BTreeMap::new();
    for cpus in &link.interrupts {
        *loads.entry(cpus).or_default() += 1;
    }
    (queues > 1 && link.interrupts.len() > 1 && loads.len() == 1).then(|| {
        let cpu = &link.interrupts[0];
        let message = format!("processor {cpu} serves the interrupts of all {queues} queues");
        link.found(Level::Warning, "interrupts", message)
            .remedy("spread them (/proc/irq/N/smp_affinity), or run irqbalance")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card() -> Interface {
        Interface {
            name: "eth0".to_owned(),
            up: true,
            carrier: true,
            ethernet: true,
            driver: Some("ice".to_owned()),
            mtu: 1500,
            features: Some(XdpFeatures(7)),
            channels: Some(Channels { used: 8, most: 64 }),
            interrupts: vec!["0".to_owned(), "1".to_owned()],
            ..Interface::default()
        }
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the field has it")]
    fn attached(mode: Mode, owner: Owner) -> Option<Attached> {
        Some(Attached { mode, id: 7, owner })
    }

    #[test]
    fn a_good_card_is_good() {
        let found = check(&card(), XdpMode::Auto, 8, true);
        assert!(found.iter().all(|finding| finding.level == Level::Ok), "{found:?}");
    }

    #[test]
    fn each_flaw_is_named() {
        let veth = || Interface { kind: Some("veth".to_owned()), ..card() };
        let somebody = Owner::Somebody(Some("dropper".to_owned()));
        for (link, level, name) in [
            (Interface { up: false, ..card() }, Level::Problem, "interface"),
            (Interface { carrier: false, ..card() }, Level::Problem, "interface"),
            (Interface { ethernet: false, ..card() }, Level::Problem, "interface"),
            (Interface { bonded: true, ..card() }, Level::Problem, "interface"),
            (Interface { loopback: true, ethernet: false, ..card() }, Level::Warning, "interface"),
            (Interface { vlan_of: Some("eth0".into()), ..card() }, Level::Warning, "vlan"),
            (Interface { features: Some(XdpFeatures(0)), ..card() }, Level::Warning, "xdp-mode"),
            (Interface { features: None, ..card() }, Level::Note, "xdp-mode"),
            (
                Interface { attached: attached(Mode::Native, somebody), ..card() },
                Level::Problem,
                "xdp-program",
            ),
            (
                Interface { attached: attached(Mode::Generic, Owner::Us), ..card() },
                Level::Warning,
                "xdp-mode",
            ),
            (
                Interface {
                    attached: attached(Mode::Native, Owner::Us),
                    features: Some(XdpFeatures(3)),
                    ..veth()
                },
                Level::Problem,
                "xdp-redirect",
            ),
            (
                Interface { channels: Some(Channels { used: 1, most: 8 }), ..card() },
                Level::Warning,
                "queues",
            ),
            (
                Interface { channels: Some(Channels { used: 1, most: 1 }), ..card() },
                Level::Note,
                "queues",
            ),
            (Interface { interrupts: vec!["3".into(); 8], ..card() }, Level::Warning, "interrupts"),
            (Interface { mtu: 9000, ..card() }, Level::Note, "mtu"),
        ] {
            let found = check(&link, XdpMode::Auto, 8, true);
            let worst = found.iter().max_by_key(|finding| finding.level).unwrap();
            assert_eq!((worst.level, worst.check), (level, name), "{found:?}");
            assert!(worst.level < Level::Warning || worst.remedy.is_some(), "{worst:?}");
        }
    }

    #[test]
    fn the_mode_that_is_asked_for_decides_how_bad_generic_is() {
        let link = Interface { features: Some(XdpFeatures(0)), ..card() };
        let level = |asked| program(&link, asked).level;
        assert_eq!(level(XdpMode::Native), Level::Problem);
        assert_eq!(level(XdpMode::Auto), Level::Warning);
        assert_eq!(level(XdpMode::Generic), Level::Note);
        assert!(link.is_generic(XdpMode::Auto));
        assert!(!card().is_generic(XdpMode::Auto));
        assert!(card().is_generic(XdpMode::Generic));
    }

    #[test]
    fn one_interface_redirects_nothing() {
        let link = Interface {
            attached: attached(Mode::Native, Owner::Us),
            features: Some(XdpFeatures(3)),
            ..card()
        };
        assert!(redirects(&link, true).is_some());
        assert!(redirects(&link, false).is_none());
    }
}
