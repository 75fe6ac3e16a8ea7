//! A line of an agent: words like `up`, `drain` and `75%`, in the manner of `HAProxy`'s agent
//! checks.
//!
//! Each line says all: what it does not say is as if the agent had never said it. Pure.

use std::{fmt, str::FromStr};

/// What an agent says of its backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentReport {
    /// The share of its configured weight that the backend wants, 1 to 100; absent: all of it.
    pub weight_percent: Option<u8>,
    /// What it wants.
    pub wants: Wants,
    /// Why, in the agent's words; may be empty.
    pub reason: String,
}

/// What a backend wants by its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// New connections.
    Ready,
    /// No new connections; those that are open go on.
    Drain,
    /// The same, because somebody works on it.
    Maintenance,
    /// Its service does not work.
    Down,
}

/// A line that is no report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its line {line:?} {fault}")]
pub struct NotAReport {
    line: String,
    fault: String,
}

/// The words, with what they say and of what: of two about the same, one is too many.
const WORDS: [(&str, Wants, About); 7] = [
    ("up", Wants::Ready, About::Service),
    ("down", Wants::Down, About::Service),
    ("failed", Wants::Down, About::Service),
    ("stopped", Wants::Down, About::Service),
    ("ready", Wants::Ready, About::Administration),
    ("drain", Wants::Drain, About::Administration),
    ("maint", Wants::Maintenance, About::Administration),
];

#[derive(Clone, Copy, PartialEq)]
enum About {
    Service,
    Administration,
}

impl FromStr for AgentReport {
    type Err = NotAReport;

    fn from_str(line: &str) -> Result<Self, NotAReport> {
        let wrong = |fault: String| NotAReport { line: line.to_owned(), fault };
        let (words, reason) = line.split_once('#').unwrap_or((line, ""));
        let mut percent = None;
        let mut said: Vec<(&str, Wants, About)> = Vec::new();
        for word in words.split(|c: char| c.is_ascii_whitespace() || c == ',') {
            if word.is_empty() {
                continue;
            }
            if let Some(digits) = word.strip_suffix('%') {
                let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse());
                match number {
                    Some(Ok(number @ 0..=100)) if percent.is_none() => percent = Some(number),
                    Some(Ok(0..=100)) => return Err(wrong("names two percentages".to_owned())),
                    _ => return Err(wrong(format!("asks for {word}; use 1% to 100%"))),
                }
                continue;
            }
            let Some(known) = WORDS.into_iter().find(|(known, ..)| *known == word) else {
                let known = WORDS.map(|(known, ..)| known).join(", ");
                return Err(wrong(format!("has the unknown word {word:?}; use {known} or NN%")));
            };
            if let Some((other, ..)) = said.iter().find(|(.., about)| *about == known.2) {
                return Err(wrong(format!("says both {other} and {word}")));
            }
            said.push(known);
        }
        if said.is_empty() && percent.is_none() {
            return Err(wrong(format!(
                "says nothing; use {} or NN%",
                WORDS.map(|(known, ..)| known).join(", ")
            )));
        }
        let says = |wants| said.iter().any(|(_, said, _)| *said == wants);
        let wants = [Wants::Down, Wants::Maintenance, Wants::Drain].into_iter().find(|w| says(*w));
        // No share at all is what draining is.
        let idle = if percent == Some(0) { Wants::Drain } else { Wants::Ready };
        let mut reason = printable(reason);
        if reason.is_empty()
            && let Some((word, ..)) =
                said.iter().find(|(word, ..)| matches!(*word, "failed" | "stopped"))
        {
            (*word).clone_into(&mut reason);
        }
        Ok(Self {
            weight_percent: percent.filter(|percent| *percent > 0),
            wants: wants.unwrap_or(idle),
            reason,
        })
    }
}

fn printable(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).collect()
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maintenance => "maint",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for AgentReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.wants, self.weight_percent) {
            (Wants::Ready, Some(percent)) => write!(f, "{percent}%")?,
            (wants, None) => wants.fmt(f)?,
            (wants, Some(percent)) => write!(f, "{wants} {percent}%")?,
        }
        if self.reason.is_empty() { Ok(()) } else { write!(f, " ({})", self.reason) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_say_what_they_say() {
        use Wants::{Down, Drain, Maintenance, Ready};
        for (line, percent, wants, shown) in [
            ("up", None, Ready, "ready"),
            ("ready", None, Ready, "ready"),
            ("50%", Some(50), Ready, "50%"),
            ("100%\t", Some(100), Ready, "100%"),
            ("ready up 75%", Some(75), Ready, "75%"),
            ("up,1%", Some(1), Ready, "1%"),
            ("0%", None, Drain, "drain"),
            ("drain", None, Drain, "drain"),
            ("up drain", None, Drain, "drain"),
            ("drain 20%", Some(20), Drain, "drain 20%"),
            ("maint #new kernel", None, Maintenance, "maint (new kernel)"),
            ("down # disk full ", None, Down, "down (disk full)"),
            ("down#no \u{7} bell", None, Down, "down (no  bell)"),
            ("stopped", None, Down, "down (stopped)"),
            ("failed #oom", None, Down, "down (oom)"),
            ("maint down", None, Down, "down"),
        ] {
            let report: AgentReport = line.parse().unwrap();
            assert_eq!((report.weight_percent, report.wants), (percent, wants), "{line}");
            assert_eq!(report.to_string(), shown, "{line}");
        }
    }

    #[test]
    fn what_is_no_word_is_refused_by_name() {
        for (line, fault) in [
            ("", "says nothing"),
            (" , ", "says nothing"),
            ("#why", "says nothing"),
            ("Up", "unknown word \"Up\""),
            ("up maxconn:30", "unknown word \"maxconn:30\""),
            ("101%", "asks for 101%; use 1% to 100%"),
            ("-5%", "asks for -5%"),
            ("+5%", "asks for +5%"),
            ("%", "asks for %"),
            ("99999999999%", "asks for"),
            ("10% 20%", "two percentages"),
            ("up down", "says both up and down"),
            ("ready drain", "says both ready and drain"),
            ("drain drain", "says both drain and drain"),
        ] {
            let error = line.parse::<AgentReport>().unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_a_sane_report_or_none(line in ".{0,80}") {
            if let Ok(report) = line.parse::<AgentReport>() {
                prop_assert!(report.weight_percent.is_none_or(|percent| (1..=100).contains(&percent)));
                prop_assert!(!report.to_string().chars().any(char::is_control));
            }
        }
    }
}
