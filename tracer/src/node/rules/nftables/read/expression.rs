//! Reading expressions and the elements of sets.

use super::{
    super::{
        json::{Json, Members},
        model::{BinaryOperator, Element, Elements, Expression, Verdict, by_name},
    },
    members,
};

/// An expression; [`Expression::Unknown`] where it is not understood to the last member.
pub(super) fn read(json: &Json) -> Expression {
    known(json).unwrap_or_else(|| Expression::Unknown(Box::new(json.clone())))
}

fn known(json: &Json) -> Option<Expression> {
    Some(match json {
        Json::Number(number) => Expression::Number(*number),
        Json::Bool(value) => Expression::Bool(*value),
        Json::Text(text) => match text.strip_prefix('@') {
            Some(name) if !name.is_empty() => Expression::Reference(name.into()),
            _ => Expression::Text(text.clone()),
        },
        Json::Array(items) => Expression::List(all(items)),
        Json::Object(_) => {
            let (name, body) = json.single()?;
            return named(name, body).or_else(|| verdict(name, body).map(Expression::Verdict));
        }
        Json::Null | Json::Negative(_) | Json::Other(_) => return None,
    })
}

fn all(items: &[Json]) -> Vec<Expression> {
    items.iter().map(read).collect()
}

fn named(name: &str, body: &Json) -> Option<Expression> {
    Some(match name {
        "concat" => Expression::Concat(all(array(body)?)),
        "set" => Expression::Set(Box::new(elements(body))),
        "map" => {
            let [key, data] = members(body, ["key", "data"])?;
            Expression::Map(Box::new((read(key?), read(data?))))
        }
        "prefix" => {
            let [address, length] = members(body, ["addr", "len"])?;
            let length = u8::try_from(length?.as_number()?).ok()?;
            Expression::Prefix(Box::new(read(address?)), length)
        }
        "range" => match array(body)? {
            [first, last] => Expression::Range(Box::new((read(first), read(last)))),
            _ => return None,
        },
        "payload" | "meta" | "ct" | "fib" | "numgen" => return of_packet(name, body),
        _ => {
            let operator = by_name(&BinaryOperator::NAMES, name)?;
            let operands = array(body)?;
            (operands.len() >= 2).then(|| Expression::Binary(operator, all(operands)))?
        }
    })
}

fn of_packet(name: &str, body: &Json) -> Option<Expression> {
    Some(match name {
        "payload" => {
            let [protocol, field] = members(body, ["protocol", "field"])?;
            Expression::Payload {
                protocol: text(protocol?)?,
                field: text(field?)?,
            }
        }
        "meta" => {
            let [key] = members(body, ["key"])?;
            Expression::Meta(text(key?)?)
        }
        "ct" => {
            let [key, direction, family] = members(body, ["key", "dir", "family"])?;
            Expression::Ct {
                key: text(key?)?,
                direction: optional(direction)?,
                family: optional(family)?,
            }
        }
        "fib" => {
            let [result, flags] = members(body, ["result", "flags"])?;
            Expression::Fib {
                result: text(result?)?,
                flags: flags.cloned(),
            }
        }
        _ => {
            let [mode, modulus, offset] = members(body, ["mode", "mod", "offset"])?;
            let offset = match offset {
                Some(offset) => Some(offset.as_number()?),
                None => None,
            };
            Expression::Numgen {
                mode: text(mode?)?,
                modulus: modulus?.as_number()?,
                offset,
            }
        }
    })
}

/// A verdict by its name and what belongs to it.
pub(super) fn verdict(name: &str, body: &Json) -> Option<Verdict> {
    let target = || {
        let [target] = members(body, ["target"])?;
        text(target?)
    };
    let plain = match name {
        "accept" => Verdict::Accept,
        "drop" => Verdict::Drop,
        "continue" => Verdict::Continue,
        "return" => Verdict::Return,
        "jump" => return target().map(Verdict::Jump),
        "goto" => return target().map(Verdict::Goto),
        _ => return None,
    };
    matches!(body, Json::Null).then_some(plain)
}

/// The elements of a set or map.
pub(super) fn elements(json: &Json) -> Elements {
    match json {
        Json::Array(items) => Elements {
            list: items.iter().map(element).collect(),
            single: false,
        },
        one => Elements {
            list: vec![element(one)],
            single: true,
        },
    }
}

fn element(json: &Json) -> Element {
    match json {
        Json::Array(pair) if pair.len() == 2 => Element {
            data: Some(read(&pair[1])),
            ..key(&pair[0])
        },
        bare => key(bare),
    }
}

/// A key: bare, or with what is said of it.
fn key(json: &Json) -> Element {
    let bare = |json| Element {
        key: read(json),
        data: None,
        attributes: None,
    };
    let Some(("elem", Json::Object(Members(fields)))) = json.single() else {
        return bare(json);
    };
    let mut attributes = fields.clone();
    match attributes.iter().position(|(name, _)| &**name == "val") {
        None => bare(json),
        Some(place) => {
            let (_, value) = attributes.remove(place);
            Element {
                key: read(&value),
                data: None,
                attributes: Some(Box::new(Members(attributes))),
            }
        }
    }
}

fn array(json: &Json) -> Option<&[Json]> {
    match json {
        Json::Array(items) => Some(items),
        _ => None,
    }
}

fn text(json: &Json) -> Option<Box<str>> {
    json.as_text().map(Into::into)
}

/// A string that need not be there; `None` when it is something else.
pub(super) fn optional(json: Option<&Json>) -> Option<Option<Box<str>>> {
    match json {
        Some(json) => text(json).map(Some),
        None => Some(None),
    }
}
