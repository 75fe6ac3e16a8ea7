//! The state of the dashboard, and what news and keys make of it. Pure: the time is passed in, and what is to
//! be done outside is an [`Intent`].

mod dialog;
mod rates;
mod rows;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

pub use self::{
    dialog::{Dialog, Field, Step},
    rates::{Key, Rate, Rates},
    rows::{Row, Sort, brief},
};
use super::{feed::News, view::Theme};
use crate::{
    admin::AdminState,
    api::model::{AdminRequest, Changed, Status},
    events::Event,
};

/// How many events are kept: more than any terminal shows.
const EVENTS: usize = 200;
/// How far a page goes.
const PAGE: usize = 10;

/// What shall be done outside.
#[derive(Debug, PartialEq, Eq)]
pub enum Intent {
    /// End.
    Quit,
    /// Paint everything anew.
    Repaint,
    /// Let the shell have the terminal.
    Suspend,
    /// Ask the daemon for this.
    Change(AdminRequest),
}

/// What keys are for now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The table.
    #[default]
    Table,
    /// The filter is typed.
    Filter,
    /// Something is asked.
    Asked(Dialog),
    /// The help is shown.
    Help,
    /// Something is told that takes more than a line.
    Told(String),
}

/// Nobody answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Since when: when the last answer came.
    pub since: SystemTime,
    /// For how long.
    pub lasts: Duration,
    /// What the last attempt met.
    pub why: String,
}

/// Everything that the view shows.
#[derive(Debug)]
pub struct App {
    /// How it is shown.
    pub theme: Theme,
    /// Time between two readings.
    pub interval: Duration,
    /// What the daemon told last.
    pub status: Option<Status>,
    /// Nobody answers now.
    pub silence: Option<Silence>,
    /// What passes.
    pub rates: Rates,
    /// What happened, oldest first.
    pub events: VecDeque<Event>,
    /// What rows are sorted by.
    pub sort: Sort,
    /// The other way round.
    pub reversed: bool,
    /// What names must contain.
    pub filter: String,
    /// The row that keys are about.
    pub selected: Option<Key>,
    /// Whether the selected one is told in full.
    pub details: bool,
    /// Seconds of the window that shares are taken from.
    pub window: u64,
    /// What keys are for now.
    pub mode: Mode,
    /// What became of the last change, in a line.
    pub said: Option<String>,
    /// When the last answer came.
    answered: SystemTime,
}

impl App {
    /// The state before anything is known.
    pub fn new(theme: Theme, interval: Duration) -> Self {
        Self {
            theme,
            interval,
            status: None,
            silence: None,
            rates: Rates::default(),
            events: VecDeque::new(),
            sort: Sort::default(),
            reversed: false,
            filter: String::new(),
            selected: None,
            details: false,
            window: 10,
            mode: Mode::default(),
            said: None,
            answered: SystemTime::UNIX_EPOCH,
        }
    }

    /// Takes in what the feed told.
    pub fn take_in(&mut self, news: News, now: SystemTime) {
        match news {
            News::Reading(reading) => {
                self.rates.take_in(reading.at, &reading.counters);
                self.status = Some(reading.status);
                self.events.extend(reading.events);
                let surplus = self.events.len().saturating_sub(EVENTS);
                self.events.drain(..surplus);
                self.silence = None;
                self.answered = now;
                self.keep_selection();
            }
            News::Silence(why) => {
                let lasts = now.duration_since(self.answered).unwrap_or_default();
                self.silence = Some(Silence { since: self.answered, lasts, why });
            }
            News::Changed(Ok(Changed { message, warnings, .. })) if warnings.is_empty() => {
                self.said = Some(message);
            }
            News::Changed(Ok(Changed { message, warnings, .. })) => {
                let warnings = warnings.iter().map(|text| format!("\nwarning: {text}"));
                self.tell(format!("{message}{}", warnings.collect::<String>()));
            }
            News::Changed(Err(why)) => self.tell(format!("refused: {why}")),
        }
    }

    /// Shows a text until a key is pressed. What is being typed is not taken from anybody's hands.
    fn tell(&mut self, text: String) {
        if matches!(self.mode, Mode::Table | Mode::Help | Mode::Told(_)) {
            (self.mode, self.said) = (Mode::Told(text), None);
        } else {
            self.said = Some(text.replace('\n', "; "));
        }
    }

    /// The rows as they are shown.
    pub fn rows(&self) -> Vec<Row> {
        let Some(status) = &self.status else { return Vec::new() };
        rows::rows(status, &self.rates, self.window, &self.filter, self.sort, self.reversed)
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyEvent) -> Option<Intent> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Intent::Quit),
                KeyCode::Char('l') => Some(Intent::Repaint),
                KeyCode::Char('z') => Some(Intent::Suspend),
                _ => None,
            };
        }
        match &mut self.mode {
            Mode::Table => return self.press_in_table(key.code),
            Mode::Filter => self.press_in_filter(key.code),
            Mode::Asked(dialog) => match dialog.press(key.code) {
                Step::Stay => {}
                Step::Cancel => {
                    self.mode = Mode::Table;
                    self.said = Some("nothing was changed".to_owned());
                }
                Step::Done(request) => {
                    self.mode = Mode::Table;
                    self.said = Some("asked the daemon; it has not answered yet".to_owned());
                    return Some(Intent::Change(request));
                }
            },
            Mode::Help | Mode::Told(_) => self.mode = Mode::Table,
        }
        None
    }

    fn press_in_table(&mut self, key: KeyCode) -> Option<Intent> {
        self.said = None;
        match key {
            KeyCode::Char('q') => return Some(Intent::Quit),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc if self.details => self.details = false,
            KeyCode::Esc => self.refilter(String::new()),
            KeyCode::Enter | KeyCode::Char(' ') => self.details = !self.details,
            KeyCode::Up | KeyCode::Char('k') => self.move_by(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.move_by(|at, _| at + 1),
            KeyCode::PageUp => self.move_by(|at, _| at.saturating_sub(PAGE)),
            KeyCode::PageDown => self.move_by(|at, _| at + PAGE),
            KeyCode::Home => self.move_by(|_, _| 0),
            KeyCode::End => self.move_by(|_, last| last),
            KeyCode::Char('s') => (self.sort, self.reversed) = (self.sort.next(), false),
            KeyCode::Char('R') => self.reversed = !self.reversed,
            KeyCode::Char('w') => {
                self.window = match self.window {
                    10 => 60,
                    60 => 600,
                    _ => 10,
                }
            }
            KeyCode::Char('d') => self.ask(AdminState::Drain),
            KeyCode::Char('m') => self.ask(AdminState::Maintenance),
            KeyCode::Char('r') => self.ask(AdminState::Ready),
            KeyCode::Char(letter) => self.sort_by(letter),
            _ => {}
        }
        None
    }

    fn press_in_filter(&mut self, key: KeyCode) {
        let mut filter = self.filter.clone();
        match key {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.mode = Mode::Table;
                self.refilter(String::new());
            }
            KeyCode::Backspace => {
                filter.pop();
                self.refilter(filter);
            }
            KeyCode::Char(letter) => {
                filter.push(letter);
                self.refilter(filter);
            }
            _ => {}
        }
    }

    fn refilter(&mut self, filter: String) {
        self.filter = filter;
        self.keep_selection();
    }

    /// Sorts by the key's column; by the same again, the other way round.
    fn sort_by(&mut self, letter: char) {
        let Some((sort, ..)) = Sort::ALL.iter().find(|(_, key, _)| *key == letter) else { return };
        self.reversed = self.sort == *sort && !self.reversed;
        self.sort = *sort;
    }

    /// Selects another row, from the index of this one and the last one's.
    fn move_by(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let at = rows.iter().position(|row| Some(&row.key) == self.selected.as_ref());
        let index = to(at.unwrap_or_default(), last).min(last);
        self.selected = rows.get(index).map(|row| row.key.clone());
    }

    /// Selects the first row where the selected one is gone.
    fn keep_selection(&mut self) {
        let rows = self.rows();
        if !rows.iter().any(|row| Some(&row.key) == self.selected.as_ref()) {
            self.selected = rows.first().map(|row| row.key.clone());
        }
    }

    /// Asks before a backend is taken out or brought back.
    fn ask(&mut self, state: AdminState) {
        let dialog = self.selected.as_ref().and_then(|key| Dialog::new(key, state));
        let Some(dialog) = dialog else {
            self.said = Some("select a backend first, with the arrow keys".to_owned());
            return;
        };
        let ready = self.admin(&dialog.service, &dialog.backend) == Some(AdminState::Ready);
        if state == AdminState::Ready && ready {
            let (service, backend) = (&dialog.service, &dialog.backend);
            self.said = Some(format!("{service}/{backend} is not taken out"));
            return;
        }
        self.mode = Mode::Asked(dialog);
    }

    fn admin(&self, service: &str, backend: &str) -> Option<AdminState> {
        let services = &self.status.as_ref()?.services;
        let service = services.iter().find(|known| known.name == service)?;
        service.backends.iter().find(|known| known.name == backend).map(|known| known.admin)
    }
}
