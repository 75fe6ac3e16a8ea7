//! Taking a backend out and bringing it back: what is asked before, and what keys make of it.

use ratatui::crossterm::event::KeyCode;

use super::rates::Key;
use crate::{
    admin::{AdminState, Span},
    api::model::AdminRequest,
};

/// The time that is offered.
const OFFERED: &str = "30m";
/// More than fits a line is no reason but a story.
const LONGEST: usize = 200;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// For how long.
    Span,
    /// Why.
    Reason,
    /// Whether to do it.
    Sure,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// The service's name.
    pub service: String,
    /// The backend's name.
    pub backend: String,
    /// What shall become of it.
    pub state: AdminState,
    /// For how long, as it is typed.
    pub span: String,
    /// Why, as it is typed.
    pub reason: String,
    /// What is asked now.
    pub field: Field,
    /// What is wrong with what was typed.
    pub problem: Option<String>,
}

/// What a key made of a dialog.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes on.
    Stay,
    /// Nothing shall be done.
    Cancel,
    /// This shall be done.
    Done(AdminRequest),
}

impl Dialog {
    /// Asks about a backend; `None` for a service: people take out backends.
    pub fn new(key: &Key, state: AdminState) -> Option<Self> {
        let (service, Some(backend)) = key else { return None };
        let field = if state == AdminState::Ready { Field::Sure } else { Field::Span };
        Some(Self {
            service: service.clone(),
            backend: backend.clone(),
            state,
            span: OFFERED.to_owned(),
            reason: String::new(),
            field,
            problem: None,
        })
    }

    /// Takes a key.
    pub fn press(&mut self, key: KeyCode) -> Step {
        self.problem = None;
        if key == KeyCode::Esc {
            return Step::Cancel;
        }
        let text = match self.field {
            Field::Sure => return self.answer(key),
            Field::Span => &mut self.span,
            Field::Reason => &mut self.reason,
        };
        match key {
            KeyCode::Enter | KeyCode::Tab | KeyCode::Down => self.forward(),
            KeyCode::BackTab | KeyCode::Up => self.field = Field::Span,
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Char(letter) if text.chars().count() < LONGEST => text.push(letter),
            _ => {}
        }
        Step::Stay
    }

    fn forward(&mut self) {
        if self.field == Field::Span {
            match self.span.trim().parse::<Span>() {
                Ok(_) => self.field = Field::Reason,
                Err(error) => self.problem = Some(error.to_string()),
            }
        } else if self.reason.trim().is_empty() {
            self.problem = Some("say why, for whoever finds it".to_owned());
        } else {
            self.field = Field::Sure;
        }
    }

    /// Nothing but `y` is a yes.
    fn answer(&self, key: KeyCode) -> Step {
        if !matches!(key, KeyCode::Char('y' | 'Y')) {
            return Step::Cancel;
        }
        let out = self.state != AdminState::Ready;
        Step::Done(AdminRequest {
            service: Some(self.service.clone()),
            backend: self.backend.clone(),
            state: self.state,
            span: out.then(|| self.span.trim().parse().ok()).flatten(),
            reason: out.then(|| self.reason.trim().to_owned()),
            force: false,
        })
    }
}
