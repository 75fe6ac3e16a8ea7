//! What is wrong with the node among others: addresses that are not announced as they shall be, and a drain that
//! may be forgotten.

use super::{
    super::{Kind, facts::Facts},
    Finding,
};
use crate::config::alerts::Alerts;

pub(super) fn judge(found: &mut Vec<Finding>, facts: &Facts<'_>, config: &Alerts) {
    for announcement in &facts.announcements {
        let Some(problem) = &announcement.problem else { continue };
        let does = if announcement.wanted { "announced" } else { "withdrawn" };
        let address = &announcement.address;
        for service in &announcement.services {
            let summary = format!("{address} of {service} cannot be {does}: {problem}");
            let finding = Finding::of_service(Kind::AnnounceFailed, service, true, summary);
            let finding = finding.text("address", address).text("by", &announcement.by);
            found.push(finding.text("problem", problem));
        }
    }
    let Some((drain, lasts)) = facts.node_drain else { return };
    if drain.until.is_some() && lasts <= config.reminder {
        return;
    }
    let since = humantime::format_rfc3339_seconds(drain.since);
    let summary = format!("this node is drained since {since}, by {}: {}", drain.by, drain.reason);
    let finding = Finding::of_host(Kind::NodeDrained, true, summary);
    let finding = finding.text("by", drain.by.to_string()).text("reason", &drain.reason);
    found.push(finding.count("seconds", lasts.as_secs()));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{
        admin::NodeDrain,
        api::{Peer, model::Announcement},
        config::AnnounceWay,
    };

    fn judged(facts: &Facts<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        judge(&mut found, facts, &Alerts::default());
        found
    }

    #[test]
    fn a_failed_announcement_is_each_services() {
        let well = Announcement {
            address: "192.0.2.10".into(),
            way: AnnounceWay::Hook,
            by: "/bin/hook".into(),
            services: vec!["web".into(), "tls".into()],
            wanted: true,
            announced: true,
            why: String::new(),
            seconds: 1,
            problem: None,
        };
        let mut facts = Facts { announcements: vec![well.clone()], ..Facts::default() };
        assert_eq!(judged(&facts), []);
        let problem = Some("exit code 1".to_owned());
        facts.announcements = vec![Announcement { announced: false, problem, ..well }];
        let found = judged(&facts);
        assert_eq!(
            found.iter().filter_map(|f| f.service.as_deref()).collect::<Vec<_>>(),
            ["web", "tls"]
        );
        assert_eq!(found[0].summary, "192.0.2.10 of web cannot be announced: exit code 1");
    }

    #[test]
    fn a_drain_is_told_once_it_may_be_forgotten() {
        let since = SystemTime::UNIX_EPOCH;
        let drain =
            |until| NodeDrain { since, until, reason: "new kernel".into(), by: Peer::of(0) };
        let hour = Duration::from_hours(1);
        let ends = drain(Some(since + hour * 5));
        let told = |drain, lasts| {
            judged(&Facts { node_drain: Some((drain, lasts)), ..Facts::default() }).len()
        };
        assert_eq!(told(&ends, hour), 0);
        assert_eq!(told(&ends, hour + Duration::from_secs(1)), 1);
        assert_eq!(told(&drain(None), Duration::ZERO), 1);
    }
}
