use proptest::prelude::*;

use super::{
    super::{
        Counters, Policy, Refusal, Tables,
        condition::{Condition, PortEnd, Test},
        target::{Setting, TargetKind},
        value::{Masked, Network, Range},
    },
    fixtures,
};

#[test]
fn what_the_tools_print_comes_back() {
    for (name, text) in fixtures::ALL {
        let tables = Tables::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        similar(name, text, &tables.to_string());
    }
}

fn similar(name: &str, text: &str, printed: &str) {
    for (ours, theirs) in printed.lines().zip(text.lines()) {
        assert_eq!(ours, theirs, "{name}");
    }
    assert_eq!(printed, text, "{name}");
}

/// What the parser does not understand is known by name: nothing falls to it unnoticed.
#[test]
fn what_is_not_understood_is_this() {
    let mut found = Vec::new();
    for (_, text) in fixtures::ALL {
        let tables = Tables::parse(text).unwrap();
        let chains = tables.tables.iter().flat_map(|table| &table.chains);
        for condition in chains
            .flat_map(|chain| &chain.rules)
            .flat_map(|rule| &rule.conditions)
        {
            if let Test::Undecided(words) = &condition.test {
                found.push(words.to_string());
            }
        }
    }
    found.sort();
    found.dedup();
    let expected = [
        "--ctexpire 5:9",
        "--ctproto 6",
        "--every 3",
        "--limit-iface-in",
        "--rcheck",
        "--remove",
        "--rttl",
        "--tcp-option 7",
        "--update",
    ];
    assert_eq!(found, expected);
}

fn one(rule: &str) -> super::super::Rule {
    let text = format!("*filter\n:X - [0:0]\n:INPUT DROP [3:4]\n{rule}\nCOMMIT\n");
    let tables = Tables::parse(&text).unwrap();
    assert_eq!(tables.to_string(), text);
    tables.tables[0].chains[1].rules[0].clone()
}

fn tests(rule: &str) -> Vec<(bool, Test)> {
    let conditions = one(rule).conditions.into_iter();
    conditions
        .map(|Condition { inverted, test }| (inverted, test))
        .filter(|(_, test)| !matches!(test, Test::Module(_)))
        .collect()
}

#[test]
fn a_rule_is_its_conditions_and_its_target() {
    let rule = one(
        "[7:420] -A INPUT ! -s 10.0.0.0/8 -i eth+ -p tcp -m comment --comment \"a b\" \
         -m multiport --dports 80,90:99 -m mark ! --mark 0x1/0x3 -j X",
    );
    let counters = Counters {
        packets: 7,
        bytes: 420,
    };
    assert_eq!(rule.counters, Some(counters));
    assert_eq!(rule.comment(), Some("a b"));
    let target = rule.target.unwrap();
    assert_eq!((&*target.name, target.kind), ("X", TargetKind::Jump(0)));
    assert_eq!(
        rule.conditions[0],
        Condition {
            inverted: true,
            test: Test::Source(Network::parse("10.0.0.0/8").unwrap()),
        }
    );
    let ports = [
        Range {
            first: 80,
            last: 80,
        },
        Range {
            first: 90,
            last: 99,
        },
    ];
    assert_eq!(
        rule.conditions[6].test,
        Test::Multiport(PortEnd::Destination, ports.into())
    );
    let mark = Masked { value: 1, mask: 3 };
    assert_eq!(rule.conditions[8].test, Test::Mark(mark));
    assert!(rule.conditions[8].inverted);
}

#[test]
fn targets_are_told_apart() {
    let kind = |rule: &str| one(rule).target.unwrap().kind;
    assert_eq!(kind("-A INPUT -g X"), TargetKind::Goto(0));
    assert_eq!(kind("-A INPUT -j DROP"), TargetKind::Named);
    let mark = one("-A INPUT -j MARK --set-xmark 0x4000/0x0")
        .target
        .unwrap();
    let expected = Setting::SetMark(Masked {
        value: 0x4000,
        mask: 0,
    });
    assert_eq!(*mark.settings, [expected]);
    assert!(one("-A INPUT").target.is_none());
}

#[test]
fn what_is_unknown_is_kept_as_it_is() {
    let words = |rule: &str| {
        let tests = tests(rule);
        let all = tests.into_iter().map(|(_, test)| match test {
            Test::Undecided(words) | Test::Parameter(words) => words.to_string(),
            test => panic!("{test:?}"),
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(
        words("-A INPUT -m fancy ! --what \"it\\'s\" x -5 --flag -j DROP"),
        ["--what \"it\\'s\" x -5", "--flag"]
    );
    // A service's name is no port that could be compared.
    assert_eq!(
        words("-A INPUT -m tcp --dport http -j DROP"),
        ["--dport http"]
    );
    assert_eq!(
        words("-A INPUT -m set --match-set \"a b\" src"),
        ["--match-set \"a b\" src"]
    );
}

#[test]
fn what_people_write_becomes_what_the_tool_prints() {
    let text = "*filter\n:INPUT ACCEPT\n-A INPUT --source 10.0.0.1 -p tcp --syn --destination-port :80 -j REJECT\nCOMMIT\n";
    let printed = "*filter\n:INPUT ACCEPT\n-A INPUT -s 10.0.0.1/32 -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN --dport 0:80 -j REJECT\nCOMMIT\n";
    assert_eq!(Tables::parse(text).unwrap().to_string(), printed);
}

#[test]
fn a_policy_is_that_of_a_hooks_chain() {
    let tables = fixtures::tables("1.36-iptables-legacy");
    let filter = tables.table("filter").unwrap();
    let chain = |name| &filter.chains[filter.chain(name).unwrap()];
    assert_eq!(chain("FORWARD").policy, Some(Policy::Accept));
    assert_eq!(chain("KUBE-FORWARD").policy, None);
    let lines = fixtures::ALL[2].1.lines();
    let rules = lines.filter(|line| line.starts_with("-A ")).count();
    assert_eq!((tables.rules(), rules), (67, 67));
    assert!(filter.chain("NONE").is_none() && tables.table("raw").is_none());
}

/// The line of the refusal, and what it is.
fn refusal(text: &str) -> (usize, Refusal) {
    let error = Tables::parse(text).unwrap_err();
    (error.line, error.refusal)
}

#[test]
fn wrong_lines_are_refused_with_their_number() {
    let in_table = |line: &str| refusal(&format!("*nat\n:X - [0:0]\n\n{line}\nCOMMIT\n"));
    let text = str::to_owned;
    let cases = [
        ("nonsense", Refusal::Line(text("nonsense"))),
        ("*filter", Refusal::Unfinished(text("nat"))),
        (":X - [0:0]", Refusal::Twice(text("X"))),
        (":Y", Refusal::Chain(text("Y"))),
        (":Y MAYBE", Refusal::Chain(text("Y MAYBE"))),
        (":Y - [1]", Refusal::Counters(text("[1]"))),
        ("[1:x] -A X", Refusal::Counters(text("[1:x]"))),
        ("-A Y -j X", Refusal::NoChain(text("Y"))),
        ("-A X -s", Refusal::Argument("-s")),
        ("-A X -j DROP -j X", Refusal::Word(text("-j"))),
        ("-A X word", Refusal::Word(text("word"))),
        ("-A X --dport 5", Refusal::Word(text("--dport"))),
        ("-A X !", Refusal::Inversion),
        ("-A X ! -m tcp", Refusal::Inversion),
        ("-A X -m comment --comment \"a", Refusal::Quote),
    ];
    for (line, expected) in cases {
        assert_eq!(in_table(line), (4, expected), "{line}");
    }
    let value = in_table("-A X -d 10.0.0.256/8").1;
    assert_eq!(
        value.to_string(),
        "`10.0.0.256/8` is nothing that `-d` takes"
    );
    assert_eq!(refusal("-A X"), (1, Refusal::OutsideTable));
    assert_eq!(refusal("COMMIT"), (1, Refusal::OutsideTable));
    assert_eq!(refusal("*a\nCOMMIT\n*a"), (3, Refusal::Twice(text("a"))));
    assert_eq!(
        refusal("*a\n:X - [0:0]\n"),
        (3, Refusal::Unfinished(text("a")))
    );
    let goto = "*a\n:X - [0:0]\n-A X -g Y\nCOMMIT\n";
    assert_eq!(refusal(goto), (4, Refusal::NoChain(text("Y"))));
}

#[test]
fn returns_before_a_lines_end_are_no_part_of_it() {
    // Found by fuzzing: of several only one was taken away.
    let tables = Tables::parse("# a\r\r\r\n# b").unwrap();
    assert_eq!(tables.to_string(), "# a\n# b\n");
    assert_eq!(Tables::parse(&tables.to_string()).unwrap(), tables);
}

#[test]
fn a_comment_may_go_over_lines() {
    let text = "*a\n:X - [0:0]\n-A X -m comment --comment \"a\nCOMMIT\nb\" -j DROP\nwrong\n";
    assert_eq!(refusal(text), (6, Refusal::Line("wrong".to_owned())));
    let right = text.replace("wrong", "COMMIT");
    assert_eq!(Tables::parse(&right).unwrap().to_string(), right);
}

/// Lines that are nearly right.
fn line() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("-A X".to_owned()),
        Just("-s 10.0.0.0/8".to_owned()),
        Just("! -d fd00::1".to_owned()),
        Just("-p tcp".to_owned()),
        Just("-m tcp --dport 80".to_owned()),
        Just("-m conntrack ! --ctstate NEW,DNAT".to_owned()),
        Just("-m set --match-set a src,dst".to_owned()),
        Just("-m statistic --mode random --probability 0.3".to_owned()),
        Just("-m comment --comment".to_owned()),
        Just("-j X".to_owned()),
        Just("-g X".to_owned()),
        Just("-j DNAT --to-destination [::1]:80".to_owned()),
        Just("[1:2]".to_owned()),
        Just("!".to_owned()),
        Just("*t".to_owned()),
        Just(":X - [0:0]".to_owned()),
        Just("COMMIT".to_owned()),
        Just("# text".to_owned()),
        "\"[a-z'\\\\ \n]{0,5}\"?",
        "--?[a-z]{1,4}",
        ".{0,6}",
    ];
    prop::collection::vec(word, 0..6).prop_map(|words| words.join(" "))
}

proptest! {
    #[test]
    fn any_text_is_taken_or_refused(text in "[^x]{0,300}") {
        let _ = Tables::parse(&text);
    }

    /// What is accepted is printed as a text that is the same rules.
    #[test]
    fn what_is_taken_comes_back(lines in prop::collection::vec(line(), 0..8)) {
        let text = format!("*first\n:X - [0:0]\n{}\nCOMMIT\n", lines.join("\n"));
        if let Ok(tables) = Tables::parse(&text) {
            let printed = tables.to_string();
            prop_assert_eq!(Tables::parse(&printed), Ok(tables), "{}", printed);
        }
    }

    #[test]
    fn a_damaged_text_is_taken_or_refused(
        which in 0..fixtures::ALL.len(),
        at: prop::sample::Index,
        cut in 0usize..80,
        instead in "[-!\"\\[\\]:\n\\x00a0 ]{0,4}",
    ) {
        let text: Vec<char> = fixtures::ALL[which].1.chars().collect();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        let damaged: String = text[..at].iter().copied().chain(instead.chars()).chain(text[end..].iter().copied()).collect();
        if let Ok(tables) = Tables::parse(&damaged) {
            prop_assert_eq!(Tables::parse(&tables.to_string()), Ok(tables));
        }
    }
}
