use proptest::prelude::*;

use super::{fixture::Builder, *};

/// A kernel with the shapes that matter: members in anonymous structures, typedefs, bit fields.
fn kernel() -> Builder {
    let mut b = Builder::new();
    let int = b.int("unsigned int");
    let device = b.forward("net_device");
    let device = b.pointer(device);
    let rest = b.union("", &[("dev", device, 0), ("dev_scratch", int, 0)]);
    let outer = b.structure("", &[("next", int, 0), ("", rest, 128)]);
    let headers = b.structure("", &[("protocol", int, 32)]);
    let group = b.union("", &[("", headers, 0), ("headers", headers, 0)]);
    b.structure(
        "sk_buff",
        &[("", outer, 0), ("len", int, 320), ("", group, 640)],
    );
    let pointer = b.structure("", &[("net", int, 64)]);
    let possible = b.typedef("possible_net_t", pointer);
    b.structure("net_device", &[("nd_net", possible, 512)]);
    b.bit_fields(
        "flags",
        &[("low", int, 1 << 24), ("high", int, 3 << 24 | 13)],
    );
    b.enumeration(
        "skb_drop_reason",
        &[
            ("SKB_NOT_DROPPED_YET", 0),
            ("SKB_CONSUMED", 1),
            ("SKB_DROP_REASON_NETFILTER_DROP", 9),
            ("SKB_DROP_REASON_MAX", 10),
            ("SKB_DROP_REASON_SUBSYS_MASK", 0xffff_0000),
        ],
    );
    b.enumeration(
        "skb_drop_reason_subsys",
        &[
            ("SKB_DROP_REASON_SUBSYS_CORE", 0),
            ("SKB_DROP_REASON_SUBSYS_OPENVSWITCH", 3),
            ("SKB_DROP_REASON_SUBSYS_NUM", 4),
        ],
    );
    b.tracepoint("kfree_skb", 3, int);
    let prototype = b.prototype(4, int);
    b.function("nf_hook_slow", prototype);
    b.forward("nf_conn");
    b
}

fn decoded(builder: &Builder) -> KernelBtf {
    KernelBtf::from_bytes(&builder.bytes()).unwrap()
}

#[test]
fn members_are_found_through_anonymous_and_dotted_levels() {
    let btf = decoded(&kernel());
    assert_eq!(btf.offset("sk_buff", "len"), Ok(40));
    assert_eq!(btf.offset("sk_buff", "dev"), Ok(16));
    assert_eq!(btf.offset("sk_buff", "protocol"), Ok(84));
    assert_eq!(btf.offset("sk_buff", "headers.protocol"), Ok(84));
    assert_eq!(btf.offset("net_device", "nd_net.net"), Ok(72));
    assert_eq!(btf.offset("sk_buff", "absent"), Err(Missing::Member));
    assert_eq!(btf.offset("sk_buff", "len.more"), Err(Missing::Member));
    assert_eq!(btf.offset("absent", "len"), Err(Missing::Structure));
}

#[test]
fn elements_of_an_array_of_integers_are_found() {
    let mut b = kernel();
    let int = b.int("unsigned int");
    let word = b.typedef("u32", int);
    let registers = b.array(word, 31);
    let pointer = b.pointer(int);
    let pointers = b.array(pointer, 2);
    let user = b.structure("", &[("regs", registers, 64), ("sp", word, 64 + 31 * 32)]);
    let members = &[("", user, 0), ("stackframe", pointers, 2048)];
    b.structure("pt_regs", members);
    let btf = decoded(&b);
    assert_eq!(btf.offset("pt_regs", "regs[0]"), Ok(8));
    assert_eq!(btf.offset("pt_regs", "regs[30]"), Ok(128));
    assert_eq!(btf.offset("pt_regs", "sp"), Ok(132));
    let elsewhere = [
        "regs[31]",
        "regs[",
        "regs[]",
        "regs[-1]",
        "sp[0]",
        "stackframe[0]",
    ];
    for member in elsewhere {
        assert_eq!(
            btf.offset("pt_regs", member),
            Err(Missing::Member),
            "{member}"
        );
    }
}

#[test]
fn a_bit_field_is_at_its_byte() {
    let btf = decoded(&kernel());
    assert_eq!(btf.offset("flags", "low"), Ok(0));
    assert_eq!(btf.offset("flags", "high"), Ok(1));
}

#[test]
fn a_structure_of_a_module_is_found_in_its_split_btf() {
    let base = kernel();
    let mut module = Builder::split(&base);
    let status = module.int("unsigned long");
    module.structure("nf_conn", &[("status", status, 128)]);
    let mut btf = decoded(&base);
    assert_eq!(btf.offset("nf_conn", "status"), Err(Missing::Structure));
    btf.add_module("nf_conntrack", &module.bytes()).unwrap();
    assert_eq!(btf.offset("nf_conn", "status"), Ok(16));
    assert_eq!(btf.offset("sk_buff", "len"), Ok(40));
}

#[test]
fn drop_reasons_lose_their_prefix_and_keep_their_subsystem() {
    let base = kernel();
    let mut module = Builder::split(&base);
    module.enumeration(
        "ovs_drop_reason",
        &[
            ("__OVS_DROP_REASON", 3 << 16),
            ("OVS_DROP_LAST_ACTION", 3 << 16 | 1),
        ],
    );
    let mut btf = decoded(&base);
    btf.add_module("openvswitch", &module.bytes()).unwrap();
    let reasons = btf.drop_reasons();
    assert_eq!(reasons.len(), 3);
    assert_eq!(reasons.name(1).as_deref(), Some("SKB_CONSUMED"));
    assert_eq!(reasons.name(9).as_deref(), Some("NETFILTER_DROP"));
    assert_eq!(reasons.name(0), None);
    assert_eq!(reasons.name(10), None);
    let name = |number| reasons.name(number).map(std::borrow::Cow::into_owned);
    assert_eq!(name(3 << 16 | 1).as_deref(), Some("OVS_DROP_LAST_ACTION"));
    assert_eq!(name(3 << 16 | 2).as_deref(), Some("OPENVSWITCH:2"));
}

#[test]
fn tracepoints_and_functions_are_known_by_name() {
    let btf = decoded(&kernel());
    assert_eq!(btf.tracepoint_args("kfree_skb"), Some(3));
    assert_eq!(btf.tracepoint_args("absent"), None);
    assert!(btf.has_function("nf_hook_slow"));
    assert!(!btf.has_function("sk_buff"), "a structure is no function");
}

#[test]
fn what_is_missing_is_named_with_what_to_do() {
    let error = decoded(&kernel()).offsets().unwrap_err().to_string();
    assert!(
        error.contains("struct sk_buff") && error.contains("member head"),
        "{error}"
    );
    let error = KernelBtf::load_from(Path::new("/nonexistent")).unwrap_err();
    assert!(
        error.to_string().contains("CONFIG_DEBUG_INFO_BTF"),
        "{error}"
    );
    let error = KernelBtf::from_bytes(b"not BTF").unwrap_err().to_string();
    assert!(
        error.contains("cannot decode the BTF of vmlinux"),
        "{error}"
    );
}

#[test]
fn structures_that_contain_themselves_end_the_search() {
    let mut b = Builder::new();
    let members: Vec<(&str, u32, u32)> = (0..100).map(|_| ("", 1, 0)).collect();
    assert_eq!(b.structure("sk_buff", &members), 1);
    let loop_id = b.typedef("loop", 3);
    assert_eq!(b.typedef("pool", loop_id), 3);
    b.structure("net", &[("ns", loop_id, 0)]);
    let btf = decoded(&b);
    assert_eq!(btf.offset("sk_buff", "len"), Err(Missing::Member));
    assert_eq!(btf.offset("net", "ns.inum"), Err(Missing::Member));
}

#[test]
fn the_running_kernel_has_what_the_programs_need() {
    let btf = match KernelBtf::load() {
        Ok(btf) => btf,
        Err(error) => return println!("skipped: {error}"),
    };
    let offsets = btf.offsets().unwrap();
    assert_eq!(offsets.iter().count(), FIELDS.len());
    assert_eq!(btf.offset("sk_buff", "next"), Ok(0), "so on every kernel");
    let (head, data) = (offsets.get("SKB_HEAD"), offsets.get("SKB_DATA"));
    assert_eq!(
        head.map(|head| head + 8),
        data,
        "neighbours on every 64-bit kernel"
    );
    assert!(btf.tracepoint_args("net_dev_queue").is_some());
    let known = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));
    for register in ["CALL_FIRST", "CALL_SECOND", "CALL_RESULT", "CALL_STACK"] {
        assert_eq!(offsets.get(register).is_some(), known, "{register}");
    }
    assert!(btf.has_function("nf_hook_slow") || offsets.get("NET_HOOKS_IPV4").is_none());
}

proptest! {
    #[test]
    fn hostile_bytes_give_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = KernelBtf::from_bytes(&bytes);
    }

    #[test]
    fn damaged_btf_gives_an_answer_or_an_error(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = kernel().bytes();
        for (place, value) in damage {
            // The header's lengths stay: most damage there is refused before anything is looked up.
            let place = 24 + place.index(bytes.len() - 24);
            bytes[place] = value;
        }
        if let Ok(btf) = KernelBtf::from_bytes(&bytes) {
            let _ = btf.offsets();
            let _ = btf.offset("sk_buff", "headers.protocol");
            let _ = btf.offset("sk_buff", "headers[1]");
            let _ = btf.drop_reasons();
            let _ = btf.tracepoint_args("kfree_skb");
        }
    }
}
