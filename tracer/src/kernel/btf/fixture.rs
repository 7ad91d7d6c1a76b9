//! BTF bytes for tests, written type by type.

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
