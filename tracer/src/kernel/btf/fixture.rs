//! BTF bytes for tests, written type by type, and a whole kernel of them.

use std::collections::BTreeMap;

use tracer_common::fields::FIELDS;

use super::KernelBtf;

/// A BTF under construction. Types are numbered from 1 in the order they are added.
pub(super) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// The string offset and type id at which a split BTF starts; 0 and 1 for a base.
    first_string: u32,
    next_id: u32,
}

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            first_string: 0,
            next_id: 1,
        }
    }

    /// A split BTF on top of `base`, as modules have it.
    pub(super) fn split(base: &Self) -> Self {
        Self {
            types: Vec::new(),
            strings: vec![0],
            first_string: u32::try_from(base.strings.len()).unwrap(),
            next_id: base.next_id,
        }
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let offset = self.first_string + u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        offset
    }

    fn add(&mut self, name: &str, kind: u32, count: usize, size_or_type: u32) -> u32 {
        self.add_flagged(name, kind, count, size_or_type, 0)
    }

    fn add_flagged(
        &mut self,
        name: &str,
        kind: u32,
        count: usize,
        size_or_type: u32,
        flag: u32,
    ) -> u32 {
        let name = self.string(name);
        let info = flag << 31 | kind << 24 | u32::try_from(count).unwrap();
        self.words(&[name, info, size_or_type]);
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn int(&mut self, name: &str) -> u32 {
        let id = self.add(name, INT, 0, 4);
        self.words(&[32]);
        id
    }

    pub(super) fn pointer(&mut self, to: u32) -> u32 {
        self.add("", PTR, 0, to)
    }

    /// An array of `count`.
    pub(super) fn array(&mut self, of: u32, count: u32) -> u32 {
        let id = self.add("", ARRAY, 0, 0);
        self.words(&[of, of, count]);
        id
    }

    pub(super) fn typedef(&mut self, name: &str, to: u32) -> u32 {
        self.add(name, TYPEDEF, 0, to)
    }

    pub(super) fn forward(&mut self, name: &str) -> u32 {
        self.add(name, FWD, 0, 0)
    }

    /// Members are name, type id, offset in bits.
    pub(super) fn structure(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.members(name, STRUCT, members, 0)
    }

    pub(super) fn union(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.members(name, UNION, members, 0)
    }

    /// A structure whose members have bit field sizes in the high eight bits of their offsets.
    pub(super) fn bit_fields(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.members(name, STRUCT, members, 1)
    }

    fn members(&mut self, name: &str, kind: u32, members: &[(&str, u32, u32)], flag: u32) -> u32 {
        let names: Vec<u32> = members.iter().map(|m| self.string(m.0)).collect();
        let id = self.add_flagged(name, kind, members.len(), 4096, flag);
        for (name, (_, member, offset)) in names.into_iter().zip(members) {
            self.words(&[name, *member, *offset]);
        }
        id
    }

    pub(super) fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let names: Vec<u32> = values.iter().map(|v| self.string(v.0)).collect();
        let id = self.add(name, ENUM, values.len(), 4);
        for (name, (_, value)) in names.into_iter().zip(values) {
            self.words(&[name, *value]);
        }
        id
    }

    /// A prototype with this many parameters of one type.
    pub(super) fn prototype(&mut self, parameters: usize, parameter: u32) -> u32 {
        let id = self.add("", FUNC_PROTO, parameters, 0);
        for _ in 0..parameters {
            self.words(&[0, parameter]);
        }
        id
    }

    pub(super) fn function(&mut self, name: &str, prototype: u32) -> u32 {
        self.add(name, FUNC, 0, prototype)
    }

    /// The tracepoint's typedef, with `arguments` after the private data.
    pub(super) fn tracepoint(&mut self, name: &str, arguments: usize, argument: u32) -> u32 {
        let prototype = self.prototype(arguments + 1, argument);
        let pointer = self.pointer(prototype);
        self.typedef(&format!("btf_trace_{name}"), pointer)
    }

    /// The header, the types and the strings.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (types, strings) = (self.types.len(), self.strings.len());
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, types, types, strings] {
            bytes.extend_from_slice(&u32::try_from(word).unwrap().to_le_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

/// The structure that a module brings.
const OF_MODULE: &str = "nf_conn";

/// A kernel with all that is asked of one, as 6.1 has it, but for what `lacks` names: structures,
/// members (`sk_buff.len`), tracepoints, functions, kinds of maps. `nf_conntrack` is a module, with
/// BTF of its own; `reason` is the argument of `kfree_skb`.
pub(in crate::kernel) fn kernel(lacks: &[&str]) -> KernelBtf {
    let has = |what: &str| !lacks.contains(&what);
    let mut b = Builder::new();
    let int = b.int("unsigned int");
    structures(&mut b, int, &|structure, member| {
        structure != OF_MODULE && has(structure) && has(&format!("{structure}.{member}"))
    });
    for name in crate::kernel::plan::TRACEPOINTS
        .into_iter()
        .filter(|name| has(name))
    {
        let arguments = match name {
            "kfree_skb" if has("reason") => 3,
            "kfree_skb" | "net_dev_start_xmit" => 2,
            _ => 1,
        };
        b.tracepoint(name, arguments, int);
    }
    let prototype = b.prototype(4, int);
    for name in ["nf_hook_slow", "bpf_nf_link_attach"]
        .into_iter()
        .filter(|name| has(name))
    {
        b.function(name, prototype);
    }
    let kinds = ["BPF_MAP_TYPE_ARRAY", "BPF_MAP_TYPE_RINGBUF"].into_iter();
    let kinds: Vec<(&str, u32)> = kinds.filter(|kind| has(kind)).zip(2..).collect();
    b.enumeration("bpf_map_type", &kinds);
    let mut module = Builder::split(&b);
    structures(&mut module, int, &|structure, _| structure == OF_MODULE);
    let mut kernel = KernelBtf::from_bytes(&b.bytes()).unwrap();
    if has("nf_conntrack") {
        kernel.add_module("nf_conntrack", &module.bytes()).unwrap();
    }
    kernel
}

/// The structures that the programs read, with those members of theirs.
fn structures(b: &mut Builder, int: u32, has: &dyn Fn(&str, &str) -> bool) {
    let mut structures: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for field in FIELDS
        .iter()
        .filter(|field| has(field.structure, field.member))
    {
        structures
            .entry(field.structure)
            .or_default()
            .push(field.member);
    }
    for (structure, members) in structures {
        composite(b, int, structure, &members);
    }
}

/// A structure with these members, dots for a member of a member.
fn composite(b: &mut Builder, int: u32, name: &str, paths: &[&str]) -> u32 {
    let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for path in paths {
        let (member, inner) = path.split_once('.').unwrap_or((path, ""));
        let inner = Some(inner).filter(|inner| !inner.is_empty());
        members.entry(member).or_default().extend(inner);
    }
    let mut written = Vec::new();
    for ((member, inner), at) in members.into_iter().zip((0..).step_by(256)) {
        let kind = if inner.is_empty() {
            int
        } else {
            composite(b, int, "", &inner)
        };
        written.push((member, kind, at));
    }
    b.structure(name, &written)
}

/// BTF in which nothing has this name any more.
pub(in crate::kernel) fn without_name(mut btf: Vec<u8>, name: &str) -> Vec<u8> {
    let name = [b"\0", name.as_bytes(), b"\0"].concat();
    let places = btf.windows(name.len()).enumerate();
    let places: Vec<usize> = places
        .filter_map(|(place, window)| (window == name).then_some(place + 1))
        .collect();
    assert!(!places.is_empty(), "it has no such name");
    for place in places {
        btf[place] = b'?';
    }
    btf
}
