//! Names from outside break neither the terminal nor the columns.

use unicode_width::UnicodeWidthStr as _;

use super::*;
use crate::report::Asked;

const NAMES: [&str; 6] = [
    "\x1b[2J\x1b]0;owned\x07evil\r\n\u{9b}31m",
    "\u{202e}gnp.exe\u{202c}\u{2066}x",
    "שלום/עולם",
    "漢字漢字漢字漢字漢字漢字/漢字漢字漢字",
    "e\u{301}\u{301}\u{301}e\u{301}a\u{300}\u{316}",
    "👩‍👩‍👧‍👦/🇩🇪🏴‍☠️",
];

/// A flow whose every name is that.
fn named(name: &str) -> Scenario {
    let (_, mut scenario) = scenarios::all().into_iter().next().unwrap();
    let flow = &mut scenario.flow;
    flow.asked = Some(Asked {
        name: name.to_owned(),
        server: ([10, 96, 0, 10], 53).into(),
        tried: vec![name.to_owned()],
        took: None,
    });
    for party in [Some(&mut flow.client), flow.backend.as_mut()]
        .into_iter()
        .flatten()
    {
        party.pod = Some(name.to_owned());
        party.netns = Some(name.to_owned());
        if let Some(process) = &mut party.process {
            name.clone_into(&mut process.comm);
        }
    }
    if let Some(service) = &mut flow.service {
        name.clone_into(&mut service.name);
    }
    for hop in scenario
        .packets
        .iter_mut()
        .flat_map(|packet| &mut packet.hops)
    {
        hop.pod = Some(name.to_owned());
        hop.netns = Some(name.to_owned());
        if let Some(device) = &mut hop.device {
            name.clone_into(&mut device.name);
        }
    }
    scenario
}

#[test]
fn no_name_acts_on_the_terminal_or_moves_a_column() {
    let long = "label.".repeat(42) + "x";
    assert_eq!(long.len(), 253);
    for name in NAMES.into_iter().chain([long.as_str()]) {
        let mut model = Model::default();
        add(&mut model, 1, named(name));
        add(
            &mut model,
            2,
            scenarios::all().into_iter().next().unwrap().1,
        );
        for keys in ["", "\n", "\ncj", "2", "3", "b"] {
            let mut app = app();
            press(&mut app, &model, "r");
            press(&mut app, &model, keys);
            for size in [(80, 24), (120, 40), (200, 60)] {
                let (width, height) = size;
                app.fit(&model, Size { width, height });
                let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
                view::draw(&app, &model, theme(), &mut buffer);
                for line in lines(&buffer) {
                    assert!(line.width() <= usize::from(width), "{name:?}: {line:?}");
                    assert!(!line.chars().any(char::is_control), "{line:?}");
                    assert_eq!(line, crate::output::sanitize::plain(&line));
                }
            }
        }
        // Columns of both flows' lines begin at the same places.
        let mut app = app();
        app.fit(
            &model,
            Size {
                width: 120,
                height: 40,
            },
        );
        let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 40));
        view::draw(&app, &model, theme(), &mut buffer);
        let state = |y: u16| {
            let cells = (0..120).map(|x| buffer[(x, y)].symbol().to_owned());
            let text: Vec<String> = cells.collect();
            text.windows(6).position(|cells| cells.concat() == "closed")
        };
        assert_eq!(state(2), state(3), "{name:?}");
        assert!(state(2).is_some());
    }
}
