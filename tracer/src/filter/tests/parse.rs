//! What each construct is read as: the filter written out in full.

use crate::filter::{Filter, MAX_DEPTH, MAX_LENGTH};

#[track_caller]
fn reads(text: &str, expected: &str) {
    let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(filter.to_string(), expected, "{text}");
    assert_eq!(Filter::parse(expected).as_ref(), Ok(&filter), "{text}");
}

#[test]
fn an_empty_filter_is_everything() {
    for text in ["", "  ", "\t\n"] {
        let filter = Filter::parse(text).unwrap();
        assert!(filter.is_everything());
        assert_eq!(filter.to_string(), "");
    }
    assert!(!Filter::parse("ip").unwrap().is_everything());
}

#[test]
fn addresses() {
    reads("host 10.0.0.1", "host 10.0.0.1");
    reads("10.0.0.1", "host 10.0.0.1");
    reads("2001:db8::1", "host 2001:db8::1");
    reads("host [2001:db8::1]", "host 2001:db8::1");
    reads("host 2001:0DB8:0::0:1", "host 2001:db8::1");
    reads("host ::ffff:10.0.0.1", "host 10.0.0.1");
}

#[test]
fn networks() {
    reads("net 10.96.0.0/12", "net 10.96.0.0/12");
    reads("10.96.0.0/12", "net 10.96.0.0/12");
    reads("net 10.96", "net 10.96.0.0/16");
    reads("net 10", "net 10.0.0.0/8");
    reads("net 192.168.1", "net 192.168.1.0/24");
    reads("net 10.96/12", "net 10.96.0.0/12");
    reads("net 10.0.0.1/32", "host 10.0.0.1");
    reads("net 0.0.0.0/0", "net 0.0.0.0/0");
    reads("net 2001:db8::/32", "net 2001:db8::/32");
    reads("net [2001:db8::]/32", "net 2001:db8::/32");
    reads("net ::/0", "net ::/0");
    reads("net ::ffff:10.0.0.0/104", "net 10.0.0.0/8");
}

#[test]
fn ports() {
    reads("port 80", "port 80");
    reads("port http", "port 80");
    reads("port domain or https", "port 53 or port 443");
    reads("port etcd-client", "port 2379");
    reads("port 0 or 65535", "port 0 or port 65535");
    reads("portrange 8000-8080", "portrange 8000-8080");
    reads("portrange http-https", "portrange 80-443");
    reads("portrange 80", "port 80");
    reads("portrange etcd-client", "port 2379");
}

#[test]
fn directions() {
    reads("src host 10.0.0.1", "src host 10.0.0.1");
    reads("src 10.0.0.1", "src host 10.0.0.1");
    reads("dst net 10.96/12", "dst net 10.96.0.0/12");
    reads("dst 10.96.0.0/12", "dst net 10.96.0.0/12");
    reads("dst port 80", "dst port 80");
    reads("src portrange 1-9", "src portrange 1-9");
    reads("src or dst port 80", "port 80");
    reads("dst or src host 10.0.0.1", "host 10.0.0.1");
    reads("src and dst port 53", "src port 53 and dst port 53");
}

#[test]
fn protocols_and_versions() {
    for word in ["tcp", "udp", "sctp", "icmp", "icmp6", "ip", "ip6"] {
        reads(word, word);
    }
    reads("proto 6", "tcp");
    reads("proto udp", "udp");
    reads("proto gre", "proto 47");
    reads("ip proto 47", "ip and proto 47");
    reads("ip6 proto icmp6", "ip6 and icmp6");
}

#[test]
fn protocols_before_other_words() {
    reads("tcp port 80", "tcp and port 80");
    reads("tcp dst port 80", "tcp and dst port 80");
    reads("udp and port 53", "udp and port 53");
    reads("udp src portrange 1-9", "udp and src portrange 1-9");
    reads("ip host 10.0.0.1", "ip and host 10.0.0.1");
    reads("ip6 dst 2001:db8::1", "ip6 and dst host 2001:db8::1");
    reads("tcp host 10.0.0.1", "tcp and host 10.0.0.1");
    reads("icmp src 10.0.0.1", "icmp and src host 10.0.0.1");
    reads("not tcp port 80", "not (tcp and port 80)");
    reads("ip or tcp port 80", "ip or (tcp and port 80)");
}

#[test]
fn names() {
    reads("netns web", "netns web");
    reads("dev eth0", "dev eth0");
    reads("dev eth0.100 or veth1@if2", "dev eth0.100 or dev veth1@if2");
    reads("netns tcp or dev host", "netns tcp or dev host");
    reads("netns \"and\"", "netns \"and\"");
    reads("netns \"a b\"", "netns \"a b\"");
    reads("netns \"web\"", "netns web");
    reads(r#"netns "a\"b\\c""#, r#"netns "a\"b\\c""#);
    reads("netns /run/netns/web", "netns /run/netns/web");
    reads("netns (a or b)", "netns a or netns b");
    reads("netns größe", "netns größe");
    reads("netns 10.0.0.1 or dev 80", "netns 10.0.0.1 or dev 80");
    reads("dev < or dev vlan", "dev < or dev vlan");
}

#[test]
fn pods_and_drops() {
    reads("pod default/web-0", "pod default/web-0");
    reads("pod web-0", "pod default/web-0");
    reads("src pod web-0", "src pod default/web-0");
    reads("src and dst pod a/b", "src pod a/b and dst pod a/b");
    reads("pod a/b or c/d or e", "pod a/b or pod c/d or pod default/e");
    reads("tcp dst pod a/b", "tcp and dst pod a/b");
    reads("pod \"and\"", "pod default/and");
    reads("dropped", "dropped");
    reads(
        "not dropped and pod (a or b)",
        "not dropped and (pod default/a or pod default/b)",
    );
    reads("pod tcp or dropped", "pod default/tcp or dropped");
    reads("tcp and dropped", "tcp and dropped");
    for wrong in [
        "pod",
        "pod a/b/c",
        "pod /a",
        "pod a/",
        "src dropped",
        "tcp dropped",
        "pod and tcp",
    ] {
        assert!(Filter::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn services() {
    reads("service shop/web", "service shop/web");
    reads("service web", "service default/web");
    reads("service web:http", "service default/web:http");
    reads("service shop/web:080", "service shop/web:80");
    reads(
        "udp service kube-system/kube-dns:dns",
        "udp and service kube-system/kube-dns:dns",
    );
    reads(
        "service a/b or c/d:e or f",
        "service a/b or service c/d:e or service default/f",
    );
    reads(
        "not service (a or b)",
        "not (service default/a or service default/b)",
    );
    reads("service tcp and dropped", "service default/tcp and dropped");
    reads("service \"and\"", "service default/and");
    for (wrong, said) in [
        ("service", "the name of a Service is missing"),
        ("service a/b/c", "does not name a Service"),
        ("service a/b:", "does not name a Service"),
        ("service :80", "does not name a Service"),
        ("service a:b:c", "does not name a Service"),
        ("service a:70000", "out of range"),
        ("src service a", "remove them"),
        ("serivce a", "`service`"),
    ] {
        let error = Filter::parse(wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{wrong}: {error}");
    }
}

#[test]
fn and_and_or_bind_equally_from_the_left() {
    reads("tcp or udp and ip", "(tcp or udp) and ip");
    reads("tcp and udp or ip", "(tcp and udp) or ip");
    reads("tcp or (udp and ip)", "tcp or (udp and ip)");
    reads("tcp && udp || ip", "(tcp and udp) or ip");
    reads("tcp and (udp and ip)", "tcp and udp and ip");
    reads("tcp||udp", "tcp or udp");
}

#[test]
fn not_binds_tightest() {
    reads("not tcp and udp", "not tcp and udp");
    reads("!tcp or !udp", "not tcp or not udp");
    reads("not (tcp and udp)", "not (tcp and udp)");
    reads("not not tcp", "not not tcp");
    reads("!(port 80)", "not port 80");
}

#[test]
fn operands_inherit_the_words_of_the_one_before() {
    reads(
        "host 10.0.0.1 or 10.0.0.2",
        "host 10.0.0.1 or host 10.0.0.2",
    );
    reads(
        "not host 10.0.0.1 and 10.0.0.2",
        "not host 10.0.0.1 and host 10.0.0.2",
    );
    reads("port 80 or 443 or 8080", "port 80 or port 443 or port 8080");
    reads("port 80 or not 443", "port 80 or not port 443");
    reads(
        "tcp dst port 80 or 443",
        "(tcp and dst port 80) or (tcp and dst port 443)",
    );
    reads(
        "(port 80) or (443 or 8080)",
        "port 80 or port 443 or port 8080",
    );
    reads(
        "src 10.0.0.1 or 10.0.0.2",
        "src host 10.0.0.1 or src host 10.0.0.2",
    );
    reads("netns a or b", "netns a or netns b");
    reads(
        "port 80 and tcp or 10.0.0.1",
        "(port 80 and tcp) or host 10.0.0.1",
    );
    reads(
        "host 10.0.0.1 and port 80 or 443",
        "(host 10.0.0.1 and port 80) or port 443",
    );
}

#[test]
fn words_before_parentheses_hold_for_all_in_them() {
    reads("port (80 or 443)", "port 80 or port 443");
    reads("port not 22", "not port 22");
    reads(
        "tcp port (80 or not 443)",
        "(tcp and port 80) or not (tcp and port 443)",
    );
    reads(
        "src (10.0.0.1 or 10.96/12)",
        "src host 10.0.0.1 or src net 10.96.0.0/12",
    );
    reads(
        "host (10.0.0.1) or 10.0.0.2",
        "host 10.0.0.1 or host 10.0.0.2",
    );
}

#[test]
fn spaces_of_any_kind_separate() {
    reads("tcp\u{a0}port\t80\n", "tcp and port 80");
    reads("(tcp)and(udp)", "tcp and udp");
}

#[test]
fn nesting_is_limited_and_length_too() {
    let nested = |levels: usize| format!("{}tcp{}", "(".repeat(levels), ")".repeat(levels));
    reads(&nested(MAX_DEPTH), "tcp");
    assert!(Filter::parse(&nested(MAX_DEPTH + 1)).is_err());
    assert!(Filter::parse(&"(".repeat(MAX_LENGTH)).is_err());
    assert!(Filter::parse(&"!".repeat(MAX_LENGTH)).is_err());
    assert!(Filter::parse(&format!("{}tcp", "!".repeat(MAX_DEPTH - 1))).is_ok());
    assert!(Filter::parse(&format!("{}tcp", "!".repeat(MAX_DEPTH))).is_err());
    assert!(Filter::parse(&"ip and ip or ".repeat(MAX_DEPTH)).is_err());

    let long = |length: usize| format!("netns {}", "a".repeat(length - 6));
    reads(&long(MAX_LENGTH), &long(MAX_LENGTH));
    assert!(Filter::parse(&long(MAX_LENGTH + 1)).is_err());
    // Within the limit as it stands, but not with every `tcp and dst port` written out.
    let growing = format!("tcp dst port 1{}", " or 1".repeat(700));
    assert!(growing.len() < MAX_LENGTH);
    assert!(Filter::parse(&growing).is_err());
}
