//! Names that were looked up one after the other because of a search path.
//!
//! A resolver that is asked for `api` with the search path of a pod asks for `api.default.svc.cluster.local`,
//! `api.svc.cluster.local`, and so on, until a name has an address. So names belong together that
//! begin alike, where what remains of one is the end of what remains of the other, and that were
//! looked up by processes of one network namespace within a short time. That is concluded: two
//! programs that look up such names at the same time are not told apart.

use std::{collections::VecDeque, net::SocketAddr};

use crate::{
    dns::Answer,
    report::recent::{Recent, Room},
};

/// Answers of a namespace that are kept, the last.
const ANSWERS: usize = 64;
/// How far apart answers of one search are at most, in nanoseconds: a question is sent again after
/// five seconds, a few times.
const SEARCH: u64 = 30_000_000_000;

/// An answer about a name's addresses.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) time: u64,
    pub(super) name: String,
    pub(super) code: u8,
    pub(super) found: bool,
    /// By which it was asked: the client's end, the server's.
    pub(super) by: (SocketAddr, SocketAddr),
}

/// What came of looking for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Whether any of the names had an address.
    pub found: bool,
    /// When the last answer came.
    pub last: u64,
    /// The names, in the order of their first answers.
    pub names: Vec<String>,
}

/// The last answers of a namespace.
#[derive(Debug, Default)]
struct Answers {
    /// The time of the first; `None` before it. What was before had to make room.
    since: Option<u64>,
    told: VecDeque<Told>,
}

impl Room for Answers {
    fn room(&self) -> usize {
        let names: usize = self.told.iter().map(|told| told.name.capacity()).sum();
        self.told.capacity() * size_of::<Told>() + names
    }
}

/// Answers by network namespace.
#[derive(Debug, Default)]
pub(super) struct Searches(Recent<u32, Answers>);

impl Searches {
    /// Those that take no more bytes of memory than that, about.
    pub(super) fn within(bytes: usize) -> Self {
        Self(Recent::within(bytes))
    }

    /// Whether answers of that time did not have to make room for those of other namespaces.
    pub(super) fn knows(&self, netns: u32, time: u64) -> bool {
        let since = self.0.get(&netns).and_then(|answers| answers.since);
        since.is_some_and(|since| since <= time)
    }

    fn told(&self, netns: u32) -> impl DoubleEndedIterator<Item = &Told> + Clone {
        let answers = self.0.get(&netns);
        answers.into_iter().flat_map(|answers| &answers.told)
    }

    /// Takes an answer.
    pub(super) fn take(
        &mut self,
        netns: u32,
        time: u64,
        by: (SocketAddr, SocketAddr),
        answer: &Answer,
    ) {
        if !answer.is_of_addresses() {
            return;
        }
        self.0.write(netns, |Answers { since, told }| {
            // Answers come in the order of the ring, which is nearly that of their times.
            *since = Some(since.map_or(time, |since| since.min(time)));
            if told.len() >= ANSWERS {
                told.pop_front();
            }
            told.push_back(Told {
                time,
                name: answer.name.clone(),
                code: answer.code,
                found: !answer.addresses.is_empty(),
                by,
            });
        });
    }

    /// The answers of the search to which the name that was answered at that time belongs.
    fn around<'a>(
        &'a self,
        netns: u32,
        name: &'a str,
        time: u64,
    ) -> impl Iterator<Item = &'a Told> + Clone {
        self.told(netns).filter(move |told| {
            told.time.abs_diff(time) <= SEARCH && belong_together(&told.name, name)
        })
    }

    /// Answers without an address before the name was found: names of the search path.
    pub(super) fn tried<'a>(
        &'a self,
        netns: u32,
        name: &'a str,
        time: u64,
    ) -> impl Iterator<Item = &'a Told> {
        let before = self.around(netns, name, time);
        before.filter(move |told| told.time <= time && !told.found && told.name != name)
    }

    /// By which exchange the name was found at that time.
    pub(super) fn by(&self, netns: u32, name: &str, time: u64) -> Option<(SocketAddr, SocketAddr)> {
        let told = self
            .told(netns)
            .rfind(|told| told.name == name && told.time == time)?;
        Some(told.by)
    }

    /// What came of the search.
    pub(super) fn of(&self, netns: u32, name: &str, time: u64) -> Search {
        let around = self.around(netns, name, time);
        let mut names: Vec<String> = Vec::new();
        for told in around.clone() {
            if !names.contains(&told.name) {
                names.push(told.name.clone());
            }
        }
        Search {
            found: around.clone().any(|told| told.found),
            last: around.map(|told| told.time).max().unwrap_or(time),
            names,
        }
    }

    /// Whether a later answer about the name was a good one.
    pub(super) fn was_answered_later(&self, netns: u32, name: &str, time: u64) -> bool {
        let mut around = self.around(netns, name, time);
        around.any(|told| told.name == name && told.code == 0 && told.time >= time)
    }
}

/// Whether two names may be one name with two ends of a search path.
fn belong_together(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.').peekable(), b.split('.').peekable());
    let mut alike = 0;
    while let (Some(one), Some(other)) = (a.peek(), b.peek())
        && one == other
    {
        alike += 1;
        a.next();
        b.next();
    }
    let (a, b): (Vec<_>, Vec<_>) = (a.collect(), b.collect());
    alike > 0 && (a.ends_with(&b) || b.ends_with(&a))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn answer(name: &str, found: bool) -> Answer {
        let address: IpAddr = "10.96.0.81".parse().unwrap();
        Answer {
            id: 7,
            name: name.to_owned(),
            kind: 1,
            code: if found { 0 } else { 3 },
            truncated: false,
            addresses: found.then_some(address).into_iter().collect(),
        }
    }

    fn searches(names: &[(&str, u64, bool)]) -> Searches {
        let by = ["10.244.1.2:40000", "10.96.0.10:53"].map(|end| end.parse().unwrap());
        let mut searches = Searches::default();
        for (name, time, found) in names {
            searches.take(7, *time, (by[0], by[1]), &answer(name, *found));
        }
        searches
    }

    #[test]
    fn names_of_a_search_path_belong_together() {
        for (a, b, together) in [
            (
                "api.default.svc.cluster.local",
                "api.svc.cluster.local",
                true,
            ),
            ("api.default.svc.cluster.local", "api", true),
            ("api.svc.cluster.local", "api.cluster.local", true),
            ("api.x.default.svc.cluster.local", "api.x", true),
            (
                "api.default.svc.cluster.local",
                "web.default.svc.cluster.local",
                false,
            ),
            ("www.a.com", "www.b.com", false),
            (
                "web.default.svc.cluster.local",
                "web.other.svc.cluster.local",
                false,
            ),
            ("api", "api", true),
        ] {
            assert_eq!(belong_together(a, b), together, "{a} {b}");
            assert_eq!(belong_together(b, a), together, "{b} {a}");
        }
    }

    #[test]
    fn a_search_goes_on_until_a_name_is_found() {
        let all = searches(&[
            ("api.default.svc.cluster.local", 100, false),
            ("api.default.svc.cluster.local", 101, false),
            ("api.svc.cluster.local", 200, false),
            ("other.svc.cluster.local", 250, false),
            ("api", 300, true),
        ]);
        let tried: Vec<&str> = all
            .tried(7, "api", 300)
            .map(|told| told.name.as_str())
            .collect();
        assert_eq!(tried.len(), 3);
        let search = all.of(7, "api.svc.cluster.local", 200);
        assert!(search.found && search.last == 300);
        assert_eq!(
            search.names,
            [
                "api.default.svc.cluster.local",
                "api.svc.cluster.local",
                "api"
            ]
        );
        assert!(!all.of(7, "other.svc.cluster.local", 250).found);
        assert_eq!(all.tried(8, "api", 300).count(), 0, "another's");
        assert_eq!(all.tried(7, "api", 300 + 2 * SEARCH).count(), 0, "long ago");
    }

    #[test]
    fn it_is_bounded() {
        let mut searches = Searches::default();
        let end: SocketAddr = "10.0.0.1:53".parse().unwrap();
        for time in 0..1000 {
            searches.take(7, time, (end, end), &answer("a", false));
        }
        assert_eq!(searches.told(7).count(), ANSWERS);
        assert!(
            searches.knows(7, 0),
            "only the namespace's own answers made room"
        );
    }

    #[test]
    fn of_a_namespace_that_had_to_make_room_nothing_is_known_before() {
        let end: SocketAddr = "10.0.0.1:53".parse().unwrap();
        let mut searches = Searches::within(10_000);
        for netns in 0..100 {
            let time = u64::from(netns);
            searches.take(netns, time, (end, end), &answer("a", false));
        }
        assert!(!searches.knows(7, 7) && searches.knows(99, 99));
        searches.take(7, 200, (end, end), &answer("a", false));
        assert!(!searches.knows(7, 7) && searches.knows(7, 200));
    }
}
