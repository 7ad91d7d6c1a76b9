//! Memory is bounded, and what is let go is counted.

use super::*;

fn small() -> Model {
    Model::new(Bounds {
        flows: 20,
        hops: 200,
        ..Bounds::default()
    })
}

fn cluster_ip() -> Scenario {
    let (_, scenario) = scenarios::all().into_iter().next().unwrap();
    scenario
}

#[test]
fn flows_are_let_go_and_counted() {
    let mut model = small();
    for number in 1..=100 {
        add(&mut model, number, cluster_ip());
    }
    assert_eq!(model.len(), 20);
    assert_eq!(model.let_go().flows, 80);
    // The newest are there.
    assert!(model.row(FlowId(100)).is_some() && model.row(FlowId(1)).is_none());
    let mut app = app();
    let text = screen(&mut app, &model, (120, 40));
    assert!(text.contains("80 flows let go"), "{text}");
}

/// Neither flows with long names nor packets with many hops take more than there is.
#[test]
fn what_is_large_makes_room_by_its_bytes() {
    const ROOM: usize = 1 << 20;
    let mut model = Model::new(Bounds::within(ROOM));
    let Scenario { packets, flow } = cluster_ip();
    for number in 1..=2_000 {
        let mut flow = flow.clone();
        flow.id = FlowId(number);
        flow.client.pod = Some("x".repeat(20_000));
        model.flow(flow, FlowFacts::default());
        let mut packet = packets[0].clone();
        (packet.flow, packet.id) = (FlowId(number), PacketId(number));
        packet.hops = packet.hops.iter().cycle().take(250).cloned().collect();
        model.packet(Arc::new(packet));
        let flows: usize = model.rows().map(|row| row.report.room()).sum();
        let packets = model.rows().flat_map(|row| &row.packets);
        let packets: usize = packets.map(|packet| packet.room()).sum();
        assert!(flows + packets <= ROOM, "{number}: {flows} {packets}");
    }
    assert!(!model.is_empty() && model.len() < 50);
    assert_eq!(model.let_go().flows, 2_000 - model.len() as u64);
}

#[test]
fn a_flow_that_goes_on_is_kept_before_one_that_is_over() {
    let mut model = small();
    let mut report = cluster_ip().flow;
    report.id = FlowId(1);
    model.flow(report, FlowFacts::default());
    for number in 2..=40 {
        add(&mut model, number, cluster_ip());
    }
    assert!(model.row(FlowId(1)).is_some());
}

#[test]
fn packets_are_let_go_and_counted() {
    let mut model = small();
    let Scenario { packets, mut flow } = cluster_ip();
    flow.id = FlowId(1);
    model.flow(flow, FlowFacts::default());
    for number in 0..10_000 {
        let mut packet = packets[0].clone();
        packet.flow = FlowId(1);
        packet.id = PacketId(number);
        model.packet(Arc::new(packet));
    }
    let row = model.row(FlowId(1)).unwrap();
    let hops: usize = row.packets.iter().map(|packet| packet.hops.len()).sum();
    assert!(hops <= 200, "{hops}");
    assert_eq!(row.not_kept + row.packets.len() as u64, 10_000);
    assert_eq!(model.let_go().packets, row.not_kept);
    // Times are of all of them.
    assert!(row.path_times.percentile(50).is_some());
}

#[test]
fn the_first_packets_the_slowest_and_the_last_are_kept() {
    let mut model = Model::default();
    let Scenario { packets, mut flow } = cluster_ip();
    flow.id = FlowId(1);
    model.flow(flow, FlowFacts::default());
    for number in 0..1000 {
        let mut packet = packets[0].clone();
        packet.flow = FlowId(1);
        packet.id = PacketId(number);
        if number == 500 {
            packet.hops.last_mut().unwrap().time += SECOND;
        }
        model.packet(Arc::new(packet));
    }
    let row = model.row(FlowId(1)).unwrap();
    let ids: Vec<u64> = row.packets.iter().map(|packet| packet.id.0).collect();
    assert!(ids.len() < 200);
    for kept in [0, 10, 500, 999] {
        assert!(ids.contains(&kept), "{kept} of {ids:?}");
    }
}
