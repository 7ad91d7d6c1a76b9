//! Why a text is not what `iptables-save` prints.

/// A text that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {refusal}")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub refusal: Refusal,
}

/// What is wrong with a line. Words of it are cut after 80 characters; they are as they came, not
/// safe to print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a line that such a text has.
    #[error("`{0}` is no line of iptables-save")]
    Line(String),
    /// It is of a table, and none has begun.
    #[error("there is no table here; one begins with `*NAME`")]
    OutsideTable,
    /// A table within another one, or the end of the text within one.
    #[error("the table `{0}` has no COMMIT; the text was cut")]
    Unfinished(String),
    /// A table or chain of a name that there is already.
    #[error("`{0}` is here for the second time")]
    Twice(String),
    /// A table without name, a chain without name or policy.
    #[error("`{0}` does not say name and policy, as `:NAME ACCEPT` and `:NAME -` do")]
    Chain(String),
    /// Counters that are none.
    #[error("`{0}` are no counters; those are `[PACKETS:BYTES]`")]
    Counters(String),
    /// A rule of a chain, or with a target, that the table does not have.
    #[error("the table has no chain `{0}`")]
    NoChain(String),
    /// A quote that is not closed until the end of the text.
    #[error("a quote that opens here is not closed")]
    Quote,
    /// An option without its argument.
    #[error("`{0}` lacks its argument")]
    Argument(&'static str),
    /// An argument that makes no sense.
    #[error("`{value}` is nothing that `{option}` takes")]
    Value {
        /// The option.
        option: &'static str,
        /// The argument.
        value: String,
    },
    /// A word where there should be an option.
    #[error("`{0}` is no option")]
    Word(String),
    /// A `!` with nothing behind it that it could be of.
    #[error("a `!` inverts nothing")]
    Inversion,
    /// More tables or chains than can be numbered, or a text too long.
    #[error("there are too many of these")]
    TooMany,
}
