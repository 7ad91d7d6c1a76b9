//! Questions to one BTF, answered by walking its types.
//!
//! The walk is bounded in depth and in members visited, so that BTF which refers to itself ends in
//! "not found" rather than in a loop.

use std::collections::BTreeMap;

use btf_rs::{Btf, BtfType, Enum, Member, Type};

use super::Missing;
use crate::node::reasons::{DropReasons, SUBSYSTEM_SHIFT};

/// Typedefs and qualifiers followed in a row, and anonymous structures entered in each other.
const MAX_DEPTH: usize = 32;
/// Members looked at for one question.
const MAX_VISITS: usize = 50_000;

/// The byte offset of the dotted `path` in `struct structure`.
pub(super) fn member_offset(btf: &Btf, structure: &str, path: &str) -> Result<u32, Missing> {
    let mut missing = Missing::Structure;
    for candidate in btf.resolve_types_by_name(structure).unwrap_or_default() {
        let Type::Struct(found) = candidate else {
            continue;
        };
        missing = Missing::Member;
        let mut walk = Walk {
            btf,
            visits: MAX_VISITS,
        };
        if let Some(bits) = walk.path(&found.members, path) {
            return u32::try_from(bits / 8).map_err(|_| Missing::Member);
        }
    }
    Err(missing)
}

struct Walk<'a> {
    btf: &'a Btf,
    visits: usize,
}

impl Walk<'_> {
    /// The bit offset of a dotted path from the start of `members`' structure.
    fn path(&mut self, members: &[Member], path: &str) -> Option<u64> {
        let mut segments = path.split('.');
        let (mut bits, mut found) = self.element(members, segments.next()?)?;
        for segment in segments {
            let inner = self.members_of(&found)?;
            let (offset, next) = self.element(&inner, segment)?;
            bits = bits.checked_add(offset)?;
            found = next;
        }
        Some(bits)
    }

    /// The bit offset of a member, or with `[n]` behind its name of its n-th element, and the member.
    fn element(&mut self, members: &[Member], segment: &str) -> Option<(u64, Member)> {
        let Some((name, rest)) = segment.split_once('[') else {
            return self.member(members, segment, MAX_DEPTH);
        };
        let index: u64 = rest.strip_suffix(']')?.parse().ok()?;
        let (offset, member) = self.member(members, name, MAX_DEPTH)?;
        let Type::Array(array) = plain(self.btf, &member)? else {
            return None;
        };
        let inside = usize::try_from(index).is_ok_and(|index| index < array.len());
        let Type::Int(element) = plain(self.btf, &array)? else {
            return None;
        };
        let bits = u64::try_from(element.size()).ok()?.checked_mul(8)?;
        let offset = offset.checked_add(bits.checked_mul(index)?)?;
        inside.then_some((offset, member))
    }

    /// The bit offset of a member, and the member, looking into anonymous structures and unions.
    fn member(&mut self, members: &[Member], name: &str, depth: usize) -> Option<(u64, Member)> {
        let depth = depth.checked_sub(1)?;
        for member in members {
            self.visits = self.visits.checked_sub(1)?;
            let offset = u64::from(member.bit_offset());
            let found = self.btf.resolve_name(member).ok()?;
            if found == name {
                return Some((offset, member.clone()));
            }
            if found.is_empty()
                && let Some(inner) = self.members_of(member)
                && let Some((more, member)) = self.member(&inner, name, depth)
            {
                return Some((offset.checked_add(more)?, member));
            }
        }
        None
    }

    /// The members of the structure or union that a member is.
    fn members_of(&self, member: &Member) -> Option<Vec<Member>> {
        match plain(self.btf, member)? {
            Type::Struct(inner) | Type::Union(inner) => Some(inner.members),
            _ => None,
        }
    }
}

/// The type that `from` refers to, behind typedefs and qualifiers.
fn plain(btf: &Btf, from: &dyn BtfType) -> Option<Type> {
    let mut found = btf.resolve_chained_type(from).ok()?;
    for _ in 0..MAX_DEPTH {
        found = match &found {
            Type::Typedef(next) => btf.resolve_chained_type(next).ok()?,
            Type::Volatile(next) | Type::Const(next) | Type::Restrict(next) => {
                btf.resolve_chained_type(next).ok()?
            }
            Type::TypeTag(next) => btf.resolve_chained_type(next).ok()?,
            _ => return Some(found),
        };
    }
    None
}

/// How many arguments a `tp_btf` program gets: the parameters of `btf_trace_NAME` without the
/// first, the tracepoint's private data.
pub(super) fn tracepoint_arguments(btf: &Btf, name: &str) -> Option<usize> {
    let types = btf
        .resolve_types_by_name(&format!("btf_trace_{name}"))
        .ok()?;
    types.iter().find_map(|found| {
        let Type::Typedef(typedef) = found else {
            return None;
        };
        let Type::Ptr(pointer) = btf.resolve_chained_type(typedef).ok()? else {
            return None;
        };
        let Type::FuncProto(prototype) = btf.resolve_chained_type(&pointer).ok()? else {
            return None;
        };
        prototype.parameters.len().checked_sub(1)
    })
}

/// The id of the function of this name.
pub(super) fn function(btf: &Btf, name: &str) -> Option<u32> {
    id(btf, name, |found| matches!(found, Type::Func(_)))
}

/// The id of the structure of this name.
pub(super) fn structure(btf: &Btf, name: &str) -> Option<u32> {
    id(btf, name, |found| matches!(found, Type::Struct(_)))
}

fn id(btf: &Btf, name: &str, is_right: impl Fn(&Type) -> bool) -> Option<u32> {
    let mut ids = btf.resolve_ids_by_name(name).ok()?.into_iter();
    ids.find(|id| btf.resolve_type_by_id(*id).is_ok_and(|it| is_right(&it)))
}

const CORE_PREFIX: &str = "SKB_DROP_REASON_";
const SUBSYSTEM_PREFIX: &str = "SKB_DROP_REASON_SUBSYS_";
/// Enums of the subsystems' own reasons; their values carry the subsystem in the high bits.
const SUBSYSTEM_ENUMS: &[&str] = &[
    "mac80211_drop_reason",
    "ovs_drop_reason",
    "qdisc_drop_reason",
];

/// The names of all drop reasons in these BTFs.
pub(super) fn drop_reasons<'a>(all: impl Iterator<Item = &'a Btf>) -> DropReasons {
    let (mut names, mut subsystems) = (BTreeMap::new(), BTreeMap::new());
    for btf in all {
        for (value, name) in enumerators(btf, "skb_drop_reason") {
            // The mask and the count are no reasons, and 0 is "not dropped".
            let Some(name) = name.strip_prefix(CORE_PREFIX).or(Some(&name)) else {
                continue;
            };
            if value != 0 && !matches!(name, "MAX" | "SUBSYS_MASK") {
                names.entry(value).or_insert_with(|| name.to_owned());
            }
        }
        for (value, name) in enumerators(btf, "skb_drop_reason_subsys") {
            if let Some(name) = name.strip_prefix(SUBSYSTEM_PREFIX)
                && name != "NUM"
            {
                subsystems.entry(value).or_insert_with(|| name.to_owned());
            }
        }
        for (value, name) in SUBSYSTEM_ENUMS.iter().flat_map(|e| enumerators(btf, e)) {
            if value >> SUBSYSTEM_SHIFT != 0 && !name.starts_with("__") {
                names.entry(value).or_insert(name);
            }
        }
    }
    DropReasons::new(names, subsystems)
}

/// The values and names of an enum.
pub(super) fn enumerators(btf: &Btf, name: &str) -> Vec<(u32, String)> {
    let is_enum = |found| match found {
        Type::Enum(Enum { members, .. }) if !members.is_empty() => Some(members),
        _ => None,
    };
    btf.resolve_types_by_name(name)
        .unwrap_or_default()
        .into_iter()
        .find_map(is_enum)
        .unwrap_or_default()
        .iter()
        .filter_map(|member| Some((member.val(), btf.resolve_name(member).ok()?)))
        .collect()
}
