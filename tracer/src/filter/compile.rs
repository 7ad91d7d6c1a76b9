//! An expression to the kernel's jump program.
//!
//! Terms are laid out from the last to the first: where a term goes on is then known when it is
//! written, and every jump goes forward. Each test is one term; `and`, `or` and `not` are where the
//! jumps lead, so they cost nothing.

mod glances;
mod listing;

use tracer_common::filter::{self as terms, ACCEPT, MAX_TERMS, Program, REJECT, Term};

use super::{anchor, normal::Node, relax, resolve::ResolvedFilter};

/// A program for the kernel, and how it relates to the filter.
///
/// It holds at some hop of every flow that the filter matches, always. `Display` lists the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// What the kernel evaluates for each packet of a tuple that it does not follow yet.
    ///
    /// Its `negative` is set only where that is sound: when the filter tests what can change from
    /// hop to hop under `not` alone. In `host 10.244.0.3 and not port 22`, a hop before the DNAT
    /// fails the first test and says nothing of the flow.
    pub program: Program,
    /// Whether it holds at hops of no other flows, so that judging the flow again changes nothing.
    /// It is not so where the filter negates what can change from hop to hop, since the program
    /// sees one hop at a time, where it tests the flow as a whole, and where it is `relaxed`.
    pub exact: bool,
    /// Whether the filter needs more than [`MAX_TERMS`] terms and the program is a wider one that
    /// does not.
    pub relaxed: bool,
}

impl ResolvedFilter {
    /// The program that finds the filter's flows in the kernel. It never fails for size: see
    /// [`Compiled::relaxed`].
    #[must_use]
    pub fn compile(&self) -> Compiled {
        let of_flow = self.root.has_flow(&|_| true);
        let root = if of_flow {
            anchor::kernel_side(&self.root)
        } else {
            self.root.clone()
        };
        let relaxed = root.terms() > MAX_TERMS;
        let program = if relaxed {
            // Nothing that is worth the terms: everything.
            relax::to_fit(&root, MAX_TERMS).map_or_else(Program::default, |node| lay_out(&node))
        } else {
            lay_out(&root)
        };
        Compiled {
            program,
            exact: !relaxed && !of_flow && !self.needs_all_hops(),
            relaxed,
        }
    }
}

/// The program that matches the packets that a cgroup's sockets send: how `tracer run` finds what
/// its command causes. Its flows are judged by the filter above, not in the kernel: the sending hop
/// need not be the one where the filter holds.
#[must_use]
pub fn cgroup_program(id: u64) -> Program {
    lay_out(&Node::Here(Term {
        kind: terms::CGROUP,
        value: [id, 0],
        ..Term::default()
    }))
}

/// Where evaluation goes on.
#[derive(Clone, Copy)]
enum Target {
    Accept,
    Reject,
    /// The term with so many terms after it.
    Before(usize),
}

/// The program of a node with at most [`MAX_TERMS`] terms.
fn lay_out(node: &Node) -> Program {
    // The last term first.
    let mut reversed = Vec::with_capacity(MAX_TERMS);
    match emit(node, Target::Accept, Target::Reject, &mut reversed) {
        Target::Before(_) => {}
        Target::Accept => return Program::default(),
        // A term of no kind never holds.
        Target::Reject => reversed.push((Term::default(), Target::Reject, Target::Reject)),
    }
    let count = reversed.len();
    let index = |target| match target {
        Target::Accept => ACCEPT,
        Target::Reject => REJECT,
        Target::Before(after) => u8::try_from(count - 1 - after).unwrap_or(REJECT),
    };
    let mut program = Program {
        count: u32::try_from(count).unwrap_or_default(),
        negative: u32::from(a_miss_decides(node)),
        ..Program::default()
    };
    for (slot, (term, on_true, on_false)) in program.terms.iter_mut().zip(reversed.iter().rev()) {
        *slot = Term {
            on_true: index(*on_true),
            on_false: index(*on_false),
            ..*term
        };
    }
    program.place = u32::from(program.terms.iter().any(Term::is_of_place));
    glances::add(&mut program);
    program
}

/// Writes the node's terms, the last first; gives where its evaluation begins.
fn emit(
    node: &Node,
    on_true: Target,
    on_false: Target,
    reversed: &mut Vec<(Term, Target, Target)>,
) -> Target {
    let (term, on_true, on_false) = match node {
        Node::All(parts) => {
            return parts
                .iter()
                .rev()
                .fold(on_true, |next, part| emit(part, next, on_false, reversed));
        }
        Node::Any(parts) => {
            return parts
                .iter()
                .rev()
                .fold(on_false, |next, part| emit(part, on_true, next, reversed));
        }
        Node::Flow(_) => return on_true,
        Node::Here(term) => (*term, on_true, on_false),
        Node::Unlike(term) | Node::Nowhere { term, .. } => (*term, on_false, on_true),
    };
    reversed.push((term, on_true, on_false));
    Target::Before(reversed.len() - 1)
}

/// Whether a hop at which the node does not hold tells that the flow does not match: so it is when
/// what can change from hop to hop is tested under `not` alone. The flow's meaning then asks of all
/// hops what the program asks of each.
fn a_miss_decides(node: &Node) -> bool {
    fn any(node: &Node, found: &impl Fn(&Node) -> bool) -> bool {
        match node {
            Node::All(parts) | Node::Any(parts) => parts.iter().any(|part| any(part, found)),
            leaf => found(leaf),
        }
    }
    let constant = |term: &Term| matches!(term.kind, terms::PROTOCOL | terms::IP_VERSION);
    any(node, &|leaf| matches!(leaf, Node::Nowhere { .. }))
        && !any(
            node,
            &|leaf| matches!(leaf, Node::Here(term) if !constant(term)),
        )
}
