//! What clicks and the wheel do.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Size;

use super::{App, Effect, Screen, keymap::Action, list::Column};
use crate::tui::{model::Model, view::layout::Layout};

impl App {
    /// The mouse was used.
    pub fn mouse(&mut self, mouse: MouseEvent, model: &Model, size: Size) -> Option<Effect> {
        let layout = Layout::of(self, size);
        match mouse.kind {
            MouseEventKind::ScrollUp => self.act(Action::Up, model, size),
            MouseEventKind::ScrollDown => self.act(Action::Down, model, size),
            MouseEventKind::Down(MouseButton::Left) => {
                self.message = None;
                if let Some(screen) = layout.tab_at(mouse.column, mouse.row) {
                    self.show(screen);
                    return None;
                }
                self.click(&layout, mouse, model, size)
            }
            _ => None,
        }
    }

    /// A click on a line selects it, another one opens it; on a heading it sorts.
    fn click(
        &mut self,
        layout: &Layout,
        mouse: MouseEvent,
        model: &Model,
        size: Size,
    ) -> Option<Effect> {
        if let Some(journey) = &mut self.journey {
            if let Some(line) = layout.packet_at(mouse.column, mouse.row) {
                let index = journey.offset + line;
                journey.select(|_, _| index);
            }
            return None;
        }
        match self.screen {
            Screen::Flows => {
                if let Some(column) = layout.heading_at(mouse.column, mouse.row) {
                    self.sort_by(column);
                } else if let Some(line) = layout.line_at(mouse.column, mouse.row) {
                    let index = self.list.offset + line;
                    let before = self.list.selected.clone();
                    self.list.select(model, |_, _| index);
                    if before == self.list.selected {
                        return self.act(Action::Open, model, size);
                    }
                }
            }
            Screen::Drops => {
                if let Some(line) = layout.line_at(mouse.column, mouse.row) {
                    self.drops.line = self.drops.offset + line;
                }
            }
            Screen::Map | Screen::Node => {}
        }
        None
    }

    fn sort_by(&mut self, column: Column) {
        self.list.changed();
        if self.list.column == column {
            self.list.reversed = !self.list.reversed;
        } else {
            self.list.column = column;
            self.list.reversed = false;
        }
    }
}
