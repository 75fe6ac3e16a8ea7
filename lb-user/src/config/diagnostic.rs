//! Diagnostics: what is wrong with a text, where, and what to do about it. Here byte offsets
//! become lines and columns. Nothing here knows what a configuration means.

use std::{
    error::Error,
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    str::Utf8Error,
};

use serde::Serialize;

/// One finding about a configuration.
///
/// Displays as `evenkeel.toml:12:1: error: unknown key "wieght" in [[service.backend]]; did you
/// mean "weight"?`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the configuration may be used all the same.
    pub severity: Severity,
    /// The file that the text came from.
    pub file: PathBuf,
    /// Where in the file; `None` for a finding about the file as a whole.
    #[serde(flatten)]
    pub position: Option<Position>,
    /// What is wrong, naming the object.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// How much a [`Diagnostic`] weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// Legal but dangerous.
    Warning,
}

/// A place in a text; both numbers start at 1, and columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// A configuration that cannot be used. Displays one diagnostic a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// All findings in the order of the text; at least one is an error.
    pub diagnostics: Vec<Diagnostic>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Position { line, column }) = self.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}: {}", self.severity, self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        Ok(())
    }
}

impl Error for Invalid {}

impl Invalid {
    pub(super) fn unreadable(file: &Path, error: &io::Error) -> Self {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "create it, or name another file with --config",
            io::ErrorKind::PermissionDenied => "make it readable for the user of the daemon",
            _ => "check the path and its file system",
        };
        Self::whole_file(file, None, format!("cannot read the configuration: {error}"), remedy)
    }

    pub(super) fn not_utf8(file: &Path, error: Utf8Error, bytes: &[u8]) -> Self {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let position = Source::new(&good, file).position(good.len());
        let remedy = "save it as UTF-8";
        Self::whole_file(file, Some(position), "the file is not UTF-8 text".to_owned(), remedy)
    }

    fn whole_file(
        file: &Path,
        position: Option<Position>,
        message: String,
        remedy: &'static str,
    ) -> Self {
        let severity = Severity::Error;
        let (file, remedy) = (file.to_owned(), remedy.to_owned());
        Self { diagnostics: vec![Diagnostic { severity, file, position, message, remedy }] }
    }
}

/// A text with its name and an index of its lines.
pub(super) struct Source<'t> {
    pub(super) text: &'t str,
    file: &'t Path,
    line_starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str, file: &'t Path) -> Self {
        let after_newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, file, line_starts: std::iter::once(0).chain(after_newlines).collect() }
    }

    pub(super) fn position(&self, offset: usize) -> Position {
        let line = self.line_starts.partition_point(|&start| start <= offset);
        let start = self.line_starts[line - 1];
        let before = self.text.get(start..offset).map_or(0, |text| text.chars().count());
        Position { line, column: before + 1 }
    }
}

/// Collects the findings about one [`Source`].
pub(super) struct Sink<'s, 't> {
    pub(super) source: &'s Source<'t>,
    found: Vec<Diagnostic>,
}

impl<'s, 't> Sink<'s, 't> {
    pub(super) fn new(source: &'s Source<'t>) -> Self {
        Self { source, found: Vec::new() }
    }

    pub(super) fn error(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Severity::Error, span, message.into(), remedy.into());
    }

    pub(super) fn warning(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Severity::Warning, span, message.into(), remedy.into());
    }

    /// An error in another file that belongs to the configuration.
    pub(super) fn error_in(
        &mut self,
        file: &Path,
        position: Position,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (file, position) = (file.to_owned(), Some(position));
        let (message, remedy) = (message.into(), remedy.into());
        self.found.push(Diagnostic { severity: Severity::Error, file, position, message, remedy });
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.source.position(span.start).line
    }

    /// How many errors there are so far.
    pub(super) fn errors(&self) -> usize {
        self.found.iter().filter(|found| found.severity == Severity::Error).count()
    }

    /// The findings in the order of the text, those of other files after them.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        let main = self.source.file;
        self.found.sort_by(|a, b| {
            let elsewhere = |found: &Diagnostic| found.file != main;
            let by_file = elsewhere(a).cmp(&elsewhere(b)).then_with(|| a.file.cmp(&b.file));
            by_file.then_with(|| a.position.cmp(&b.position))
        });
        self.found
    }

    fn push(&mut self, severity: Severity, span: &Range<usize>, message: String, remedy: String) {
        let position = Some(self.source.position(span.start));
        let file = self.source.file.to_owned();
        self.found.push(Diagnostic { severity, file, position, message, remedy });
    }
}
