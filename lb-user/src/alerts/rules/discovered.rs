//! What is wrong with the sources of discovered backends.

use super::{
    super::{Kind, facts::ServiceFacts},
    Finding,
};

pub(super) fn judge(found: &mut Vec<Finding>, service: &ServiceFacts<'_>) {
    let troubled =
        service.sources.iter().filter_map(|source| Some((source, source.problem.as_ref()?)));
    let Some((source, problem)) = troubled.clone().next() else { return };
    let more = match troubled.count() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    let summary = format!(
        "{} of {} gives no usable answer{more}, and what was known of it stays: {problem}",
        source.source, service.name
    );
    let finding = Finding::of_service(Kind::DiscoveryFailed, service.name, true, summary);
    let finding = finding.text("source", &source.source).text("problem", problem);
    let finding = finding.text("since", source.since.as_deref().unwrap_or("unknown"));
    let finding = finding.text("last_answer", source.answered.as_deref().unwrap_or("never"));
    found.push(finding.count("known_backends", source.backends));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::SourceStatus;

    #[test]
    fn a_source_without_an_answer_is_told_with_what_stays() {
        let well =
            SourceStatus { source: "dns:a.b:80".into(), backends: 3, ..SourceStatus::default() };
        let mut service =
            ServiceFacts { name: "web", sources: vec![well.clone()], ..ServiceFacts::default() };
        let judged = |service: &ServiceFacts<'_>| {
            let mut found = Vec::new();
            judge(&mut found, service);
            found
        };
        assert_eq!(judged(&service), []);
        let since = Some("2026-11-27T06:00:00Z".to_owned());
        let bad = |source: &str| SourceStatus {
            source: source.into(),
            problem: Some("SERVFAIL".into()),
            since: since.clone(),
            ..well.clone()
        };
        service.sources = vec![well.clone(), bad("dns:c.d:80"), bad("file:/e")];
        let found = judged(&service);
        assert_eq!(
            found[0].summary,
            "dns:c.d:80 of web gives no usable answer (and 1 more), and what was known of it stays: SERVFAIL"
        );
        let evidence = serde_json::to_value(&found[0].evidence).unwrap();
        assert_eq!(evidence["since"], "2026-11-27T06:00:00Z");
        assert_eq!(
            (&evidence["last_answer"], &evidence["known_backends"]),
            (&"never".into(), &3.into())
        );
    }
}
