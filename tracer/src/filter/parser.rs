//! Tokens to an expression.
//!
//! The grammar is pcap-filter's: `not` binds tightest, `and` and `or` bind **equally** and from
//! the left, and an operand without a word before it takes the qualifiers of the operand before it
//! (`tcp port 80 or 443`). Recursion is only over parentheses and `not`, and is capped.

mod primary;

use std::ops::Range;

use super::{
    MAX_DEPTH, MAX_LENGTH,
    error::{Problem, shown},
    expression::Expression,
    lexer::{self, Kind, Token},
    words,
};
use primary::Qualifier;

/// Parses a filter; `None` when it is empty.
pub(super) fn parse(text: &str) -> Result<Option<Expression>, Problem> {
    let mut parser = Parser {
        text,
        tokens: lexer::tokens(text)?,
        at: 0,
        nesting: 0,
        inherited: None,
    };
    if parser.tokens.is_empty() {
        return Ok(None);
    }
    let expression = parser.expression(None)?.expression;
    if let Some(token) = parser.peek() {
        let span = token.span.clone();
        return Err(match token.kind {
            Kind::Close => Problem::new(
                span,
                "this parenthesis closes none; remove it or open one before it",
            ),
            _ => parser.operator_missing(&span),
        });
    }
    let length = expression.to_string().len();
    if length > MAX_LENGTH {
        return Err(Problem::new(
            0..text.len(),
            format!(
                "with its qualifiers written out, the filter has {length} bytes, more than the \
                 limit of {MAX_LENGTH}; name networks and port ranges instead of single hosts and \
                 ports"
            ),
        ));
    }
    Ok(Some(expression))
}

/// An expression and how deep it nests.
struct Nested {
    expression: Expression,
    depth: usize,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    /// How many parentheses and `not` are open.
    nesting: usize,
    /// The qualifiers of the last operand.
    inherited: Option<Qualifier>,
}

impl Parser<'_> {
    /// Terms joined by and, or. Within the parentheses of `port (80 or 443)`, `only` are the
    /// qualifiers of all operands.
    fn expression(&mut self, only: Option<&Qualifier>) -> Result<Nested, Problem> {
        let mut left = self.term(only)?;
        while let Some((kind @ (Kind::And | Kind::Or), span)) = self.peek_cloned() {
            self.at += 1;
            let right = self.term(only)?;
            let chained = match &left.expression {
                Expression::All(_) => kind == Kind::And,
                Expression::Any(_) => kind == Kind::Or,
                Expression::Not(_) | Expression::Test(_) => false,
            };
            let below = if chained { left.depth - 1 } else { left.depth };
            left = Nested {
                depth: 1 + below.max(right.depth),
                expression: if kind == Kind::And {
                    left.expression.and(right.expression)
                } else {
                    left.expression.or(right.expression)
                },
            };
            if left.depth > MAX_DEPTH {
                return Err(too_deep(span));
            }
        }
        Ok(left)
    }

    fn term(&mut self, only: Option<&Qualifier>) -> Result<Nested, Problem> {
        let Some((kind, span)) = self.peek_cloned() else {
            return Err(self.nothing_follows());
        };
        match kind {
            Kind::Not => {
                self.at += 1;
                let inner = self.nested(span, |parser| parser.term(only))?;
                Ok(Nested {
                    expression: inner.expression.negated(),
                    depth: inner.depth + 1,
                })
            }
            Kind::Open => {
                self.at += 1;
                self.parenthesised(span, only)
            }
            Kind::Word | Kind::Quoted(_) => match only {
                Some(qualifier) => self.operand(qualifier),
                None => self.primary(),
            },
            Kind::Close => Err(Problem::new(
                span,
                "something to test is missing before this parenthesis, such as `host 10.0.0.1`",
            )),
            Kind::And | Kind::Or => Err(Problem::new(
                span.clone(),
                format!(
                    "something to test is missing before {}, such as `host 10.0.0.1`",
                    shown(&self.text[span])
                ),
            )),
        }
    }

    /// What follows an opened parenthesis, and the one that closes it.
    fn parenthesised(
        &mut self,
        open: Range<usize>,
        only: Option<&Qualifier>,
    ) -> Result<Nested, Problem> {
        if self.at == self.tokens.len() {
            return Err(unclosed(open));
        }
        let inner = self.nested(open.clone(), |parser| parser.expression(only))?;
        match self.peek_cloned() {
            Some((Kind::Close, _)) => self.at += 1,
            Some((_, span)) => return Err(self.operator_missing(&span)),
            None => return Err(unclosed(open)),
        }
        Ok(inner)
    }

    fn nested(
        &mut self,
        span: Range<usize>,
        parse: impl FnOnce(&mut Self) -> Result<Nested, Problem>,
    ) -> Result<Nested, Problem> {
        if self.nesting >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        self.nesting += 1;
        let inner = parse(self)?;
        self.nesting -= 1;
        if inner.depth >= MAX_DEPTH {
            return Err(too_deep(span));
        }
        Ok(inner)
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn peek_cloned(&self) -> Option<(Kind, Range<usize>)> {
        self.peek()
            .map(|token| (token.kind.clone(), token.span.clone()))
    }

    /// The text of the word `ahead` tokens on.
    fn word_at(&self, ahead: usize) -> Option<&str> {
        let token = self.tokens.get(self.at + ahead)?;
        (token.kind == Kind::Word).then(|| &self.text[token.span.clone()])
    }

    /// The text ends where an operand must stand.
    fn nothing_follows(&self) -> Problem {
        let end = self.text.trim_end().len();
        let last = self
            .tokens
            .last()
            .map_or("", |token| &self.text[token.span.clone()]);
        Problem::new(
            end..end,
            format!(
                "something to test is missing after {}, such as `host 10.0.0.1`",
                shown(last)
            ),
        )
    }

    /// Something stands where only an operator can.
    fn operator_missing(&self, span: &Range<usize>) -> Problem {
        let found = &self.text[span.clone()];
        let instead = match words::word(found) {
            Some(_) => None,
            None => words::instead_of(found),
        };
        let message = match instead {
            Some(message) => message,
            None if found.parse::<u16>().is_ok() => {
                format!("{found} stands alone; for a port write `port {found}`")
            }
            None => format!("`and` or `or` is missing before {}", shown(found)),
        };
        Problem::new(span.clone(), message)
    }
}

impl Nested {
    fn leaf(expression: Expression) -> Self {
        let depth = match expression {
            Expression::Test(_) => 1,
            // A test with its qualifiers.
            _ => 2,
        };
        Self { expression, depth }
    }
}

fn too_deep(span: Range<usize>) -> Problem {
    Problem::new(
        span,
        format!(
            "more than {MAX_DEPTH} levels of parentheses, `not` and changes between `and` and \
             `or`; write it flatter"
        ),
    )
}

fn unclosed(open: Range<usize>) -> Problem {
    Problem::new(open, "this parenthesis is not closed; write `)` at its end")
}
