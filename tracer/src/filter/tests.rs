//! Tests of the whole language: text in, judgement out.

mod compile;
mod flow;
mod meaning;
mod parse;
mod place;
mod properties;
mod subjects;
