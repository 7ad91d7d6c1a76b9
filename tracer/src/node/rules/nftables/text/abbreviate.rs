//! Rules and elements shortened for a line: a Service of a thousand endpoints is one rule.

use super::super::{
    json::Members,
    model::{Element, Elements, Expression, Rule, Statement},
};

/// Elements of a set that are written out.
const SHOWN: usize = 4;

impl Rule {
    /// The rule with only the first elements of its sets.
    #[must_use]
    pub fn abbreviated(&self) -> Self {
        let statements = self.statements.iter().map(|statement| match statement {
            Statement::Match {
                operator,
                left,
                right,
            } => Statement::Match {
                operator: *operator,
                left: left.clone(),
                right: short(right),
            },
            Statement::VerdictMap { key, data } => Statement::VerdictMap {
                key: key.clone(),
                data: short(data),
            },
            Statement::Mangle { key, value } => Statement::Mangle {
                key: key.clone(),
                value: short(value),
            },
            Statement::Nat(nat) if matches!(nat.address, Some(Expression::Map(_))) => {
                let address = nat.address.as_ref().map(short);
                Statement::Nat(super::super::model::Nat {
                    address,
                    family: nat.family.clone(),
                    port: nat.port.clone(),
                    flags: nat.flags.clone(),
                    type_flags: nat.type_flags.clone(),
                    ..*nat
                })
            }
            other => other.clone(),
        });
        Self {
            statements: statements.collect(),
            family: self.family,
            table: self.table.clone(),
            chain: self.chain.clone(),
            handle: self.handle,
            comment: self.comment.clone(),
            rest: Members::default(),
        }
    }
}

fn short(expression: &Expression) -> Expression {
    match expression {
        Expression::Set(elements) if elements.list.len() > SHOWN + 1 => {
            let mut list = elements.list[..SHOWN].to_vec();
            let more = elements.list.len() - SHOWN;
            list.push(Element {
                key: Expression::Text(format!("{more} more").into()),
                data: None,
                attributes: None,
            });
            let single = false;
            Expression::Set(Box::new(Elements { list, single }))
        }
        Expression::Map(map) => Expression::Map(Box::new((map.0.clone(), short(&map.1)))),
        other => other.clone(),
    }
}

impl Element {
    /// Its key and what it maps to.
    #[must_use]
    pub fn bare(&self) -> Self {
        Self {
            key: self.key.clone(),
            data: self.data.clone(),
            attributes: None,
        }
    }
}
