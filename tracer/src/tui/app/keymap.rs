//! Which key does what where: one table for doing it, for the hints at the bottom and for the help.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To the line, packet or place above.
    Up,
    /// To the one below.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    First,
    /// To the last.
    Last,
    /// Opens what is selected.
    Open,
    /// Back to where one came from.
    Back,
    /// The flows.
    Flows,
    /// The drops.
    Drops,
    /// The map.
    Map,
    /// The node.
    Node,
    /// The next screen.
    NextScreen,
    /// Sorts by the next column.
    SortNext,
    /// Sorts by the column before.
    SortPrevious,
    /// Turns the order round.
    Reverse,
    /// Groups by the next thing.
    Group,
    /// Only flows with a problem, or all.
    Problems,
    /// Holds the table still.
    Freeze,
    /// Searches as one types.
    Search,
    /// Filters in the filter language.
    Filter,
    /// Takes search, filter and narrowing away.
    Clear,
    /// Marks the packet that others are compared with.
    Pin,
    /// To the next packet with a problem.
    NextProblem,
    /// The picture up.
    ScrollUp,
    /// The picture down.
    ScrollDown,
    /// Copies the flow's filter.
    CopyFilter,
    /// Copies the flow as JSON.
    CopyJson,
    /// Saves what was seen as a recording.
    Save,
    /// Writes the flow and its packets as a page.
    Export,
    /// Playing: on or off.
    Play,
    /// Playing: one step.
    Step,
    /// Playing: faster.
    Faster,
    /// Playing: slower.
    Slower,
    /// Playing: some seconds back.
    Rewind,
    /// Playing: some seconds on.
    Forward,
    /// Playing: from the begin.
    Restart,
    /// Playing: on to the next drop.
    NextDrop,
    /// All keys.
    Help,
    /// Ends.
    Quit,
}

/// Where keys mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// Everywhere.
    Anywhere,
    /// In the table of flows.
    Flows,
    /// In a flow's journey.
    Journey,
    /// In the list of drops.
    Drops,
    /// While a recording is played.
    Replay,
}

impl Context {
    /// Its heading in the help.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Anywhere => "Everywhere",
            Self::Flows => "Flows",
            Self::Journey => "Journey",
            Self::Drops => "Drops",
            Self::Replay => "Playing a recording",
        }
    }

    /// All of them, in the order of the help.
    pub const ALL: [Self; 5] = [
        Self::Anywhere,
        Self::Flows,
        Self::Journey,
        Self::Drops,
        Self::Replay,
    ];
}

/// A key with what it does.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Where.
    pub context: Context,
    /// The keys; of several, the first is shown in hints.
    pub keys: &'static [Key],
    /// What it does.
    pub action: Action,
    /// That in a word, for the hints; `""` for what is not hinted at.
    pub hint: &'static str,
    /// That in a sentence, for the help.
    pub help: &'static str,
}

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// A character with Ctrl.
    Ctrl(char),
    /// A key with a name.
    Named(KeyCode, &'static str),
}

impl Key {
    fn is(self, event: KeyEvent) -> bool {
        let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
        let alt = event.modifiers.contains(KeyModifiers::ALT);
        match self {
            Self::Char(char) => event.code == KeyCode::Char(char) && !ctrl && !alt,
            Self::Ctrl(char) => event.code == KeyCode::Char(char) && ctrl,
            Self::Named(code, _) => event.code == code,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Char(' ') => "space".to_owned(),
            Self::Char(char) => char.to_string(),
            Self::Ctrl(char) => format!("^{}", char.to_ascii_uppercase()),
            Self::Named(_, name) => name.to_owned(),
        }
    }
}

const UP: Key = Key::Named(KeyCode::Up, "up");
const DOWN: Key = Key::Named(KeyCode::Down, "down");
const PAGE_UP: Key = Key::Named(KeyCode::PageUp, "PgUp");
const PAGE_DOWN: Key = Key::Named(KeyCode::PageDown, "PgDn");
const HOME: Key = Key::Named(KeyCode::Home, "Home");
const END: Key = Key::Named(KeyCode::End, "End");
const ENTER: Key = Key::Named(KeyCode::Enter, "Enter");
const ESC: Key = Key::Named(KeyCode::Esc, "Esc");
const TAB: Key = Key::Named(KeyCode::Tab, "Tab");
const LEFT: Key = Key::Named(KeyCode::Left, "left");
const RIGHT: Key = Key::Named(KeyCode::Right, "right");

const fn binding(
    context: Context,
    keys: &'static [Key],
    action: Action,
    hint: &'static str,
    help: &'static str,
) -> Binding {
    Binding {
        context,
        keys,
        action,
        hint,
        help,
    }
}

use Action as A;
use Context::{Anywhere, Drops, Flows, Journey, Replay};
use Key::{Char, Ctrl};

/// All of them. What stands first wins, and a context's own before those of everywhere.
pub const BINDINGS: &[Binding] = &[
    binding(
        Flows,
        &[ENTER, RIGHT, Char('l')],
        A::Open,
        "journey",
        "open the flow's journey, or the group's flows",
    ),
    binding(
        Flows,
        &[Char('/')],
        A::Search,
        "search",
        "search in names, addresses, states and processes as you type",
    ),
    binding(
        Flows,
        &[Char('f')],
        A::Filter,
        "filter",
        "filter in the words of FILTER; Tab completes, up and down go through earlier ones",
    ),
    binding(
        Flows,
        &[Char('p')],
        A::Problems,
        "problems",
        "only flows with a diagnosis, drops or holes, or all",
    ),
    binding(
        Flows,
        &[Char('s')],
        A::SortNext,
        "sort",
        "sort by the next column",
    ),
    binding(
        Flows,
        &[Char('S')],
        A::SortPrevious,
        "",
        "sort by the column before",
    ),
    binding(Flows, &[Char('r')], A::Reverse, "", "turn the order round"),
    binding(
        Flows,
        &[Char('b')],
        A::Group,
        "group",
        "group by Service, by pod, by drop reason, or not",
    ),
    binding(
        Flows,
        &[Char('z')],
        A::Freeze,
        "freeze",
        "hold the table still, or let it go on",
    ),
    binding(
        Flows,
        &[Char('c')],
        A::Clear,
        "",
        "take search, filter and narrowing away",
    ),
    binding(
        Journey,
        &[Char('c')],
        A::Pin,
        "compare",
        "mark this packet, then move on: the two are compared hop by hop",
    ),
    binding(
        Journey,
        &[Char('n')],
        A::NextProblem,
        "next problem",
        "on to the next packet with a drop or a hole",
    ),
    binding(
        Journey,
        &[PAGE_UP, Char('K')],
        A::ScrollUp,
        "",
        "the picture up",
    ),
    binding(
        Journey,
        &[PAGE_DOWN, Char('J')],
        A::ScrollDown,
        "scroll",
        "the picture down",
    ),
    binding(
        Journey,
        &[LEFT, Char('h')],
        A::Back,
        "",
        "back to the flows",
    ),
    binding(
        Drops,
        &[ENTER, RIGHT, Char('l')],
        A::Open,
        "victim",
        "open the journey of the flow that was hit last",
    ),
    binding(Replay, &[Char(' ')], A::Play, "play", "play, or pause"),
    binding(Replay, &[Char('.')], A::Step, "step", "one step on"),
    binding(
        Replay,
        &[Char('d')],
        A::NextDrop,
        "next drop",
        "on to the next drop",
    ),
    binding(
        Replay,
        &[Char('+'), Char('=')],
        A::Faster,
        "faster",
        "play faster",
    ),
    binding(Replay, &[Char('-')], A::Slower, "", "play slower"),
    binding(Replay, &[Char('[')], A::Rewind, "", "five seconds back"),
    binding(Replay, &[Char(']')], A::Forward, "", "five seconds on"),
    binding(
        Replay,
        &[Char('0')],
        A::Restart,
        "",
        "from the begin, paused",
    ),
    binding(Anywhere, &[UP, Char('k')], A::Up, "", "up"),
    binding(Anywhere, &[DOWN, Char('j')], A::Down, "", "down"),
    binding(Anywhere, &[PAGE_UP, Ctrl('b')], A::PageUp, "", "a page up"),
    binding(
        Anywhere,
        &[PAGE_DOWN, Ctrl('f')],
        A::PageDown,
        "",
        "a page down",
    ),
    binding(Anywhere, &[HOME, Char('g')], A::First, "", "to the first"),
    binding(Anywhere, &[END, Char('G')], A::Last, "", "to the last"),
    binding(
        Anywhere,
        &[Char('y')],
        A::CopyFilter,
        "copy",
        "copy the flow's filter (through the terminal, also over ssh)",
    ),
    binding(
        Anywhere,
        &[Char('Y')],
        A::CopyJson,
        "",
        "copy the flow as JSON",
    ),
    binding(
        Anywhere,
        &[Char('e')],
        A::Export,
        "",
        "write the flow with its packets as an HTML page",
    ),
    binding(
        Anywhere,
        &[Char('w')],
        A::Save,
        "save",
        "save what was seen so far as a recording",
    ),
    binding(Anywhere, &[Char('1')], A::Flows, "", "flows"),
    binding(
        Anywhere,
        &[Char('2')],
        A::Drops,
        "",
        "what is being dropped",
    ),
    binding(
        Anywhere,
        &[Char('3')],
        A::Map,
        "",
        "pods, bridges and Services, with their rates",
    ),
    binding(
        Anywhere,
        &[Char('4')],
        A::Node,
        "",
        "how it is attached, what each hook saw, what it costs",
    ),
    binding(Anywhere, &[TAB], A::NextScreen, "", "the next screen"),
    binding(
        Anywhere,
        &[ESC],
        A::Back,
        "",
        "back; leaves a prompt, a journey, a narrowed table",
    ),
    binding(Anywhere, &[Char('?')], A::Help, "help", "all keys"),
    binding(Anywhere, &[Char('q'), Ctrl('c')], A::Quit, "quit", "end"),
];

/// What a key asks for in those contexts.
#[must_use]
pub fn action(event: KeyEvent, contexts: &[Context]) -> Option<Action> {
    let mut bindings = BINDINGS.iter();
    let binding = bindings.find(|binding| {
        contexts.contains(&binding.context) && binding.keys.iter().any(|key| key.is(event))
    });
    binding.map(|binding| binding.action)
}

/// What is hinted at in those contexts: key and word.
pub fn hints(contexts: &[Context]) -> impl Iterator<Item = (String, &'static str)> {
    let bindings = BINDINGS.iter();
    bindings
        .filter(|binding| !binding.hint.is_empty() && contexts.contains(&binding.context))
        .filter_map(|binding| Some((binding.keys.first()?.name(), binding.hint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_place() {
        for context in Context::ALL {
            let keys: Vec<Key> = BINDINGS
                .iter()
                .filter(|binding| binding.context == context)
                .flat_map(|binding| binding.keys)
                .copied()
                .collect();
            for (index, key) in keys.iter().enumerate() {
                assert!(!keys[..index].contains(key), "{key:?} in {context:?}");
            }
        }
    }

    #[test]
    fn replays_keys_take_nothing_from_the_screens() {
        let of = |wanted: Context| {
            BINDINGS
                .iter()
                .filter(move |binding| binding.context == wanted)
                .flat_map(|binding| binding.keys)
        };
        for key in of(Replay) {
            for context in [Flows, Journey, Drops, Anywhere] {
                assert!(
                    !of(context).any(|other| other == key),
                    "{key:?} in {context:?}"
                );
            }
        }
    }
}
