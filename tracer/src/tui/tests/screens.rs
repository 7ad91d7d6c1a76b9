//! Every screen at three sizes.

use super::*;
use crate::tui::app::playback::Playback;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// Opens the journey of the flow with that number.
fn open(app: &mut App, model: &Model, number: u64) {
    let id = FlowId(number);
    app.journey = crate::tui::app::journey::Journey::of(model, id);
    assert!(app.journey.is_some());
}

fn at_all_sizes(name: &str, model: &Model, app: &App) {
    for (width, height) in SIZES {
        let text = screen(&mut app.clone(), model, (width, height));
        insta::assert_snapshot!(format!("{name}_{width}x{height}"), text);
    }
}

#[test]
fn flows() {
    at_all_sizes("flows", &model(), &app());
}

#[test]
fn groups() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "b");
    at_all_sizes("groups", &model, &app);
}

#[test]
fn a_journey_through_a_service() {
    let (model, mut app) = (model(), app());
    open(&mut app, &model, 1);
    at_all_sizes("journey", &model, &app);
}

#[test]
fn a_journey_through_a_tunnel() {
    let (model, mut app) = (model(), app());
    open(&mut app, &model, 2);
    at_all_sizes("tunnel", &model, &app);
}

#[test]
fn a_journey_that_ends_at_a_rule() {
    let (model, mut app) = (model(), app());
    open(&mut app, &model, 3);
    at_all_sizes("dropped", &model, &app);
}

#[test]
fn a_journey_with_a_hole() {
    let (model, mut app) = (model(), app());
    open(&mut app, &model, 6);
    at_all_sizes("hole", &model, &app);
}

#[test]
fn two_packets_compared() {
    let (model, mut app) = (model(), app());
    open(&mut app, &model, 1);
    press(&mut app, &model, "cjj");
    at_all_sizes("compared", &model, &app);
}

#[test]
fn drops() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "2");
    at_all_sizes("drops", &model, &app);
}

#[test]
fn the_map() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "3");
    at_all_sizes("map", &model, &app);
}

#[test]
fn the_node() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "4");
    at_all_sizes("node", &model, &app);
}

#[test]
fn help() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "?");
    at_all_sizes("help", &model, &app);
}

#[test]
fn a_recording_has_a_time_line() {
    let (model, mut app) = (model(), app());
    app.playback = Some(Playback {
        playing: true,
        speed: Some(2.0),
        span: (scenarios::START, scenarios::START + 60 * SECOND),
        position: scenarios::START + 20 * SECOND,
        began: 1_795_302_030_000_000_000,
        at_end: false,
    });
    at_all_sizes("replay", &model, &app);
}

#[test]
fn a_wrong_filter_is_marked_in_place() {
    let (model, mut app) = (model(), app());
    press(&mut app, &model, "ftcp and hots 10.0.0.1");
    insta::assert_snapshot!(screen(&mut app, &model, (80, 8)));
}

#[test]
fn a_terminal_without_colours_and_characters_shows_the_same_words() {
    let (model, mut app) = (model(), app());
    open(&mut app, &model, 3);
    let plain = themed(&mut app.clone(), &model, (120, 40), Theme::default());
    assert!(plain.is_ascii());
    for words in ["DROPPED", "rule", "forward"] {
        assert!(plain.contains(words), "{words}\n{plain}");
    }
    insta::assert_snapshot!(plain);
}

#[test]
fn before_anything_came() {
    let (model, mut app) = (Model::default(), app());
    "attaching ...".clone_into(&mut app.waiting);
    insta::assert_snapshot!(screen(&mut app, &model, (80, 8)));
}
