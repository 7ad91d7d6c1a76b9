//! Reading the statements of rules.

use super::{
    super::{
        json::{Json, Members},
        model::{Expression, Nat, NatKind, Operator, Statement, by_name},
    },
    expression, members,
};

/// Statements after which every packet goes on.
const PASSING: [&str; 10] = [
    "counter",
    "ct expectation",
    "ct helper",
    "ct timeout",
    "dup",
    "last",
    "log",
    "map",
    "notrack",
    "secmark",
];

/// A statement; [`Statement::Opaque`] or [`Statement::Unknown`] where it is not understood to the
/// last member.
pub(super) fn read(json: Json) -> Statement {
    if let Some((name, body)) = json.single() {
        if let Some(statement) = known(name, body) {
            return statement;
        }
        let Json::Object(Members(mut members)) = json else {
            return Statement::Unknown(json);
        };
        return match members.pop() {
            Some((name, body)) if PASSING.contains(&&*name) => Statement::Passing { name, body },
            Some((name, body)) => Statement::Opaque { name, body },
            None => Statement::Unknown(Json::Object(Members(members))),
        };
    }
    Statement::Unknown(json)
}

fn known(name: &str, body: &Json) -> Option<Statement> {
    let value = expression::read;
    Some(match name {
        "match" => {
            let [operator, left, right] = members(body, ["op", "left", "right"])?;
            Statement::Match {
                operator: by_name(&Operator::NAMES, operator?.as_text()?)?,
                left: value(left?),
                right: value(right?),
            }
        }
        "vmap" => {
            let [key, data] = members(body, ["key", "data"])?;
            Statement::VerdictMap {
                key: value(key?),
                data: value(data?),
            }
        }
        "mangle" => {
            let [key, to] = members(body, ["key", "value"])?;
            Statement::Mangle {
                key: value(key?),
                value: value(to?),
            }
        }
        "reject" => return reject(body),
        "queue" => Statement::Queue(body.clone()),
        // Adding an element; with a statement of its own (a limit), that decides.
        "set" => match body.get("stmt") {
            None => Statement::Passing {
                name: name.into(),
                body: body.clone(),
            },
            Some(_) => return None,
        },
        _ => match by_name(&NatKind::NAMES, name) {
            Some(kind) => return nat(kind, body),
            None => Statement::Verdict(expression::verdict(name, body)?),
        },
    })
}

fn reject(body: &Json) -> Option<Statement> {
    let bare = matches!(body, Json::Null);
    let [kind, code] = if bare {
        [None, None]
    } else {
        members(body, ["type", "expr"])?
    };
    Some(Statement::Reject {
        kind: expression::optional(kind)?,
        code: code.map(expression::read),
        bare,
    })
}

fn nat(kind: NatKind, body: &Json) -> Option<Statement> {
    let bare = matches!(body, Json::Null);
    let [family, address, port, flags, type_flags] = if bare {
        [None; 5]
    } else {
        members(body, ["family", "addr", "port", "flags", "type_flags"])?
    };
    let value = |json: Option<&Json>| json.map(expression::read);
    let nat = Nat {
        kind,
        family: expression::optional(family)?,
        address: value(address),
        port: value(port),
        flags: flags.cloned(),
        type_flags: type_flags.cloned(),
        bare,
    };
    // Where there is nothing to translate to, what it does is not understood.
    let aimless = matches!(kind, NatKind::Dnat | NatKind::Snat)
        && nat.address.is_none()
        && nat.port.is_none();
    (!aimless).then_some(Statement::Nat(nat))
}

#[expect(
    dead_code,
    reason = "checks at compile time that expressions stay small"
)]
const SIZE: () = assert!(size_of::<Expression>() <= 64);
