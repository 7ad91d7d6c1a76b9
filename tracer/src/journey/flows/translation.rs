//! What is rewritten on a flow's way: as seen at a hook, and as conntrack tells it.

use tracer_common::record::Conntrack;

use super::{
    Flows, Membership,
    entry::{Entry, grow},
    names::Alias,
};
use crate::{
    event::{Endpoint, Tuple},
    journey::model::{FlowTranslation, Hop, NetnsId, Translation, TranslationKind},
};

/// How many translations of a flow are kept.
const TRANSLATIONS: usize = 8;

impl Flows {
    /// Notes a translation that a hop made of a packet of the flow.
    pub(in crate::journey) fn translated(
        &mut self,
        member: Membership,
        hop: &Hop,
        t: &Translation,
    ) {
        let Some(entry) = self.table.change(member.seat) else {
            return;
        };
        let (kind, stage, from, to) = match t.kind {
            TranslationKind::Dnat => (
                TranslationKind::Dnat,
                Some(hop.stage),
                t.from.destination,
                t.to.destination,
            ),
            TranslationKind::Snat => (
                TranslationKind::Snat,
                Some(hop.stage),
                t.from.source,
                t.to.source,
            ),
            // The reply is turned back: the request was translated the other way, unseen if not noted.
            TranslationKind::UnDnat => (TranslationKind::Dnat, None, t.to.source, t.from.source),
            TranslationKind::UnSnat => (
                TranslationKind::Snat,
                None,
                t.to.destination,
                t.from.destination,
            ),
        };
        let noted = FlowTranslation {
            kind,
            stage,
            netns: hop.netns,
            from,
            to,
            before: stage.map(|_| t.from),
            time: hop.time,
            call: hop.call.filter(|_| stage.is_some()),
        };
        let grows = entry.note(noted);
        if kind == TranslationKind::Dnat {
            entry.flow.backend = Some(to);
        }
        if grows {
            self.table.count_again(member.seat);
        }
    }

    /// Joins what conntrack tells of a connection: both tuples name one flow.
    pub(in crate::journey) fn tracked(&mut self, record: &Conntrack) {
        let netns = NetnsId(record.netns);
        let original = tuple_of(
            (record.original_source, record.original_source_port),
            (
                record.original_destination,
                record.original_destination_port,
            ),
            record.protocol,
        );
        let reply = tuple_of(
            (record.reply_source, record.reply_source_port),
            (record.reply_destination, record.reply_destination_port),
            record.protocol,
        );
        if !matches!(record.protocol, 6 | 17 | 132) {
            return;
        }
        let found = [&original, &reply]
            .into_iter()
            .find_map(|tuple| self.by_alias.get(&Alias::new(tuple, netns)));
        let Some(seat) = found.map(|named| named.seat) else {
            return;
        };
        self.name(seat, &original, netns, original.source);
        self.name(seat, &reply, netns, reply.destination);
        let Some(entry) = self.table.change(seat) else {
            return;
        };
        // After the destination is rewritten, and before the source is.
        let between = Tuple {
            destination: reply.source,
            ..original
        };
        let tracked = |kind, from, to| FlowTranslation {
            kind,
            stage: None,
            netns,
            from,
            to,
            before: Some(match kind {
                TranslationKind::Snat => between,
                _ => original,
            }),
            time: record.time,
            call: None,
        };
        if original.destination != reply.source {
            entry.note(tracked(
                TranslationKind::Dnat,
                original.destination,
                reply.source,
            ));
        }
        if original.source != reply.destination {
            entry.note(tracked(
                TranslationKind::Snat,
                original.source,
                reply.destination,
            ));
        }
        self.table.count_again(seat);
    }
}

impl Entry {
    /// Adds a translation, or the stage where it was made to one that was known without. Says
    /// whether there is one more.
    fn note(&mut self, noted: FlowTranslation) -> bool {
        let same = |t: &&mut FlowTranslation| {
            t.kind == noted.kind
                && t.netns == noted.netns
                && t.from == noted.from
                && t.to == noted.to
        };
        let known = &mut self.flow.translations;
        if let Some(known) = known.iter_mut().find(same) {
            known.stage = known.stage.or(noted.stage);
            known.before = known.before.or(noted.before);
            known.call = known.call.or(noted.call);
        } else if known.len() < TRANSLATIONS {
            grow(known, 1);
            known.push(noted);
            return true;
        }
        false
    }
}

fn tuple_of(source: ([u64; 2], u16), destination: ([u64; 2], u16), protocol: u8) -> Tuple {
    Tuple {
        source: Endpoint {
            address: source.0,
            port: source.1,
        },
        destination: Endpoint {
            address: destination.0,
            port: destination.1,
        },
        protocol,
    }
}
