//! Text that is shown again and again in the same place of a terminal.

use std::time::SystemTime;

use anyhow::Result;
use ratatui::crossterm::terminal;

use super::output;

/// The terminal's screen.
#[derive(Debug, Default)]
pub struct Place {
    /// What is there before the first time is not ours.
    used: bool,
}

impl Place {
    /// Shows text instead of what was shown before, as much of it as there is room for.
    pub fn show(&mut self, text: &str) -> Result<()> {
        // A terminal that does not tell its size is as those were that never changed theirs.
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        let text = format!("{now}, Ctrl-C ends\n\n{text}");
        let begin = if self.used { "\x1b[H" } else { "\x1b[H\x1b[2J" };
        self.used = true;
        output::print(&format!("{begin}{}", fitted(&text, width.into(), height.into())))
    }
}

/// Lines that end where the terminal does; what an earlier text has left behind and below is wiped away.
fn fitted(text: &str, width: usize, height: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    // The line after the last one is the cursor's.
    let room = height.saturating_sub(1).max(1);
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    let cut = |line: &str| line.chars().take(width).collect::<String>();
    let mut fitted: String = lines[..shown].iter().map(|line| cut(line) + "\x1b[K\n").collect();
    if shown < lines.len() {
        let more = format!("and {} lines more, for which there is no room", lines.len() - shown);
        fitted.push_str(&(cut(&more) + "\x1b[K\n"));
    }
    fitted.push_str("\x1b[J");
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_the_terminal_does() {
        assert_eq!(fitted("a\nbcdef\n", 4, 3), "a\x1b[K\nbcde\x1b[K\n\x1b[J");
        let cut = fitted("a\nb\nc\nd\n", 80, 4);
        assert_eq!(
            cut,
            "a\x1b[K\nb\x1b[K\nand 2 lines more, for which there is no room\x1b[K\n\x1b[J"
        );
    }
}
