//! Which key does what where: one table for doing it, for the hints at the bottom and for the help.

mod bindings;
mod key;

use crossterm::event::KeyEvent;

pub use bindings::BINDINGS;
pub use key::Key;

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
    use super::{
        Context::{Anywhere, Drops, Flows, Journey, Replay},
        *,
    };

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
