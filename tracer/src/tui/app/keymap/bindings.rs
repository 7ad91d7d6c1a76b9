//! The keys, screen by screen.

use crossterm::event::KeyCode;

use super::{
    Action, Action as A, Binding,
    Context::{self, Anywhere, Drops, Flows, Journey, Replay},
    Key::{self, Char, Ctrl},
};

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
