//! Offloads: what a network card or the kernel does to packets before the program sees them.

use super::{Finding, Level, interface::Interface};
use crate::config::XdpMode;

/// Large receive offload, as the kernel names it (net/ethtool/common.c).
const LRO: &str = "rx-lro";
const GRO_HW: &str = "rx-gro-hw";
const GRO: &str = "rx-gro";
const VLAN: &str = "rx-vlan-hw-parse";

/// Judges an interface's offloads.
pub fn check(link: &Interface, asked: XdpMode) -> Vec<Finding> {
    if link.loopback || !link.ethernet {
        return Vec::new();
    }
    let on = |offload: &str| link.offloads.contains(offload);
    let off = |word: &str, offload: &str| {
        if link.fixed.contains(offload) {
            format!("the driver does not let it be switched off (`ethtool -k {}`)", link.name)
        } else {
            format!("ethtool -K {} {word} off", link.name)
        }
    };
    let found = |check, message: &str, remedy: String| {
        Finding::new(Level::Warning, check, &link.name, message).remedy(remedy)
    };
    let mut all = Vec::new();
    if on(LRO) {
        let message = "the card merges packets (LRO): merged ones are too big to be sent on, and most \
                       drivers refuse native mode with it";
        all.push(found("lro", message, off("lro", LRO)));
    }
    if on(GRO_HW) && !link.fixed.contains(GRO_HW) && link.attached.is_none() {
        // Drivers that can do without switch it off when a program comes.
        let message =
            "the card merges packets (GRO in hardware); a few drivers refuse native mode with it";
        let note = Finding::new(Level::Note, "gro-hw", &link.name, message);
        all.push(note.remedy(format!("where it is refused: {}", off("rx-gro-hw", GRO_HW))));
    }
    if on(GRO) && link.is_generic(asked) {
        let message = "the kernel merges packets (GRO) before a program in generic mode sees them: merged \
                       ones are answered as too big";
        all.push(found("gro", message, off("gro", GRO)));
    }
    if on(VLAN) && !link.vlans.is_empty() {
        let message = format!(
            "the card takes VLAN tags off before the program sees them ({} is on it): tagged packets would \
             leave untagged",
            link.vlans.join(", ")
        );
        all.push(found("vlan-offload", &message, off("rxvlan", VLAN)));
    }
    if all.is_empty() {
        let message = "none that disturbs";
        all.push(Finding::new(Level::Ok, "offloads", &link.name, message));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::netdev::XdpFeatures;

    fn with(offloads: &[&str]) -> Interface {
        Interface {
            name: "eth0".to_owned(),
            ethernet: true,
            offloads: offloads.iter().map(ToString::to_string).collect(),
            features: Some(XdpFeatures(7)),
            ..Interface::default()
        }
    }

    #[test]
    fn offloads_count_where_they_disturb() {
        let names = |link: &Interface, asked| -> Vec<&str> {
            check(link, asked).iter().map(|finding| finding.check).collect()
        };
        assert_eq!(names(&with(&["rx-gro", "tx-checksum-ipv4"]), XdpMode::Auto), ["offloads"]);
        assert_eq!(names(&with(&["rx-lro"]), XdpMode::Auto), ["lro"]);
        assert_eq!(names(&with(&["rx-gro-hw"]), XdpMode::Auto), ["gro-hw"]);
        assert_eq!(names(&with(&["rx-gro"]), XdpMode::Generic), ["gro"]);
        assert_eq!(names(&with(&["rx-vlan-hw-parse"]), XdpMode::Auto), ["offloads"]);
        let tagged = Interface { vlans: vec!["eth0.7".into()], ..with(&["rx-vlan-hw-parse"]) };
        assert_eq!(names(&tagged, XdpMode::Auto), ["vlan-offload"]);
    }

    #[test]
    fn what_cannot_be_switched_off_is_not_asked_for() {
        let fixed = Interface { fixed: ["rx-lro".to_owned()].into(), ..with(&["rx-lro"]) };
        let remedy = check(&fixed, XdpMode::Auto)[0].remedy.clone().unwrap();
        assert!(remedy.contains("does not let"), "{remedy}");
        let remedy = check(&with(&["rx-lro"]), XdpMode::Auto)[0].remedy.clone().unwrap();
        assert_eq!(remedy, "ethtool -K eth0 lro off");
    }
}
