//! What is typed into the line at the bottom.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    App,
    prompt::{Kind, Prompt},
};
use crate::tui::model::Model;

impl App {
    /// A text was pasted.
    pub fn paste(&mut self, text: &str) {
        if let Some(prompt) = &mut self.prompt {
            prompt.line.insert(text);
            prompt.check();
            self.typed();
        }
    }

    /// Opens the prompt.
    pub(super) fn ask(&mut self, kind: Kind) {
        let text = match kind {
            Kind::Search => self.list.search.clone(),
            Kind::Filter => self
                .list
                .filter
                .as_ref()
                .map_or(String::new(), |it| it.0.clone()),
        };
        self.search_before.clone_from(&self.list.search);
        self.prompt = Some(Prompt::new(kind, &text));
    }

    /// A key was pressed while it is open.
    pub(super) fn prompt_key(&mut self, key: KeyEvent, model: &Model) {
        let Some(prompt) = &mut self.prompt else {
            return;
        };
        let history = match prompt.kind {
            Kind::Search => &mut self.searches,
            Kind::Filter => &mut self.filters,
        };
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => {
                self.list.search.clone_from(&self.search_before);
                self.prompt = None;
                return;
            }
            KeyCode::Enter => return self.enter(model),
            KeyCode::Tab if prompt.kind == Kind::Filter => {
                prompt.complete(&model.node);
                return;
            }
            KeyCode::Up => history.older(&mut prompt.line),
            KeyCode::Down => history.newer(&mut prompt.line),
            KeyCode::Char('w') if ctrl => prompt.line.delete_word(),
            KeyCode::Char('u') if ctrl => prompt.line.delete_before(),
            KeyCode::Char('a') if ctrl => prompt.line.home(),
            KeyCode::Char('e') if ctrl => prompt.line.end(),
            KeyCode::Char(char) if !ctrl => prompt.line.insert(char.encode_utf8(&mut [0; 4])),
            KeyCode::Char('h') if ctrl => drop(prompt.line.backspace()),
            KeyCode::Backspace => drop(prompt.line.backspace()),
            KeyCode::Delete => prompt.line.delete(),
            KeyCode::Left => prompt.line.left(),
            KeyCode::Right => drop(prompt.line.right()),
            KeyCode::Home => prompt.line.home(),
            KeyCode::End => prompt.line.end(),
            _ => return,
        }
        prompt.check();
        self.typed();
    }

    /// A search is taken as it is typed.
    fn typed(&mut self) {
        if let Some(prompt) = &self.prompt
            && prompt.kind == Kind::Search
        {
            self.list.search = prompt.line.text().to_lowercase();
        }
    }

    fn enter(&mut self, model: &Model) {
        let Some(mut prompt) = self.prompt.take() else {
            return;
        };
        let text = prompt.line.text().trim().to_owned();
        match prompt.kind {
            Kind::Search => self.searches.entered(&text),
            Kind::Filter => {
                let Some(filter) = prompt.entered(&model.node, self.resolve) else {
                    self.prompt = Some(prompt);
                    return;
                };
                self.filters.entered(&text);
                self.list.filter = (!text.is_empty()).then_some((text, filter));
            }
        }
    }
}
