//! The questions that a client sent to a name server from one port, and what came of them.
//!
//! A question and its answer have one number. Of questions only the packets are known, which begin with
//! it; of answers what they say too, where their bytes were taken. Packets are over in another
//! order than they were sent, so either may be told first.

use std::net::IpAddr;

use crate::{
    dns::{Answer, Header},
    report::recent::Room,
};

/// Questions of one exchange, the first.
const QUESTIONS: usize = 16;
/// How much later than the delivery its bytes may be taken, in nanoseconds.
pub(super) const MOMENT: u64 = 1_000_000;
/// How long an answer is waited for, in nanoseconds.
const PATIENCE: u64 = 1_000_000_000;
/// From when on an answer is slow, in nanoseconds: clients ask again after one second at the earliest.
const SLOW: u64 = 1_000_000_000;
/// After so long a silence the same ports are another exchange's, in nanoseconds.
pub(super) const ANOTHER: u64 = 120_000_000_000;

/// A question, and what came of it. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Its number.
    id: u16,
    /// When it was sent first; `None` where that was not seen.
    pub asked: Option<u64>,
    /// When it was sent last.
    pub asked_last: Option<u64>,
    /// How often it was sent.
    pub sent: u32,
    /// When the name server's socket took it last.
    pub taken: Option<u64>,
    /// When the answer was sent.
    pub told: Option<u64>,
    /// When the answer came, or was seen last on its way.
    pub answered: Option<u64>,
    /// When its bytes were taken.
    pub(in crate::report) noted: Option<u64>,
    /// What it says, where its bytes were taken.
    pub answer: Option<Answer>,
}

impl Lookup {
    /// How long the answer took since the question was sent first, in nanoseconds.
    #[must_use]
    pub fn took(&self) -> Option<u64> {
        Some(self.answered?.saturating_sub(self.asked?))
    }

    /// Whether its answer did not come until then, in time.
    #[must_use]
    pub fn is_unanswered(&self, until: u64) -> bool {
        let waits = |asked: u64| until.saturating_sub(asked) >= PATIENCE;
        self.answered.is_none() && self.asked_last.is_some_and(waits)
    }

    /// Whether its answer came late.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.took().is_some_and(|took| took >= SLOW)
    }

    /// Whether its answer has no address, or says that something is wrong.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        let bad = |answer: &Answer| {
            answer.code != 0 || answer.is_of_addresses() && answer.addresses.is_empty()
        };
        self.answer.as_ref().is_some_and(bad)
    }

    /// When something of it was seen first.
    pub(super) fn time(&self) -> u64 {
        self.asked.or(self.answered).unwrap_or(0)
    }
}

/// What one client asked one name server from one port.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    last: u64,
    lookups: Vec<Lookup>,
}

impl Room for Exchange {
    fn room(&self) -> usize {
        let answers = self.lookups.iter().filter_map(|it| it.answer.as_ref());
        let room = |answer: &Answer| {
            answer.name.capacity() + answer.addresses.capacity() * size_of::<IpAddr>()
        };
        self.lookups.capacity() * size_of::<Lookup>() + answers.map(room).sum::<usize>()
    }
}

impl Exchange {
    pub(super) fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// A client may use the same port again later.
    fn at(&mut self, time: u64) {
        if time.saturating_sub(self.last) > ANOTHER {
            self.lookups.clear();
        }
        self.last = self.last.max(time);
    }

    fn find(&mut self, id: u16, is_it: impl Fn(&Lookup) -> bool) -> Option<&mut Lookup> {
        let mut lookups = self.lookups.iter_mut().rev();
        if let Some(at) = lookups.position(|lookup| lookup.id == id && is_it(lookup)) {
            let at = self.lookups.len() - 1 - at;
            return self.lookups.get_mut(at);
        }
        if self.lookups.len() >= QUESTIONS {
            return None;
        }
        self.lookups.push(Lookup {
            id,
            ..Lookup::default()
        });
        self.lookups.last_mut()
    }

    /// A question was sent, and came to the server's socket at that time, if it did.
    pub(super) fn question(&mut self, id: u16, sent: u64, taken: Option<u64>) {
        self.at(sent);
        let later = |lookup: &Lookup| lookup.answered.is_none_or(|time| time >= sent);
        let Some(lookup) = self.find(id, later) else {
            return;
        };
        lookup.sent += 1;
        lookup.asked = Some(lookup.asked.map_or(sent, |known| known.min(sent)));
        lookup.asked_last = lookup.asked_last.max(Some(sent));
        lookup.taken = lookup.taken.max(taken);
    }

    /// An answer was sent, and seen last at that time.
    pub(super) fn response(&mut self, header: Header, sent: u64, came: u64) {
        self.at(came);
        // Its bytes are taken a moment after the delivery.
        let open = |lookup: &Lookup| lookup.told.is_none();
        if let Some(lookup) = self.find(header.id, open) {
            lookup.told = Some(sent);
            lookup.answered = Some(came);
        }
    }

    /// An answer came; whether at another time than before: several sockets may take it at once.
    pub(super) fn answer(&mut self, time: u64, answer: &Answer) -> bool {
        self.at(time);
        let again = |lookup: &&Lookup| lookup.answer.as_ref() == Some(answer);
        if let Some(known) = self.lookups.iter().find(again) {
            return known
                .answered
                .is_some_and(|came| time.saturating_sub(came) > MOMENT);
        }
        let open = |lookup: &Lookup| lookup.answer.is_none();
        let Some(lookup) = self.find(answer.id, open) else {
            return false;
        };
        lookup.answered = lookup.answered.or(Some(time));
        lookup.noted = Some(time);
        lookup.answer = Some(answer.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(id: u16, name: &str) -> Answer {
        Answer {
            id,
            name: name.to_owned(),
            kind: 1,
            code: 0,
            truncated: false,
            addresses: Vec::new(),
        }
    }

    fn header(id: u16) -> Header {
        Header {
            id,
            response: true,
            truncated: false,
            code: 0,
        }
    }

    #[test]
    fn a_question_has_its_answer_in_whichever_order_they_are_told() {
        let steps: [&dyn Fn(&mut Exchange); 4] = [
            &|it| it.question(7, 100, None),
            &|it| it.question(7, 600, Some(610)),
            &|it| it.response(header(7), 620, 700),
            &|it| assert!(it.answer(701, &answer(7, "web.a"))),
        ];
        for order in [[0, 1, 2, 3], [3, 1, 2, 0], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let mut exchange = Exchange::default();
            order.iter().for_each(|&at| steps[at](&mut exchange));
            let [lookup] = exchange.lookups() else {
                panic!("{order:?}: {exchange:?}");
            };
            let told = (lookup.took(), lookup.sent, lookup.taken, lookup.told);
            assert_eq!(told, (Some(600), 2, Some(610), Some(620)), "{order:?}");
            assert!(lookup.answer.is_some());
        }
    }

    #[test]
    fn a_number_that_is_used_again_is_another_question() {
        let mut exchange = Exchange::default();
        exchange.question(7, 100, None);
        exchange.response(header(7), 150, 200);
        exchange.question(7, 300, None);
        exchange.question(8, 310, None);
        let open: Vec<_> = exchange.lookups().iter().map(Lookup::took).collect();
        assert_eq!(open, [Some(100), None, None]);
    }

    proptest! {
        #[test]
        fn it_is_bounded(numbers in proptest::collection::vec((0u16..40, 0u64..1000), 0..200)) {
            let mut exchange = Exchange::default();
            for (id, time) in numbers {
                match id % 3 {
                    0 => exchange.question(id, time, None),
                    1 => exchange.response(header(id), time, time),
                    _ => drop(exchange.answer(time, &answer(id, "a"))),
                }
            }
            prop_assert!(exchange.lookups().len() <= QUESTIONS);
        }
    }
}
