//! The flows that the scenarios' packets belong to.

use super::{START, endpoint, netns};
use crate::journey::model::{Flow, FlowId, FlowTranslation, Stage, State, TranslationKind};

/// A flow from a client in `pod-a1`, without translations or trouble.
pub(crate) fn flow(protocol: u8, client: &str, destination: &str, state: State) -> Flow {
    Flow {
        id: FlowId(1),
        protocol,
        client: endpoint(client),
        client_netns: Some(netns("pod-a1")),
        client_seen: START,
        client_process: None,
        destination: endpoint(destination),
        backend: None,
        backend_netns: None,
        backend_seen: 0,
        backend_process: None,
        translations: Vec::new(),
        state,
        packets: [1, 1],
        bytes: [60, 60],
        drops: 0,
        holes: 0,
        affected_by_loss: false,
        let_go: false,
        sampled: false,
        first: START,
        last: START + 1_200_000,
        subjects: Vec::new(),
    }
}

/// The same flow with somebody who answers.
pub(super) fn answered(mut flow: Flow, backend: &str, at: &str) -> Flow {
    flow.backend = Some(endpoint(backend));
    flow.backend_netns = Some(netns(at));
    flow.backend_seen = START;
    flow
}

/// The same flow with its destination translated on `node1`.
pub(super) fn translated(mut flow: Flow, backend: &str) -> Flow {
    flow.translations.push(FlowTranslation {
        kind: TranslationKind::Dnat,
        stage: Some(Stage::Prerouting),
        netns: netns("node1"),
        from: flow.destination,
        to: endpoint(backend),
        before: None,
        time: flow.first,
        call: None,
    });
    flow
}

/// The same flow with its source translated on `node1`.
pub(super) fn source_translated(mut flow: Flow, source: &str) -> Flow {
    flow.translations.push(FlowTranslation {
        kind: TranslationKind::Snat,
        stage: Some(Stage::Postrouting),
        netns: netns("node1"),
        from: flow.client,
        to: endpoint(source),
        before: None,
        time: flow.first,
        call: None,
    });
    flow
}
