//! What the user made of the screen, and what keys and clicks do to it (pure).

pub mod editor;
mod given;
pub mod journey;
pub mod keymap;
pub mod list;
mod mouse;
pub mod playback;
pub mod prompt;
mod typing;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use self::{
    editor::History,
    journey::Journey,
    keymap::{Action, Context},
    list::{Column, Grouping, List, Selected},
    playback::{Playback, Player},
    prompt::{Kind, Prompt, Resolve},
};
use super::{
    model::Model,
    view::{self, layout::Layout},
};
use crate::journey::model::FlowId;

/// A screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    /// The table of flows.
    #[default]
    Flows,
    /// What is being dropped.
    Drops,
    /// Pods, bridges, Services.
    Map,
    /// How it is attached, and what it costs.
    Node,
}

impl Screen {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Flows, Self::Drops, Self::Map, Self::Node];

    /// Its name.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Flows => "Flows",
            Self::Drops => "Drops",
            Self::Map => "Map",
            Self::Node => "Node",
        }
    }
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// End.
    Quit,
    /// Give a text to the terminal's clipboard.
    Copy(String),
    /// Write what was seen into a recording.
    Save,
    /// Write a flow and its packets into a page.
    Export(FlowId),
    /// Play on, or otherwise.
    Play(Player),
}

/// A sentence at the bottom, until the next key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sentence.
    pub text: String,
    /// Whether something is wrong.
    pub problem: bool,
}

/// How far one moved through a list that is longer than the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrolled {
    /// The selected line.
    pub line: usize,
    /// The first line that is shown.
    pub offset: usize,
}

/// The state of everything on the screen.
#[derive(Clone, Debug)]
pub struct App {
    /// Which screen is shown.
    pub screen: Screen,
    /// The journey that is open over the flows.
    pub journey: Option<Journey>,
    /// The first line of the help, when it is open.
    pub help: Option<usize>,
    /// What is being typed.
    pub prompt: Option<Prompt>,
    /// The table of flows.
    pub list: List,
    /// The list of drops.
    pub drops: Scrolled,
    /// The first line that is shown of the map.
    pub map: usize,
    /// The first line that is shown of the node.
    pub node: usize,
    /// A sentence at the bottom.
    pub message: Option<Message>,
    /// How the recording is played; `None` when live.
    pub playback: Option<Playback>,
    /// What is traced: the filter of the command line.
    pub subject: String,
    /// What is said while nothing was seen yet.
    pub waiting: String,
    filters: History,
    searches: History,
    resolve: Resolve,
    /// The search before the prompt was opened.
    search_before: String,
}

impl App {
    /// The first screen; `resolve` looks up the names in filters that are typed.
    #[must_use]
    pub fn new(subject: &str, resolve: Resolve) -> Self {
        Self {
            screen: Screen::default(),
            journey: None,
            help: None,
            prompt: None,
            list: List::default(),
            drops: Scrolled::default(),
            map: 0,
            node: 0,
            message: None,
            playback: None,
            subject: subject.to_owned(),
            waiting: String::new(),
            filters: History::default(),
            searches: History::default(),
            resolve,
            search_before: String::new(),
        }
    }

    /// Says something at the bottom.
    pub fn say(&mut self, text: impl Into<String>, problem: bool) {
        self.message = Some(Message {
            text: text.into(),
            problem,
        });
    }

    /// Where keys mean something now, the innermost first.
    #[must_use]
    pub fn contexts(&self) -> Vec<Context> {
        let mut contexts = Vec::new();
        match (&self.journey, self.screen) {
            (Some(_), _) => contexts.push(Context::Journey),
            (None, Screen::Flows) => contexts.push(Context::Flows),
            (None, Screen::Drops) => contexts.push(Context::Drops),
            (None, Screen::Map | Screen::Node) => {}
        }
        if self.playback.is_some() {
            contexts.push(Context::Replay);
        }
        contexts.push(Context::Anywhere);
        contexts
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent, model: &Model, size: Size) -> Option<Effect> {
        self.message = None;
        let interrupt =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        if interrupt {
            return Some(Effect::Quit);
        }
        if self.prompt.is_some() {
            self.prompt_key(key, model);
            self.list.changed();
            return None;
        }
        let action = keymap::action(key, &self.contexts())?;
        if self.help.is_some() && self.help_action(action) {
            return None;
        }
        self.act(action, model, size)
    }

    /// Takes what came meanwhile, and scrolls so that what is selected is on the screen.
    pub fn fit(&mut self, model: &Model, size: Size) {
        if let Some(journey) = &mut self.journey {
            journey.refresh(model);
        }
        let layout = Layout::of(self, size);
        let lines = usize::from(layout.lines());
        if let Some(journey) = &mut self.journey {
            let index = journey.index(&journey.packets());
            let shown = usize::from(layout.packet_lines());
            journey.offset = scrolled(journey.offset, index, shown);
        }
        if self.screen == Screen::Flows && self.journey.is_none() {
            self.list.order(model);
            let index = self.list.index();
            self.list.offset = scrolled(self.list.offset, index, lines);
            let furthest = self.list.shown.len().saturating_sub(lines);
            self.list.offset = self.list.offset.min(furthest);
        }
        let kinds = model.drops.by_time().len();
        self.drops.line = self.drops.line.min(kinds.saturating_sub(1));
        self.drops.offset = scrolled(self.drops.offset, self.drops.line, lines);
    }

    fn show(&mut self, screen: Screen) {
        self.screen = screen;
        self.journey = None;
    }

    fn help_action(&mut self, action: Action) -> bool {
        let Some(line) = &mut self.help else {
            return false;
        };
        match action {
            Action::Up => *line = line.saturating_sub(1),
            Action::Down => *line += 1,
            Action::PageUp | Action::ScrollUp => *line = line.saturating_sub(10),
            Action::PageDown | Action::ScrollDown => *line += 10,
            Action::First => *line = 0,
            Action::Quit | Action::Back | Action::Help | Action::Open => self.help = None,
            _ => {
                self.help = None;
                return false;
            }
        }
        true
    }

    fn act(&mut self, action: Action, model: &Model, size: Size) -> Option<Effect> {
        let page = usize::from(Layout::of(self, size).lines()).max(2) - 1;
        match action {
            Action::Up => self.go(model, size, |at, _| at.saturating_sub(1)),
            Action::Down => self.go(model, size, |at, _| at + 1),
            Action::PageUp => self.go(model, size, |at, _| at.saturating_sub(page)),
            Action::PageDown => self.go(model, size, |at, _| at + page),
            Action::First => self.go(model, size, |_, _| 0),
            Action::Last => self.go(model, size, |_, last| last),
            Action::Open => self.open(model),
            Action::Back => self.back(),
            Action::Flows => self.show(Screen::Flows),
            Action::Drops => self.show(Screen::Drops),
            Action::Map => self.show(Screen::Map),
            Action::Node => self.show(Screen::Node),
            Action::NextScreen => {
                let at = Screen::ALL.iter().position(|screen| *screen == self.screen);
                let next = at.map_or(0, |at| (at + 1) % Screen::ALL.len());
                self.show(Screen::ALL[next]);
            }
            Action::Help => self.help = Some(0),
            Action::Quit => return Some(Effect::Quit),
            Action::Save => return Some(Effect::Save),
            Action::CopyFilter | Action::CopyJson | Action::Export => {
                return self.of_flow(action, model);
            }
            _ => return self.act_on_lists(action, model),
        }
        None
    }

    fn act_on_lists(&mut self, action: Action, model: &Model) -> Option<Effect> {
        self.list.changed();
        match action {
            Action::SortNext => self.sort_along(1),
            Action::SortPrevious => self.sort_along(Column::ALL.len() - 1),
            Action::Reverse => self.list.reversed = !self.list.reversed,
            Action::Group => self.group(),
            Action::Problems => self.list.problems = !self.list.problems,
            Action::Freeze => self.list.freeze(model),
            Action::Search => self.ask(Kind::Search),
            Action::Filter => self.ask(Kind::Filter),
            Action::Clear => self.list.clear(),
            Action::Pin | Action::NextProblem | Action::ScrollUp | Action::ScrollDown => {
                self.act_on_journey(action);
            }
            Action::Play => return Some(Effect::Play(Player::Toggle)),
            Action::Step => return Some(Effect::Play(Player::Step)),
            Action::Faster => return Some(Effect::Play(Player::Faster)),
            Action::Slower => return Some(Effect::Play(Player::Slower)),
            Action::Rewind => return Some(Effect::Play(Player::Rewind)),
            Action::Forward => return Some(Effect::Play(Player::Forward)),
            Action::Restart => return Some(Effect::Play(Player::Restart)),
            Action::NextDrop => return Some(Effect::Play(Player::NextDrop)),
            _ => {}
        }
        None
    }

    fn act_on_journey(&mut self, action: Action) {
        let Some(journey) = &mut self.journey else {
            return;
        };
        match action {
            Action::Pin => {
                journey.pin();
                let pinned = journey.pinned.is_some();
                if pinned {
                    self.say(
                        "marked; move to another packet to compare, c again ends it",
                        false,
                    );
                }
            }
            Action::NextProblem => {
                if !journey.next_problem() {
                    self.say("no packet of this flow has a drop or a hole", false);
                }
            }
            Action::ScrollUp => journey.scroll = journey.scroll.saturating_sub(5),
            _ => journey.scroll += 5,
        }
    }

    /// Moves through what is on the screen.
    fn go(&mut self, model: &Model, size: Size, to: impl FnOnce(usize, usize) -> usize) {
        if let Some(journey) = &mut self.journey {
            journey.select(to);
            return;
        }
        match self.screen {
            Screen::Flows => self.list.select(model, to),
            Screen::Drops => {
                let last = model.drops.by_time().len().saturating_sub(1);
                self.drops.line = to(self.drops.line, last).min(last);
            }
            Screen::Map | Screen::Node => {
                let shown = usize::from(Layout::of(self, size).lines());
                let length = view::length(self.screen, model, size.width);
                let furthest = length.saturating_sub(shown);
                let scrolled = match self.screen {
                    Screen::Map => &mut self.map,
                    _ => &mut self.node,
                };
                *scrolled = to(*scrolled, furthest).min(furthest);
            }
        }
    }

    fn open(&mut self, model: &Model) {
        match self.screen {
            Screen::Flows if self.journey.is_none() => match self.list.current(model).cloned() {
                Some(Selected::Flow(id)) => self.journey = Journey::of(model, id),
                Some(Selected::Group(name)) => {
                    self.list.within = self.list.grouping.map(|by| (by, name));
                    self.list.grouping = None;
                    self.list.changed();
                }
                None => {}
            },
            Screen::Drops => {
                let kinds = model.drops.by_time();
                let victims = kinds.get(self.drops.line).map(|(_, tally)| &tally.victims);
                let mut flows = victims.into_iter().flatten();
                let journey = flows.find_map(|id| Journey::of(model, *id));
                match journey {
                    Some(mut journey) => {
                        journey.next_problem();
                        self.screen = Screen::Flows;
                        self.journey = Some(journey);
                    }
                    None => self.say("the flows that were hit are not kept any more", true),
                }
            }
            _ => {}
        }
    }

    fn back(&mut self) {
        self.list.changed();
        if self.journey.take().is_some() {
            return;
        }
        if let Some((grouping, name)) = self.list.within.take() {
            self.list.grouping = Some(grouping);
            self.list.selected = Some(Selected::Group(name));
        } else if self.list.is_narrowed() {
            self.list.clear();
        } else {
            self.screen = Screen::Flows;
        }
    }

    fn sort_along(&mut self, by: usize) {
        let at = Column::ALL
            .iter()
            .position(|column| *column == self.list.column);
        let next = at.map_or(0, |at| (at + by) % Column::ALL.len());
        self.list.column = Column::ALL[next];
        self.list.reversed = false;
    }

    fn group(&mut self) {
        self.list.within = None;
        self.list.selected = None;
        self.list.grouping = match self.list.grouping {
            None => Some(Grouping::Service),
            Some(Grouping::Service) => Some(Grouping::Pod),
            Some(Grouping::Pod) => Some(Grouping::DropReason),
            Some(Grouping::DropReason) => None,
        };
    }
}

/// The first line that is to be shown so that one line is among them.
fn scrolled(offset: usize, line: usize, shown: usize) -> usize {
    let shown = shown.max(1);
    offset.min(line).max((line + 1).saturating_sub(shown))
}
