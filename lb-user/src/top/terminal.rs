//! The terminal: taken over, painted with few bytes, and given back whatever happens.
//!
//! ratatui finds out which cells changed; what is written for them is ours, for two reasons. The colours are
//! the sixteen that every terminal knows (SGR 30 to 37 and 90 to 97; crossterm writes those of 256 only,
//! which an older one takes for blinking). And where nothing changed, nothing at all is written.

use std::{
    io::{self, Write},
    panic,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use ratatui::{
    Terminal,
    backend::{Backend, ClearType, WindowSize},
    buffer::Cell,
    crossterm::terminal,
    layout::{Position, Size},
    style::{Color, Modifier},
};

use super::{app::App, view};

/// Another screen, without the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Plain letters, the cursor, and the screen as it was.
const LEAVE: &str = "\x1b[m\x1b[?25h\x1b[?1049l";
/// What is between is shown at once, by terminals that can.
const TOGETHER: (&str, &str) = ("\x1b[?2026h", "\x1b[?2026l");

/// Whether the terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, as long as it is ours.
pub struct Screen {
    terminal: Terminal<Paint>,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it says anything.
    ///
    /// # Errors
    ///
    /// Where standard output is no terminal, or one that is gone.
    pub fn take() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |panicked| {
                give_back();
                before(panicked);
            }));
        });
        let paint = Paint::new(|| terminal::size().map(|(width, height)| Size { width, height }));
        let screen = Self { terminal: Terminal::new(paint)? };
        enter()?;
        Ok(screen)
    }

    /// Paints what changed.
    ///
    /// # Errors
    ///
    /// Where the terminal is gone.
    pub fn draw(&mut self, app: &App) -> io::Result<()> {
        // After a panic elsewhere this would paint over what it says.
        if !TAKEN.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.terminal.draw(|frame| view::draw(frame, app))?;
        let bytes = self.terminal.backend_mut().take();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let (begin, end) = TOGETHER;
        out.write_all(&[begin.as_bytes(), &bytes, end.as_bytes()].concat())?;
        out.flush()
    }

    /// Paints everything the next time.
    ///
    /// # Errors
    ///
    /// Where the terminal is gone.
    pub fn forget(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    /// Gives the terminal back, does something, and takes it again.
    ///
    /// # Errors
    ///
    /// Where the terminal is gone.
    pub fn without(&mut self, something: impl FnOnce()) -> io::Result<()> {
        give_back();
        something();
        enter()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let mut out = io::stdout().lock();
    out.write_all(ENTER.as_bytes())?;
    out.flush()
}

/// Whoever is first does it; a terminal that is gone needs nothing.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        let _ = terminal::disable_raw_mode();
    }
}

/// Turns cells into bytes.
pub struct Paint {
    bytes: Vec<u8>,
    size: fn() -> io::Result<Size>,
}

impl Paint {
    /// For a terminal that has this size whenever it is asked.
    pub fn new(size: fn() -> io::Result<Size>) -> Self {
        Self { bytes: Vec::new(), size }
    }

    /// What there is to write.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Backend for Paint {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let mut at: Option<(u16, u16)> = None;
        let plain = (Color::Reset, Color::Reset, Modifier::empty());
        let mut style = plain;
        for (x, y, cell) in content {
            match at {
                Some((last, row)) if row == y && last + 1 == x => {}
                Some((_, row)) if row == y => write!(self.bytes, "\x1b[{}G", x + 1)?,
                _ => write!(self.bytes, "\x1b[{};{}H", y + 1, x + 1)?,
            }
            at = Some((x, y));
            let wanted = (cell.fg, cell.bg, cell.modifier);
            if wanted != style {
                style = wanted;
                self.bytes.extend(rendition(wanted).bytes());
            }
            self.bytes.extend(cell.symbol().bytes());
        }
        if style != plain {
            self.bytes.extend(b"\x1b[m");
        }
        Ok(())
    }

    fn clear_region(&mut self, _: ClearType) -> io::Result<()> {
        self.bytes.extend(b"\x1b[m\x1b[2J");
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.clear_region(ClearType::All)
    }

    fn size(&self) -> io::Result<Size> {
        (self.size)()
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::default() })
    }

    // The cursor is hidden as long as the terminal is ours, and nobody asks where it is.
    fn hide_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, _: P) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// "Select graphic rendition" (ECMA-48, 8.3.117) of a style, from any other one.
fn rendition((front, back, modifier): (Color, Color, Modifier)) -> String {
    const MODIFIERS: [(Modifier, u8); 4] = [
        (Modifier::BOLD, 1),
        (Modifier::DIM, 2),
        (Modifier::UNDERLINED, 4),
        (Modifier::REVERSED, 7),
    ];
    let mut text = "\x1b[".to_owned();
    let set = MODIFIERS.iter().filter(|(set, _)| modifier.contains(*set)).map(|(_, code)| *code);
    let colours = [(front, 0), (back, 10)];
    let colours = colours.iter().filter_map(|(colour, over)| Some(code(*colour)? + over));
    for number in std::iter::once(0).chain(set).chain(colours) {
        // An absent number is 0.
        if number == 0 {
            continue;
        }
        text.push(';');
        text.push_str(&number.to_string());
    }
    text.push('m');
    text
}

/// A colour's number as that of letters; `None`: the terminal's own.
fn code(colour: Color) -> Option<u8> {
    Some(match colour {
        Color::Black => 30,
        Color::Red => 31,
        Color::Green => 32,
        Color::Yellow => 33,
        Color::Blue => 34,
        Color::Magenta => 35,
        Color::Cyan => 36,
        Color::Gray => 37,
        Color::DarkGray => 90,
        Color::LightRed => 91,
        Color::LightGreen => 92,
        Color::LightYellow => 93,
        Color::LightBlue => 94,
        Color::LightMagenta => 95,
        Color::LightCyan => 96,
        Color::White => 97,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ratatui::{
        style::Style,
        text::{Line, Span},
    };

    use super::*;

    fn painted(terminal: &mut Terminal<Paint>, line: Line<'static>) -> String {
        terminal.draw(|frame| frame.render_widget(line, frame.area())).unwrap();
        String::from_utf8(terminal.backend_mut().take()).unwrap()
    }

    #[test]
    fn only_what_changed_is_written_and_nothing_where_nothing_did() {
        let paint = Paint::new(|| Ok(Size { width: 60, height: 15 }));
        let mut terminal = Terminal::new(paint).unwrap();
        assert_eq!(painted(&mut terminal, "share 50.0%".into()), "\x1b[1;1Hshare\x1b[7G50.0%");
        assert_eq!(painted(&mut terminal, "share 50.0%".into()), "");
        assert_eq!(painted(&mut terminal, "share 51.0%".into()), "\x1b[1;8H1");
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        let line = Line::from(Span::styled("share 51.0%", red));
        let bytes = painted(&mut terminal, line);
        assert_eq!(bytes, "\x1b[1;1H\x1b[;1;31mshare 51.0%\x1b[m");
    }

    #[test]
    fn colours_are_the_sixteen() {
        let plain = Modifier::empty();
        assert_eq!(rendition((Color::Reset, Color::Reset, plain)), "\x1b[m");
        assert_eq!(rendition((Color::LightRed, Color::Blue, plain)), "\x1b[;91;44m");
        assert_eq!(rendition((Color::Rgb(1, 2, 3), Color::Reset, plain)), "\x1b[m");
    }
    #[test]
    #[ignore = "it is what the test below runs in a terminal of its own"]
    fn panics() {
        let _screen = Screen::take().unwrap();
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        let own = std::env::current_exe().unwrap();
        let arguments = "--exact top::terminal::tests::panics --ignored --nocapture";
        let line = format!("{} {arguments}; stty -a", own.display());
        let run = std::process::Command::new("script").args(["-qec", &line, "/dev/null"]).output();
        let seen = String::from_utf8_lossy(&run.unwrap().stdout).into_owned();
        let place = |what: &str| seen.find(what).unwrap_or_else(|| panic!("no {what:?}: {seen:?}"));
        assert!(place(ENTER) < place(LEAVE) && place(LEAVE) < place("on purpose"), "{seen:?}");
        assert_eq!(seen.matches(LEAVE).count(), 1, "{seen:?}");
        let settings = &seen[place("speed ")..];
        assert!(settings.contains(" icanon ") && settings.contains(" echo "), "{seen:?}");
    }
}
