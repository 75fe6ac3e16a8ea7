//! What is wrong with the store that edges share, and with the other edges.

use super::{
    super::{
        Kind,
        facts::{Facts, StoreFacts},
    },
    Finding,
};

pub(super) fn judge(found: &mut Vec<Finding>, facts: &Facts<'_>) {
    let Some(store) = &facts.store else { return };
    if !store.connected {
        let why =
            if store.problem.is_empty() { "no member has answered yet" } else { &store.problem };
        let summary = format!(
            "etcd does not answer: what is at work goes on, and no edge can change it; {why}"
        );
        let finding = Finding::of_host(Kind::StoreUnreachable, true, summary);
        found.push(finding.text("why", why).count("revision", store.revision));
    } else if !store.problem.is_empty() {
        let summary = format!("the other edges do not hear of this one: {}", store.problem);
        let finding = Finding::of_host(Kind::StoreUnreachable, true, summary);
        found.push(finding.text("why", &store.problem));
    }
    if let Some((revision, why)) = store.refused {
        let summary = format!("revision {revision} of the store is not taken here: {why}");
        let finding = Finding::of_host(Kind::StoreRefused, true, summary).text("why", why);
        found.push(finding.count("refused", revision).count("revision", store.revision));
    }
    others(found, store);
}

fn others(found: &mut Vec<Finding>, store: &StoreFacts<'_>) {
    // Who cannot be asked may be well.
    if !store.connected {
        found.push(Finding::unknown_of_host(Kind::EdgeLost));
        found.push(Finding::unknown_of_host(Kind::EdgeBehind));
        return;
    }
    if !store.lost.is_empty() {
        let names = store.lost.join(", ");
        let summary =
            format!("not heard: {names}; `evenkeel store forget` where an edge is gone for good");
        found.push(Finding::of_host(Kind::EdgeLost, true, summary).text("edges", names));
    }
    if !store.behind.is_empty() {
        let each = store.behind.iter().map(|(name, why)| format!("{name} ({why})"));
        let summary = format!(
            "edges have not applied the newest revision: {}",
            each.collect::<Vec<_>>().join(", ")
        );
        let names: Vec<_> = store.behind.iter().map(|(name, _)| *name).collect();
        let finding = Finding::of_host(Kind::EdgeBehind, true, summary);
        found.push(finding.text("edges", names.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(store: StoreFacts<'_>) -> Vec<(Kind, bool)> {
        let mut found = Vec::new();
        judge(&mut found, &Facts { store: Some(store), ..Facts::default() });
        found.into_iter().map(|finding| (finding.kind, finding.certain)).collect()
    }

    #[test]
    fn each_trouble_is_an_alert_of_its_own() {
        let well = || StoreFacts { connected: true, revision: 7, ..StoreFacts::default() };
        assert_eq!(judged(well()), []);
        let lost = StoreFacts { connected: false, ..well() };
        // What was known of the others stays so.
        let expected =
            [(Kind::StoreUnreachable, true), (Kind::EdgeLost, false), (Kind::EdgeBehind, false)];
        assert_eq!(judged(lost), expected);
        let named = StoreFacts { problem: "another edge is called so".into(), ..well() };
        assert_eq!(judged(named), [(Kind::StoreUnreachable, true)]);
        let refused = StoreFacts { refused: Some((9, "it is poisoned")), ..well() };
        assert_eq!(judged(refused), [(Kind::StoreRefused, true)]);
        let others = StoreFacts {
            lost: vec!["edge-2"],
            behind: vec![("edge-3", "it is at revision 6".into())],
            ..well()
        };
        assert_eq!(judged(others), [(Kind::EdgeLost, true), (Kind::EdgeBehind, true)]);
    }
}
