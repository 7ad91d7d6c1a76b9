//! Errors as the user sees them: the sentence, the filter, the place.

use crate::filter::{Filter, MAX_LENGTH};

/// The errors of all the texts.
fn errors(texts: &[&str]) -> String {
    let rendered: Vec<_> = texts
        .iter()
        .map(|text| match Filter::parse(text) {
            Ok(filter) => panic!("{text:?} is a filter: {filter}"),
            Err(error) => error.to_string(),
        })
        .collect();
    rendered.join("\n")
}

#[test]
fn addresses() {
    insta::assert_snapshot!(errors(&[
        "host",
        "host 10.0.0",
        "host 10.0.0.256",
        "host 10.0.0.1.2",
        "host 10.0.0.0/8",
        "host 10.0.0.1:80",
        "host [2001:db8::1]:443",
        "host [10.0.0.1]",
        "host 2001:db8::1::2",
        "host fe80::1%eth0 and tcp",
        "host example.com",
        "dst 80",
        "ip6 host 10.0.0.1",
        "ip host ::1",
    ]));
}

#[test]
fn networks() {
    insta::assert_snapshot!(errors(&[
        "net",
        "net 10.96.0.0",
        "net 10.96.0.10/16",
        "net 10.0.0.0/33",
        "net 2001:db8::/129",
        "net 10.0.0.0/",
        "net 10.0.0.0/-1",
        "net /8",
        "net 2001:db8::1/32",
        "net a.b.c",
        "net 10.0.0.0 mask 255.0.0.0",
    ]));
}

#[test]
fn ports() {
    insta::assert_snapshot!(errors(&[
        "tcp port 70000",
        "port",
        "port 80-443",
        "port -1",
        "port 10.0.0.1",
        "port 80 and 10.0.0.1",
        "port nonsense",
        "port src 80",
        "port tcp",
        "portrange 443-80",
        "portrange 80-",
        "portrange 80-99999",
        "portrange x",
        "icmp port 80",
        "port (80 or host 10.0.0.1)",
        "80",
        "tcp 80",
        "http",
    ]));
}

#[test]
fn words() {
    insta::assert_snapshot!(errors(&[
        "prot 80",
        "tcp prot 80",
        "TCP port 80",
        "host 10.0.0.1 adn port 80",
        "hots 10.0.0.1",
        "host 10.0.0.1 port 80",
        "tcp udp",
        "tcp proto 6",
        "src proto 6",
        "src netns web",
        "dst tcp port 80",
        "proto nonsense",
        "gre",
        "pod a/b/c",
        "pod",
        "tcp and service default/web:http:80",
        "service",
        "src service web",
        "src dropped",
        "src pod",
        "netns a and 10.0.0.1",
        "dev a or 80",
        "tcp port src 80",
        "dst udp 10.0.0.1",
        "vlan 5",
        "tcp[13] = 2",
        "len > 100",
        "gateway router",
        "port = 80",
        "nonsense",
        "dev averyveryverylongname",
        "dev a/b",
        "netns",
        "netns and tcp",
        "netns \"\"",
        "\"tcp\"",
    ]));
}

#[test]
fn structure() {
    insta::assert_snapshot!(errors(&[
        "(tcp",
        "tcp)",
        "((tcp) and udp",
        "()",
        "(",
        "tcp and",
        "tcp and   ",
        "and tcp",
        "tcp or or udp",
        "not",
        "tcp and (udp or)",
        "tcp & udp",
        "tcp | udp",
        "tcp != udp",
        "netns \"web",
        r#"netns "a\n""#,
    ]));
}

#[test]
fn the_mark_stands_under_its_place_whatever_the_text() {
    insta::assert_snapshot!(errors(&[
        "netns 名前空間 and port 70000",
        "tcp\tand\tport 70000",
        "tcp and\nport 70000",
        "tcp \u{1b}[31m and port 1",
        "netns e\u{301}te\u{301} and port 70000",
        "netns \u{202e}abc and port 70000",
        "port \u{202e}70000",
        "dev 名前名前名前",
    ]));
}

#[test]
fn of_a_long_text_the_part_around_the_place_is_shown() {
    let list = "host 10.0.0.1 or ".repeat(20);
    let long = "x".repeat(MAX_LENGTH * 2);
    insta::assert_snapshot!(errors(&[
        &format!("{list}port 70000"),
        &format!("port 70000 or {list}tcp"),
        &format!("{list}port 70000 or {list}tcp"),
        &format!("host {}", "y".repeat(200)),
        &format!("tcp and 名{}", "名".repeat(100)),
        &long,
    ]));
}

#[test]
fn spans_are_bytes_of_the_text() {
    for (text, marked) in [
        ("netns 名前 and port 70000", "70000"),
        ("tcp and ((udp)", "("),
        ("tcp and ", ""),
        ("host 10.0.0.1 adn tcp", "adn"),
    ] {
        let error = Filter::parse(text).unwrap_err();
        assert_eq!(&text[error.span()], marked, "{text}");
    }
}
