//! Tables of the scenarios, read back.

use super::*;
use crate::report::scenarios;

fn written(rows: Rows) -> String {
    let mut out = Vec::new();
    let mut sink = CsvSink::new(&mut out, Origin::of_scenarios(), rows);
    for (_, scenario) in scenarios::all() {
        for packet in &scenario.packets {
            sink.packet(packet).unwrap();
        }
        sink.flow(&scenario.flow).unwrap();
    }
    sink.finish(&StatsReport::default()).unwrap();
    drop(sink);
    String::from_utf8(out).unwrap()
}

#[test]
fn tables_are_as_documented() {
    insta::assert_snapshot!("flows", written(Rows::Flows));
    insta::assert_snapshot!("packets", written(Rows::Packets));
    let hops = written(Rows::Hops);
    let some: Vec<&str> = hops.lines().take(14).collect();
    insta::assert_snapshot!("hops", some.join("\n"));
}

#[test]
fn every_row_can_be_read_back_and_holds_no_formula() {
    for rows in [Rows::Flows, Rows::Packets, Rows::Hops] {
        let text = written(rows);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let columns = reader.headers().unwrap().len();
        let mut count = 0;
        for record in reader.records() {
            let record = record.unwrap();
            assert_eq!(record.len(), columns);
            for cell in &record {
                assert!(!cell.starts_with(['=', '+', '-', '@']), "{cell}");
                assert!(!cell.contains(char::is_control), "{cell}");
            }
            count += 1;
        }
        let scenarios = scenarios::all();
        let packets = scenarios.iter().flat_map(|(_, scenario)| &scenario.packets);
        let expected: usize = match rows {
            Rows::Flows => scenarios.len(),
            Rows::Packets => packets.count(),
            Rows::Hops => packets.map(|packet| packet.hops.len()).sum(),
        };
        assert_eq!(count, expected, "{rows:?}");
    }
}

#[test]
fn a_table_without_rows_has_its_header() {
    let mut out = Vec::new();
    let mut sink = CsvSink::new(&mut out, Origin::of_scenarios(), Rows::Flows);
    sink.finish(&StatsReport::default()).unwrap();
    drop(sink);
    assert!(out.starts_with(b"flow,protocol,client_ip,"));
}
