use std::collections::{BTreeMap, BTreeSet};

use aya_obj::generated::bpf_insn;

use super::*;

const CAST: Cast = Cast {
    function: 0x0012_3456,
    words: 77,
    buffer: 78,
};

/// As a kernel's: each member at a place of its own.
fn offsets(but: Option<&str>) -> Offsets {
    let places = FIELDS.iter().zip(1_u32..);
    let values = places.map(|(field, n)| (field.name, n * 16));
    values.filter(|(name, _)| Some(*name) != but).collect()
}

/// The instructions of all programs and functions, without those that are numbers.
fn instructions(object: &[u8]) -> Vec<bpf_insn> {
    let object = aya_obj::Object::parse(object).unwrap();
    let functions = object.functions.values();
    let mut all = Vec::new();
    for function in functions {
        let mut instructions = function.instructions.iter();
        while let Some(instruction) = instructions.next() {
            all.push(*instruction);
            if instruction.code == WIDE_MOVE {
                instructions.next();
            }
        }
    }
    all
}

/// The constants that are stood for by loads, and by moves.
fn stood_for(instructions: &[bpf_insn]) -> (BTreeSet<usize>, BTreeSet<usize>) {
    let loads = instructions.iter().filter(|it| LOADS.contains(&it.code));
    let moves = instructions.iter().filter(|it| it.code == MOVE);
    (
        loads
            .filter_map(|it| Some(stand_in::of_load(it.off)?.0))
            .collect(),
        moves.filter_map(|it| stand_in::of_value(it.imm)).collect(),
    )
}

fn calls(instructions: &[bpf_insn], immediate: u32) -> usize {
    let is = |it: &&bpf_insn| it.code == CALL && it.imm == immediate.cast_signed();
    instructions.iter().filter(is).count()
}

#[test]
fn every_constant_is_stood_for_and_none_is_left() {
    let (loads, moves) = stood_for(&instructions(OBJECT));
    let all: BTreeSet<_> = loads.union(&moves).copied().collect();
    assert_eq!(all, (0..stand_in::COUNT).collect());
    let ready = Object::new(&offsets(None), Faults::Handled, Some(CAST)).unwrap();
    let ready = instructions(ready.bytes());
    assert_eq!(stood_for(&ready), (BTreeSet::new(), BTreeSet::new()));
}

#[test]
fn a_load_has_its_members_offset() {
    let ready = Object::new(&offsets(None), Faults::Handled, None).unwrap();
    let (before, after) = (instructions(OBJECT), instructions(ready.bytes()));
    assert_eq!(before.len(), after.len());
    let mut seen = BTreeSet::new();
    for (before, after) in before.iter().zip(&after) {
        let stand_in = stand_in::of_load(before.off).filter(|_| LOADS.contains(&before.code));
        let Some((constant, behind)) = stand_in else {
            assert_eq!(before.off, after.off);
            continue;
        };
        let place = (constant + 1) * 16 + usize::from(behind);
        assert_eq!(usize::try_from(after.off), Ok(place));
        assert_eq!(
            (before.code, before.src_reg(), before.dst_reg()),
            (after.code, after.src_reg(), after.dst_reg())
        );
        seen.insert(behind);
    }
    assert_eq!(
        seen,
        [0, 8].into(),
        "a name's second word, a second pointer"
    );
}

/// The values that moves have, by constant.
fn values(ready: &Object) -> BTreeMap<usize, BTreeSet<i32>> {
    let (before, after) = (instructions(OBJECT), instructions(ready.bytes()));
    let mut values: BTreeMap<usize, BTreeSet<i32>> = BTreeMap::new();
    for (before, after) in before.iter().zip(&after) {
        if let (MOVE, Some(constant)) = (before.code, stand_in::of_value(before.imm)) {
            values.entry(constant).or_default().insert(after.imm);
        }
    }
    values
}

#[test]
fn a_move_has_its_constants_value() {
    let of = |faults, cast| {
        let values = values(&Object::new(&offsets(None), faults, cast).unwrap());
        [
            stand_in::FAULTS_ARE_FATAL,
            stand_in::CAST_WORDS,
            stand_in::CAST_BUFFER,
        ]
        .map(|constant| values[&constant].iter().copied().collect::<Vec<i32>>())
    };
    let none = i32::try_from(cast::NONE).unwrap();
    assert_eq!(of(Faults::Fatal, None), [[1], [none], [none]]);
    assert_eq!(of(Faults::Handled, Some(CAST)), [[0], [77], [78]]);
    let ready = Object::new(&offsets(None), Faults::Handled, None).unwrap();
    let values = values(&ready);
    let address = tracer_common::fields::RETURN_ADDRESS.cast_signed();
    assert_eq!(values[&stand_in::RETURN_ADDRESS], [address].into());
    for (constant, value) in values
        .iter()
        .filter(|(constant, _)| **constant < FIELDS.len())
    {
        let offset = i32::try_from((constant + 1) * 16).unwrap();
        assert_eq!(*value, [offset].into());
    }
}

#[test]
fn what_a_kernel_lacks_is_said_to_and_not_loaded() {
    let absent = "SKB_NFCT";
    let index = tracer_common::fields::index(absent);
    let ready = Object::new(&offsets(Some(absent)), Faults::Handled, Some(CAST)).unwrap();
    let (before, after) = (instructions(OBJECT), instructions(ready.bytes()));
    let (loads, moves) = stood_for(&after);
    assert_eq!((loads, moves), ([index].into(), [].into()));
    let asked = before
        .iter()
        .zip(&after)
        .filter(|(before, _)| before.code == MOVE && stand_in::of_value(before.imm) == Some(index));
    let answers: Vec<i32> = asked.map(|(_, after)| after.imm).collect();
    assert!(!answers.is_empty() && answers.iter().all(|answer| *answer == -1));
}

#[test]
fn every_cast_is_a_call_of_the_kernels_function() {
    let without = Object::new(&offsets(None), Faults::Handled, None).unwrap();
    let without = instructions(without.bytes());
    let stand_ins = calls(&without, cast::CALL);
    assert!(stand_ins > 0);
    let ready = Object::new(&offsets(None), Faults::Handled, Some(CAST)).unwrap();
    assert_eq!(ready.bytes().as_ptr().align_offset(ALIGNMENT), 0);
    let ready = instructions(ready.bytes());
    assert_eq!(calls(&ready, cast::CALL), 0);
    let of_the_kernel: Vec<_> = ready
        .iter()
        .filter(|it| it.code == CALL && it.src_reg() == KERNEL_FUNCTION)
        .collect();
    assert_eq!(of_the_kernel.len(), stand_ins);
    let function = CAST.function.cast_signed();
    assert!(of_the_kernel.iter().all(|it| it.imm == function));
}

#[test]
fn a_member_out_of_reach_is_named() {
    let mut far: Vec<_> = offsets(Some("NET_INUM")).iter().collect();
    far.push(("NET_INUM", 40_000));
    let far: Offsets = far.into_iter().collect();
    let error = Object::new(&far, Faults::Handled, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ns.inum of this kernel's struct net begins at byte 40000, and a BPF instruction reaches 32767: \
         the tracer cannot work with this kernel"
    );
}
