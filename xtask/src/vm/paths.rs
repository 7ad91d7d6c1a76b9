//! Every path that is traced, as data: what is run, and what the tracer must say of it.
//!
//! The notation of a direction is its hops, place by place:
//!
//! ```text
//! pod-a/eth0 [postrouting] queue transmit, node/vetha receive, node/cni0 prerouting(dnat) ..
//! ```
//!
//! A hop in brackets is seen only by the ways that see netfilter everywhere ([`Way::everywhere`]).
//! There is one such: AppArmor, which Debian's and Ubuntu's kernels have, puts a function into
//! POSTROUTING of every namespace, so what a pod sends passes that hook, in a namespace without
//! rules.
//!
//! The sequences follow from how the kernel forwards and from the lab in `guest.sh`. Neighbours and
//! bridge ports are known before a path is traced, so each of its packets takes the same way.

mod ipvs;
mod terms;

use std::fmt;

use tracer_tests::trace::json::{Kind, Stage};

pub(crate) use terms::{Beside, Form, Outcome, Way};

/// A path.
#[derive(Debug)]
pub(crate) struct Case {
    /// Its name within a form.
    pub(crate) name: &'static str,
    /// The forms of Services that it is traced with.
    pub(crate) forms: &'static [Form],
    /// What else goes on.
    pub(crate) beside: Beside,
    /// The namespace of the client.
    pub(crate) netns: &'static str,
    /// What the client runs.
    pub(crate) command: &'static str,
    /// The address that the client has.
    pub(crate) client: &'static str,
    /// Whom it calls.
    pub(crate) destination: &'static str,
    /// Who answers; nobody does when `None`.
    pub(crate) backend: Option<&'static str>,
    /// The flow's translations.
    pub(crate) translations: &'static [(Kind, Stage)],
    /// What comes of it.
    pub(crate) outcome: Outcome,
    /// The hops of each packet from the client.
    pub(crate) original: &'static str,
    /// The hops of each packet to the client.
    pub(crate) reply: &'static str,
}

/// A path in one form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traced {
    /// The path.
    pub(crate) case: &'static Case,
    /// What the Services are made of.
    pub(crate) form: Form,
}

impl fmt::Display for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.form, self.case.name))
    }
}

/// The name of what one way says of a form's paths.
pub(crate) fn session(form: Form, way: Way) -> String {
    match way.word() {
        "" => form.to_string(),
        word => format!("{form}+{word}"),
    }
}

/// Every path in every form, those of one form together.
pub(crate) fn all() -> Vec<Traced> {
    let mut all = Vec::new();
    for &form in ALL {
        let cases = CASES.iter().chain(ipvs::CASES);
        let cases = cases.filter(|case| case.forms.contains(&form));
        all.extend(cases.map(|case| Traced { case, form }));
    }
    all
}

const ALL: &[Form] = &[
    Form::IptablesNft,
    Form::IptablesLegacy,
    Form::Nftables,
    Form::Ipvs,
];
/// Where the ClusterIP is translated by rules.
const RULES: &[Form] = &[Form::IptablesNft, Form::IptablesLegacy, Form::Nftables];
/// Where a path is about something else than the form, it is traced in two.
const TWO: &[Form] = &[Form::IptablesNft, Form::Nftables];
/// Where it is about neither the form nor the address family, in one.
const ONE: &[Form] = &[Form::IptablesNft];

// The time limits are for machines that are slow, not for what is slow in them.
const CURL: &str = "curl -sS -m 60 http://10.96.0.81/";
const CURL6: &str = "curl -sS -m 60 http://[fd00:10:96::81]/";
/// More than a device takes at once, so that TCP gives it large buffers (GSO).
const LARGE: &str = "curl -sS -m 60 -o /dev/null http://10.96.0.81/bytes/200000";
const LOOKUP: &str = "nslookup -type=a web.default.svc 10.96.0.10";
const DNAT: &[(Kind, Stage)] = &[(Kind::Dnat, Stage::Prerouting)];

/// Within one node; the bridge runs the IP hooks itself (br_netfilter).
const A_TO_B: &str = "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
    node/cni0 bridge prerouting(dnat) forward postrouting, \
    node/vethb queue transmit, pod-b/eth0 receive socket";
const B_TO_A: &str = "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
    node/cni0 bridge prerouting forward postrouting(un-dnat), \
    node/vetha queue transmit, pod-a/eth0 receive socket";

/// A curl from pod a through the ClusterIP.
const TCP: Case = Case {
    name: "tcp",
    forms: RULES,
    beside: Beside::Nothing,
    netns: "pod-a",
    command: CURL,
    client: "10.244.1.2",
    destination: "10.96.0.81:80",
    backend: Some("10.244.1.3:8080"),
    translations: DNAT,
    outcome: Outcome::Answered,
    original: A_TO_B,
    reply: B_TO_A,
};
const TCP6: Case = Case {
    name: "tcp6",
    forms: TWO,
    command: CURL6,
    client: "fd00:10:244:1::2",
    destination: "[fd00:10:96::81]:80",
    backend: Some("[fd00:10:244:1::3]:8080"),
    ..TCP
};
const UDP: Case = Case {
    name: "udp",
    forms: TWO,
    command: LOOKUP,
    destination: "10.96.0.10:53",
    backend: Some("10.244.1.3:5353"),
    outcome: Outcome::Resolved,
    ..TCP
};

/// The paths, but for IPVS's.
const CASES: &[Case] = &[
    TCP,
    TCP6,
    UDP,
    Case {
        name: "hairpin",
        forms: TWO,
        netns: "pod-b",
        client: "10.244.1.3",
        translations: &[
            (Kind::Dnat, Stage::Prerouting),
            (Kind::Masquerade, Stage::Postrouting),
        ],
        original: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting(dnat) forward postrouting(masquerade), \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        reply: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting(un-snat) forward postrouting(un-dnat), \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        ..TCP
    },
    // The reply is the node's own: the bridge passes it up, to INPUT.
    Case {
        name: "node",
        forms: ONE,
        netns: "node",
        client: "192.168.77.11",
        translations: &[
            (Kind::Dnat, Stage::Output),
            (Kind::Masquerade, Stage::Postrouting),
        ],
        original: "node/eth0 output(dnat), node/cni0 postrouting(masquerade) queue bridge, \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        reply: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting(un-snat) bridge input(un-dnat) socket",
        ..TCP
    },
    Case {
        name: "pod",
        forms: ONE,
        command: "curl -sS -m 60 http://10.244.1.3:8080/",
        destination: "10.244.1.3:8080",
        translations: &[],
        original: "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
            node/cni0 bridge prerouting forward postrouting, \
            node/vethb queue transmit, pod-b/eth0 receive socket",
        reply: "pod-b/eth0 [postrouting] queue transmit, node/vethb receive, \
            node/cni0 bridge prerouting forward postrouting, \
            node/vetha queue transmit, pod-a/eth0 receive socket",
        ..TCP
    },
    // A Service without endpoints is not translated: on its way to the default route the packet
    // is rejected. The ICMP error goes to a kernel socket's queue, not through a socket.
    Case {
        name: "refused",
        forms: ONE,
        command: "curl -sS -m 60 http://10.96.0.85/",
        destination: "10.96.0.85:80",
        backend: None,
        translations: &[],
        outcome: Outcome::Rejected,
        original: "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
            node/cni0 bridge prerouting bridge forward drop",
        reply: "node/cni0 output postrouting queue bridge, \
            node/vetha queue transmit, pod-a/eth0 receive",
        ..TCP
    },
    Case {
        name: "large",
        forms: ONE,
        command: LARGE,
        ..TCP
    },
    Case {
        name: "tcp-captures",
        forms: ONE,
        beside: Beside::Captures,
        ..TCP
    },
    Case {
        name: "tcp-promiscuous",
        forms: ONE,
        beside: Beside::Promiscuous,
        ..TCP
    },
    Case {
        name: "large-merging",
        forms: ONE,
        beside: Beside::Merging,
        command: LARGE,
        ..TCP
    },
    // The last of a lab: the rule stays.
    Case {
        name: "drop",
        beside: Beside::Forbidden,
        command: "curl -sS -m 2 http://10.96.0.81/",
        outcome: Outcome::Dropped,
        original: "pod-a/eth0 [postrouting] queue transmit, node/vetha receive, \
            node/cni0 bridge prerouting(dnat) forward, node/vethb drop",
        reply: "",
        ..TCP
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_path_has_a_name_of_its_own() {
        let all = all();
        let names: HashSet<String> = all.iter().map(Traced::to_string).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn what_stays_comes_last() {
        for form in ALL {
            let of_form = all().into_iter().filter(|traced| traced.form == *form);
            let stays = |traced: Traced| match traced.case.beside {
                Beside::Nothing | Beside::Captures | Beside::Promiscuous => 0,
                Beside::Merging => 1,
                Beside::Forbidden => 2,
            };
            assert!(of_form.map(stays).is_sorted(), "{form}");
        }
    }

    #[test]
    fn the_best_way_makes_the_traffic_and_the_others_are_told() {
        assert_eq!(Way::ALL[0], Way::Best);
        assert!(Way::ALL.iter().skip(1).all(|way| !way.word().is_empty()));
    }
}
