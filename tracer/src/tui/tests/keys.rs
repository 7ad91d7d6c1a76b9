//! What keys do.

use proptest::prelude::*;

use super::*;
use crate::{
    node::cluster,
    tui::app::{
        Screen,
        list::{Column, Selected},
        playback::Player,
    },
};

#[test]
fn a_flow_is_found_opened_and_left() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "/refused");
    let found = app.list.rows(&model);
    assert!(
        !found.is_empty() && found.len() < model.len(),
        "{}",
        found.len()
    );
    press(&mut app, &model, "\n\n");
    assert!(app.journey.is_some());
    press(&mut app, &model, "\x1b");
    assert!(app.journey.is_none());
    assert!(app.list.is_narrowed());
    press(&mut app, &model, "\x1b");
    assert!(!app.list.is_narrowed());
    assert_eq!(press(&mut app, &model, "q"), [Effect::Quit]);
}

#[test]
fn a_search_is_taken_back_by_escape() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "/zzz");
    assert!(app.list.rows(&model).is_empty());
    press(&mut app, &model, "\x1b");
    assert_eq!(app.list.rows(&model).len(), model.len());
}

#[test]
fn a_filter_is_judged_by_the_whole_flow() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "fdropped\n");
    let rows = app.list.rows(&model);
    assert!(!rows.is_empty());
    assert!(rows.iter().all(|row| row.report.drops > 0));
    // A wrong one stays to be corrected.
    press(&mut app, &model, "f and\n");
    assert!(
        app.prompt
            .as_ref()
            .is_some_and(|prompt| prompt.error.is_some())
    );
    press(&mut app, &model, "\x1bc");
    assert_eq!(app.list.rows(&model).len(), model.len());
}

#[test]
fn filters_are_completed_and_remembered() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "fdropp\t");
    let typed = |app: &App| app.prompt.as_ref().unwrap().line.text().to_owned();
    assert_eq!(typed(&app), "dropped ");
    press(&mut app, &model, "\nf netns no\t");
    assert_eq!(typed(&app), "dropped netns node");
    let candidates = &app.prompt.as_ref().unwrap().candidates;
    assert_eq!(candidates, &["node1", "node2"]);
    press(&mut app, &model, "\x1bf\u{2191}");
    assert_eq!(typed(&app), "dropped");
}

#[test]
fn names_of_the_kubernetes_api_are_completed() {
    let contents: cluster::Contents = serde_json::from_value(serde_json::json!({
        "services": [{
            "name": {"namespace": "far", "name": "shop", "port": "http"}, "protocol": 6,
            "frontends": [{"cluster-ip": "10.96.7.7:80"}],
            "endpoints": [], "source": "kubernetes-api",
        }],
        "pods": [{"name": "elsewhere/far-pod", "addresses": ["10.244.9.9"]}],
    }))
    .unwrap();
    let (mut model, mut app) = (model(), app());
    let node = scenarios::snapshot().with_cluster(Arc::new(contents.into()));
    model.tick(scenarios::START + 3 * SECOND, &Arc::new(node));
    press(&mut app, &model, "fservice fa\tor pod else\t");
    let prompt = app.prompt.as_ref().unwrap();
    assert_eq!(
        prompt.line.text(),
        "service far/shop:http or pod elsewhere/far-pod "
    );
}

#[test]
fn the_selection_stays_on_its_flow() {
    let (mut model, mut app) = (model(), app());
    press(&mut app, &model, "jj");
    let chosen = app.list.selected.clone();
    assert!(matches!(chosen, Some(Selected::Flow(_))));
    let (_, scenario) = scenarios::all().into_iter().next().unwrap();
    add(&mut model, 99, scenario);
    press(&mut app, &model, "s");
    assert_eq!(app.list.selected, chosen);
    press(&mut app, &model, "g");
    assert_ne!(app.list.selected, chosen);
}

#[test]
fn a_frozen_table_stands_still() {
    let (mut model, mut app) = (model(), app());
    let before = model.len();
    press(&mut app, &model, "z");
    let (_, scenario) = scenarios::all().into_iter().next().unwrap();
    add(&mut model, 99, scenario);
    assert_eq!(app.list.rows(&model).len(), before);
    press(&mut app, &model, "z");
    assert_eq!(app.list.rows(&model).len(), before + 1);
}

#[test]
fn sorting_and_grouping() {
    let (model, mut app) = (model(), app());
    app.list.column = Column::Drops;
    let drops: Vec<u64> = app
        .list
        .rows(&model)
        .iter()
        .map(|row| row.report.drops)
        .collect();
    assert!(drops.is_sorted_by(|a, b| a >= b), "{drops:?}");
    press(&mut app, &model, "r");
    let drops: Vec<u64> = app
        .list
        .rows(&model)
        .iter()
        .map(|row| row.report.drops)
        .collect();
    assert!(drops.is_sorted(), "{drops:?}");
    press(&mut app, &model, "bb\n");
    // The flows of one pod.
    let within = app.list.rows(&model).len();
    assert!(0 < within && within < model.len(), "{within}");
    press(&mut app, &model, "\x1b");
    assert!(app.list.grouping.is_some());
}

#[test]
fn a_drop_leads_to_its_victim() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "2\n");
    let journey = app.journey.as_ref().unwrap();
    assert!(journey.current().unwrap().is_problem());
    assert_eq!(app.screen, Screen::Flows);
}

#[test]
fn a_flow_is_copied_as_filter_and_as_json() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "G");
    let effects = press(&mut app, &model, "yY");
    let [Effect::Copy(filter), Effect::Copy(json)] = &effects[..] else {
        panic!("{effects:?}");
    };
    Filter::parse(filter).unwrap();
    let flow: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(flow["type"], "flow");
    let client = flow["client"]["addr"].as_str().unwrap();
    let (host, _) = client.rsplit_once(':').unwrap();
    assert!(filter.contains(host), "{filter}");
}

#[test]
fn keys_of_a_recording_are_no_keys_live() {
    let (model, mut app) = (model(), app());
    assert_eq!(press(&mut app, &model, " .d+-[]0"), []);
    app.playback = Some(crate::tui::app::playback::Playback::default());
    let effects = press(&mut app, &model, " .d+-[]0");
    let orders = [
        Player::Toggle,
        Player::Step,
        Player::NextDrop,
        Player::Faster,
        Player::Slower,
        Player::Rewind,
        Player::Forward,
        Player::Restart,
    ];
    assert_eq!(effects, orders.map(Effect::Play));
}

#[test]
fn clicks_select_sort_and_open() {
    use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
    let (model, mut app) = (model(), app());
    let size = Size {
        width: 120,
        height: 40,
    };
    let mut click = |column, row| {
        let mouse = MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column,
            row,
            modifiers: KeyModifiers::NONE,
        };
        app.mouse(mouse, &model, size);
        app.clone()
    };
    assert_eq!(click(20, 0).screen, Screen::Drops);
    assert_eq!(click(10, 0).screen, Screen::Flows);
    assert_eq!(click(3, 1).list.column, Column::Client);
    assert!(click(3, 1).list.reversed);
    assert!(click(3, 4).list.selected.is_some());
    assert!(click(3, 4).journey.is_some());
    assert!(click(3, 20).journey.unwrap().packet.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_keys_at_any_size_leave_a_screen(
        keys in prop::collection::vec((0usize..64, 0u16..130, 0u16..45), 1..60)
    ) {
        const KEYS: &str = "abcdefghijklmnopqrstuvwxyzGKJSY/?1234 .+-[]0\n\n\x1b\t\u{2191}\u{2193}";
        let keymap: Vec<char> = KEYS.chars().collect();
        let (model, mut app) = (model(), app());
        for (index, width, height) in keys {
            if let Some(key) = keymap.get(index) {
                press(&mut app, &model, &key.to_string());
            }
            screen(&mut app, &model, (width, height));
        }
    }
}
