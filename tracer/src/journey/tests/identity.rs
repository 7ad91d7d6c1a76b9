//! Which packet an event belongs to.

use super::*;

#[test]
fn an_address_used_again_is_another_packet() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    let skb = walk.skb();
    walk.begin(client(), service(), ACK, 2);
    walk.at(skb);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    records.extend(walk.take());
    assert_eq!(run(&mut engine(), &records).len(), 2);
}

#[test]
fn the_first_hop_again_is_another_packet_even_if_nothing_tells_them_apart() {
    let mut walk = Walk::new();
    walk.begin(client(), service(), SYN, 1);
    for _ in 0..3 {
        walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    }
    let packets = run(&mut engine(), &walk.take());
    assert_eq!(packets.len(), 3);
    assert!(packets.iter().all(|packet| packet.hops.len() == 2));
}

#[test]
fn flooding_is_one_packet_and_the_copies_for_others_are_none() {
    use tracer_common::record::FLAG_BRIDGE_PORT;
    let mut walk = Walk::new();
    walk.begin(client(), backend(), SYN, 1);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    // A switch without netfilter: namespace 9.
    walk.device(hook::DEVICE_RECEIVE, 9, "port1", 1, FLAG_BRIDGE_PORT);
    let original = walk.skb();
    walk.at(original + 8192);
    walk.device(hook::DEVICE_QUEUE, 9, "port2", 2, FLAG_BRIDGE_PORT);
    walk.device(hook::DEVICE_TRANSMIT, 9, "port2", 2, FLAG_BRIDGE_PORT);
    walk.at(original);
    walk.device(hook::DEVICE_QUEUE, 9, "port3", 3, FLAG_BRIDGE_PORT);
    walk.device(hook::DEVICE_TRANSMIT, 9, "port3", 3, FLAG_BRIDGE_PORT);
    // The original goes to the wrong door.
    walk.device(hook::DEVICE_RECEIVE, 10, "eth0", 2, 0);
    walk.drop(51, 1);
    walk.at(original + 8192);
    walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
    walk.socket(SERVER);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    let path: Vec<Stage> = packet.hops.iter().map(|hop| hop.stage).collect();
    use Stage::{DeviceQueue, DeviceReceive, DeviceTransmit, Socket};
    assert_eq!(
        path,
        [
            DeviceQueue,
            DeviceTransmit,
            DeviceReceive,
            DeviceQueue,
            DeviceTransmit,
            DeviceReceive,
            Socket
        ]
    );
    assert_eq!((packet.verdict, packet.holes()), (Verdict::Delivered, 0));
    assert_eq!(journeys.flows()[0].packets, [1, 0]);
    assert_eq!(journeys.flows()[0].drops, 0);
}

#[test]
fn a_clone_freed_elsewhere_changes_nothing() {
    let mut walk = Walk::new();
    let records = request(&mut walk, SYN, 1);
    let own = walk.skb();
    let (before, after) = records.split_at(4);
    for free in [Walk::consume, |walk: &mut Walk| walk.drop(2, 1)] {
        walk.at(own + 4096);
        free(&mut walk);
        let clone = walk.take();
        let mut journeys = engine();
        let all: Vec<Record> = before.iter().chain(&clone).chain(after).copied().collect();
        let packets = run(&mut journeys, &all);
        assert_eq!((packets.len(), packets[0].holes()), (1, 0));
        assert_eq!(packets[0].verdict, Verdict::Delivered);
    }
}

#[test]
fn what_a_closing_socket_frees_was_delivered() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    walk.drop(50, 1);
    records.extend(walk.take());
    assert_eq!(run(&mut engine(), &records)[0].verdict, Verdict::Delivered);
}

#[test]
fn what_the_protocol_drops_after_the_socket_took_it_is_dropped() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    walk.drop(7, 1);
    records.extend(walk.take());
    let packets = run(&mut engine(), &records);
    assert_eq!((packets.len(), packets[0].verdict), (1, Verdict::Dropped));
    assert_eq!(packets[0].dropped.unwrap().stage, Stage::Socket);
}

#[test]
fn what_waits_at_a_busy_socket_and_is_dropped_then_is_no_packet_of_its_own() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    walk.wait(3_000_000);
    walk.drop(7, 1);
    records.extend(walk.take());
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    assert_eq!((packets.len(), packets[0].verdict), (1, Verdict::Dropped));
    assert_eq!(journeys.flows().len(), 1);
}

#[test]
fn where_no_socket_hook_is_the_end_is_inferred_and_says_so() {
    let mut records = request(&mut Walk::new(), SYN, 1);
    records.pop();
    let packets = run(&mut engine(), &records);
    assert_eq!(
        (packets[0].verdict, packets[0].verdict_observed),
        (Verdict::Delivered, false)
    );
}

#[test]
fn a_packet_given_to_hardware_left() {
    use tracer_common::record::FLAG_PHYSICAL;
    let mut walk = Walk::new();
    walk.begin(client(), backend(), SYN, 1);
    walk.device(hook::DEVICE_QUEUE, 20, "ens3", 2, FLAG_PHYSICAL);
    walk.device(hook::DEVICE_TRANSMIT, 20, "ens3", 2, FLAG_PHYSICAL);
    walk.consume();
    let packets = run(&mut engine(), &walk.take());
    assert_eq!(
        (packets[0].verdict, packets[0].verdict_observed),
        (Verdict::Left, true)
    );
}

#[test]
fn a_tunnel_sends_a_packet_through_its_first_hook_again_and_it_stays_one() {
    let mut walk = Walk::new();
    walk.begin(client(), service(), SYN, 1);
    walk.enter(hook::netfilter::OUTPUT);
    walk.retarget(client(), backend());
    walk.leave(hook::netfilter::OUTPUT);
    walk.hook(hook::netfilter::POSTROUTING);
    walk.device(hook::DEVICE_QUEUE, NODE, "flannel.1", 7, 0);
    walk.device(hook::DEVICE_TRANSMIT, NODE, "flannel.1", 7, 0);
    walk.encapsulate();
    walk.hook(hook::netfilter::OUTPUT);
    walk.hook(hook::netfilter::POSTROUTING);
    walk.device(hook::DEVICE_QUEUE, NODE, "eth0", 2, 0);
    let packets = run(&mut engine(), &walk.take());
    assert_eq!((packets.len(), packets[0].holes()), (1, 0));
}

#[test]
fn segments_cut_in_software_go_on_from_the_queue_and_the_whole_is_not_one_more() {
    let mut walk = Walk::new();
    walk.begin(client(), backend(), ACK, 1000);
    walk.payload(3000);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.consume();
    for n in 0..3 {
        walk.begin(client(), backend(), ACK, 1000 + n * 1000);
        walk.payload(1000);
        walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
        walk.device(hook::DEVICE_RECEIVE, SERVER, "eth0", 2, 0);
        walk.socket(SERVER);
    }
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    assert_eq!(packets.len(), 3);
    for packet in &packets {
        assert_eq!((packet.verdict, packet.holes()), (Verdict::Delivered, 0));
        assert_eq!((packet.hops.len(), packet.payload), (4, 1000));
    }
    // As many as there are on the wire.
    assert_eq!(journeys.flows()[0].packets, [3, 0]);
}

#[test]
fn a_fin_for_time_wait_is_no_drop() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    records.extend(reply(&mut walk, SYN_ACK, 100));
    records.extend(request(&mut walk, FIN_ACK, 2));
    let mut fin = reply(&mut walk, FIN_ACK, 101);
    // No socket any more: TCP answers, and frees it without a reason.
    fin.pop();
    records.extend(fin);
    walk.retarget(service(), client());
    walk.drop(2, 1);
    records.extend(walk.take());
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    let last = packets.last().unwrap();
    assert_eq!(
        (last.verdict, last.verdict_observed),
        (Verdict::Delivered, true)
    );
    assert_eq!(journeys.flows()[0].drops, 0);
}

#[test]
fn a_packet_freed_without_a_reason_before_the_end_is_dropped() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    records.pop();
    walk.drop(2, 1);
    records.extend(walk.take());
    assert_eq!(run(&mut engine(), &records)[0].verdict, Verdict::Dropped);
}

#[test]
fn several_sockets_take_one_packet() {
    let mut walk = Walk::new();
    let mut records = request(&mut walk, SYN, 1);
    walk.socket(SERVER);
    walk.socket(SERVER);
    records.extend(walk.take());
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    assert_eq!((packets.len(), packets[0].holes()), (1, 0));
    assert_eq!(journeys.flows()[0].packets, [1, 0]);
}

#[test]
fn a_reassembled_packet_is_still_the_same_and_its_other_fragments_are_no_drops() {
    use tracer_common::record::FLAG_FRAGMENT;
    let mut walk = Walk::new();
    walk.begin_udp(client(), backend(), 7);
    walk.payload(2800);
    walk.pod_to_bridge(CLIENT, "veth-a", 11);
    walk.enter(hook::netfilter::PREROUTING);
    let head = walk.skb();
    walk.begin_udp(endpoint("10.244.0.2", 0), endpoint("10.244.0.3", 0), 0);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, FLAG_FRAGMENT);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, FLAG_FRAGMENT);
    walk.device(hook::DEVICE_RECEIVE, NODE, "veth-a", 11, FLAG_FRAGMENT);
    let fragment = walk.skb();
    // The head goes on, larger.
    walk.begin_udp(client(), backend(), 7);
    walk.payload(2800);
    walk.like(head);
    walk.leave(hook::netfilter::PREROUTING);
    walk.bridge_to_pod(SERVER, "veth-b", 12);
    let mut records = walk.take();
    walk.begin_udp(endpoint("10.244.0.2", 0), endpoint("10.244.0.3", 0), 0);
    walk.like(fragment);
    walk.mark(FLAG_FRAGMENT);
    walk.drop(2, 1);
    records.extend(walk.take());
    let mut journeys = engine();
    let packets = run(&mut journeys, &records);
    assert_eq!(packets.iter().map(Packet::holes).sum::<u32>(), 0);
    assert!(
        packets
            .iter()
            .all(|packet| packet.verdict == Verdict::Delivered),
        "{packets:?}"
    );
    assert_eq!(packets.len(), 2);
}

#[test]
fn of_copies_that_all_fail_the_dropped_one_is_told() {
    use tracer_common::record::FLAG_BRIDGE_PORT;
    let mut walk = Walk::new();
    walk.begin(client(), backend(), SYN, 1);
    walk.device(hook::DEVICE_QUEUE, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_TRANSMIT, CLIENT, "eth0", 2, 0);
    walk.device(hook::DEVICE_RECEIVE, 9, "port1", 1, FLAG_BRIDGE_PORT);
    let original = walk.skb();
    walk.at(original + 8192);
    walk.device(hook::DEVICE_QUEUE, 9, "port2", 2, FLAG_BRIDGE_PORT);
    walk.at(original);
    walk.device(hook::DEVICE_QUEUE, 9, "port3", 3, FLAG_BRIDGE_PORT);
    walk.drop(8, 1);
    let mut journeys = engine();
    let packets = run(&mut journeys, &walk.take());
    let [packet] = &packets[..] else {
        panic!("{packets:?}")
    };
    assert_eq!(packet.verdict, Verdict::Dropped);
    assert_eq!(journeys.flows()[0].drops, 1);
}
