//! A report as JUnit XML, the form that CI systems read: a suite a service, a case for the balance and
//! one for each backend down.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use quick_xml::{
    Writer,
    events::{BytesEnd, BytesStart, BytesText, Event},
};

use super::report::{Problem, Report, ServiceReport, Split};

type Xml = Writer<Vec<u8>>;

/// A case: its name, what is wrong, and what was measured.
struct Case<'a> {
    name: String,
    problems: &'a [Problem],
    split: Option<&'a Split>,
}

/// The report as JUnit XML.
///
/// # Errors
///
/// Never but for want of memory.
pub fn junit(report: &Report) -> Result<String> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    write(&mut xml, report).context("write JUnit XML")?;
    xml.get_mut().write_all(b"\n")?;
    String::from_utf8(xml.into_inner()).context("JUnit XML is text")
}

fn write(xml: &mut Xml, report: &Report) -> io::Result<()> {
    let suites: Vec<_> = report.services.iter().map(|service| (service, cases(service))).collect();
    let host = [Case { name: "tables".to_owned(), problems: &report.problems, split: None }];
    let all = || suites.iter().flat_map(|(_, cases)| cases).chain(&host);
    let seconds = format!("{}.{:03}", report.milliseconds / 1_000, report.milliseconds % 1_000);
    let mut root = BytesStart::new("testsuites");
    root.push_attribute(("name", "evenkeel verify"));
    count(&mut root, all());
    root.push_attribute(("time", &*seconds));
    let declaration = quick_xml::events::BytesDecl::new("1.0", Some("UTF-8"), None);
    xml.write_event(Event::Decl(declaration))?;
    xml.write_event(Event::Start(root))?;
    suite(xml, "host", &host)?;
    for (service, cases) in &suites {
        suite(xml, &service.name, cases)?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuites")))
}

fn cases(service: &ServiceReport) -> Vec<Case<'_>> {
    let balance = Case {
        name: "all backends up".to_owned(),
        problems: &service.problems,
        split: Some(&service.balance),
    };
    let failure = |failure: &'_ super::Failure| format!("{} down", failure.backend);
    let failures = service.failures.iter().map(|one| Case {
        name: failure(one),
        problems: &one.problems,
        split: Some(&one.split),
    });
    std::iter::once(balance).chain(failures).collect()
}

fn count<'a>(element: &mut BytesStart<'_>, cases: impl Iterator<Item = &'a Case<'a>>) {
    let (mut tests, mut failures) = (0, 0);
    for case in cases {
        tests += 1;
        failures += usize::from(!case.problems.is_empty());
    }
    element.push_attribute(("tests", &*tests.to_string()));
    element.push_attribute(("failures", &*failures.to_string()));
    element.push_attribute(("errors", "0"));
}

fn suite(xml: &mut Xml, name: &str, cases: &[Case<'_>]) -> io::Result<()> {
    let mut element = BytesStart::new("testsuite");
    element.push_attribute(("name", name));
    count(&mut element, cases.iter());
    xml.write_event(Event::Start(element))?;
    for case in cases {
        let mut element = BytesStart::new("testcase");
        element.push_attribute(("classname", &*format!("verify.{name}")));
        element.push_attribute(("name", &*case.name));
        xml.write_event(Event::Start(element))?;
        if let [first, ..] = case.problems {
            let mut element = BytesStart::new("failure");
            element.push_attribute(("type", kind(first).as_str()));
            element.push_attribute(("message", &*first.message));
            let messages: Vec<_> =
                case.problems.iter().map(|problem| problem.message.as_str()).collect();
            xml.write_event(Event::Start(element))?;
            xml.write_event(Event::Text(BytesText::new(&messages.join("\n"))))?;
            xml.write_event(Event::End(BytesEnd::new("failure")))?;
        }
        if let Some(split) = case.split {
            xml.write_event(Event::Start(BytesStart::new("system-out")))?;
            xml.write_event(Event::Text(BytesText::new(&measured(split))))?;
            xml.write_event(Event::End(BytesEnd::new("system-out")))?;
        }
        xml.write_event(Event::End(BytesEnd::new("testcase")))?;
    }
    xml.write_event(Event::End(BytesEnd::new("testsuite")))
}

fn kind(problem: &Problem) -> String {
    let value = serde_json::to_value(problem.kind).unwrap_or_default();
    value.as_str().unwrap_or("problem").to_owned()
}

fn measured(split: &Split) -> String {
    let mut lines = vec![format!(
        "{} connections from {} clients: largest over fair {:.4}, variation {:.4}, chi-square p {:.4}",
        split.connections, split.clients, split.max_over_fair, split.variation, split.p
    )];
    for backend in &split.backends {
        lines.push(format!(
            "{}: {} connections, {:.3}% where {:.3}% is fair",
            backend.name,
            backend.connections,
            backend.share * 100.0,
            backend.expected_share * 100.0
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use quick_xml::{Reader, XmlVersion, events::Event};

    use super::*;
    use crate::{
        config::{Forwarding, Protocol, Scheduler, Verify},
        verify::{Failure, ProblemKind},
    };

    fn problem(message: &str) -> Problem {
        Problem { kind: ProblemKind::Overload, backend: None, message: message.to_owned() }
    }

    fn report() -> Report {
        let service = ServiceReport {
            name: "web".to_owned(),
            address: "192.0.2.10:80".to_owned(),
            protocol: Protocol::Tcp,
            scheduler: Scheduler::RoundRobin,
            forwarding: Forwarding::Nat,
            expected_connections: None,
            passed: false,
            problems: Vec::new(),
            warnings: Vec::new(),
            balance: Split::default(),
            failures: vec![Failure {
                backend: "web-01".to_owned(),
                passed: false,
                problems: vec![problem("\"web-02\" <&> 'more'"), problem("]]> another")],
                split: Split::default(),
            }],
            failures_left_out: 0,
        };
        Report {
            passed: false,
            seed: 1,
            thresholds: Verify::default(),
            services: vec![service],
            problems: Vec::new(),
            notes: Vec::new(),
            milliseconds: 1_050,
        }
    }

    #[test]
    fn is_well_formed_and_says_what_failed() {
        let text = junit(&report()).unwrap();
        let mut reader = Reader::from_str(&text);
        let (mut open, mut seen, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match reader.read_event().unwrap() {
                Event::Eof => break,
                Event::Start(start) => {
                    let name = start.name().as_ref().to_owned();
                    let of = |wanted: &str| {
                        start.try_get_attribute(wanted).unwrap().map(|attribute| {
                            attribute
                                .normalized_value(XmlVersion::Explicit1_0)
                                .unwrap()
                                .into_owned()
                        })
                    };
                    if name == "failure" {
                        failed.push(of("message").unwrap());
                    }
                    if name == "testsuites" {
                        assert_eq!(of("tests").as_deref(), Some("3"));
                        assert_eq!(of("failures").as_deref(), Some("1"));
                        assert_eq!(of("time").as_deref(), Some("1.050"));
                    }
                    if name == "testcase" {
                        seen.push(format!("{}/{}", of("classname").unwrap(), of("name").unwrap()));
                    }
                    open.push(name);
                }
                Event::End(end) => {
                    assert_eq!(open.pop().unwrap(), *end.name().as_ref());
                }
                _ => {}
            }
        }
        assert!(open.is_empty(), "{text}");
        assert_eq!(failed, ["\"web-02\" <&> 'more'"]);
        let cases = ["verify.host/tables", "verify.web/all backends up", "verify.web/web-01 down"];
        assert_eq!(seen, cases);
    }
}
