//! `cargo xtask screenshots`: the pictures of the live view in the README, and a recording of the whole
//! story for asciinema, made anew from a real run.

mod svg;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tracer_tests::{
    lab::{Config, Lab},
    trace::{process::whole_lab, screen::Screen},
};

use crate::{packages, process};

/// Where they are kept.
const DIRECTORY: &str = "docs/images";
/// Columns and lines of the terminal.
const SIZE: (u16, u16) = (120, 30);

/// Makes all of them.
///
/// # Errors
/// When no lab can be raised, or the tracer does not show what it should.
pub(crate) fn run() -> anyhow::Result<()> {
    packages::install_for_tests()?;
    let tracer = process::build_tracer(None)?;
    process::build_lab_server()?;
    let directory = process::root().join(DIRECTORY);
    fs::create_dir_all(&directory)?;
    let lab = Lab::up(&Config::default())?;
    let screen = Screen::of(&tracer, &["live", "--color", "always", &whole_lab(&lab)])?;
    let mut story = Story::new(&screen);
    let told = tell(&lab, &screen, &mut story, &directory);
    let cast = told.and_then(|()| story.cast());
    drop(screen);
    lab.down()?;
    fs::write(directory.join("story.cast"), cast?)?;
    println!("{DIRECTORY}: flows.svg, journey.svg, drops.svg, map.svg, story.cast");
    Ok(())
}

/// An operator's way from a table of flows to the translation of one of them, and to what was dropped.
fn tell(lab: &Lab, screen: &Screen, story: &mut Story<'_>, directory: &Path) -> anyhow::Result<()> {
    let picture = |name: &str, story: &mut Story<'_>| -> anyhow::Result<()> {
        let frame = story.frame()?;
        let svg = svg::picture(&frame, SIZE);
        Ok(fs::write(directory.join(format!("{name}.svg")), svg)?)
    };
    screen.resize(SIZE.0, SIZE.1)?;
    screen.waits_for(&["no packets yet"])?;
    story.frame()?;
    for (pod, service) in [
        ("a1", "web"),
        ("a2", "web-node2"),
        ("b1", "hairpin"),
        ("a1", "sticky"),
    ] {
        curl(lab, pod, service)?;
        story.frame()?;
    }
    let dns = lab.service("kube-dns").cluster_ip.to_string();
    lab.run(
        lab.command("a2", "dig")
            .args([&format!("@{dns}"), "web.default", "+short"]),
    )?;
    curl(lab, "a1", "ghost")?;
    curl(lab, "a1", "web-node1")?;
    screen.waits_for(&["default/ghost:http", "web-node1:http", "closed"])?;
    picture("flows", story)?;

    for character in "/web-node1".chars() {
        screen.types(&character.to_string())?;
        story.frame()?;
    }
    screen.waits_for(&["1 of"])?;
    screen.presses(&["Enter", "Enter"])?;
    screen.waits_for(&["DNAT", "KUBE-SEP-"])?;
    picture("journey", story)?;
    for key in ["Down", "Down", "Down", "c", "Down"] {
        screen.presses(&[key])?;
        story.frame()?;
    }
    screen.presses(&["Escape", "Escape"])?;
    screen.types("2")?;
    screen.waits_for(&["has no endpoints"])?;
    picture("drops", story)?;
    screen.presses(&["Enter"])?;
    screen.waits_for(&["has no endpoints", "refused"])?;
    story.frame()?;
    screen.types("3")?;
    screen.waits_for(&["Services", "cni0"])?;
    picture("map", story)?;
    screen.types("4")?;
    screen.waits_for(&["tp_btf tracepoints"])?;
    story.frame()?;
    screen.types("q")?;
    screen.ended(0)
}

/// A call of a Service; that of one without endpoints fails.
fn curl(lab: &Lab, pod: &str, service: &str) -> anyhow::Result<()> {
    let url = format!("http://{}/", lab.service(service).cluster_ip);
    let status = lab
        .command(pod, "curl")
        .args(["-s", "-o", "/dev/null", "--max-time", "10", &url])
        .status()?;
    ensure!(
        status.success() != (service == "ghost"),
        "curl {url}: {status}"
    );
    Ok(())
}

/// Frames with their times, for asciinema.
struct Story<'a> {
    screen: &'a Screen,
    begin: Instant,
    frames: Vec<(Duration, String)>,
}

impl<'a> Story<'a> {
    fn new(screen: &'a Screen) -> Self {
        Self {
            screen,
            begin: Instant::now(),
            frames: Vec::new(),
        }
    }

    /// Takes what is on the screen, when it has settled: when it is the same twice.
    fn frame(&mut self) -> anyhow::Result<String> {
        const SETTLING: Duration = Duration::from_millis(250);
        let limit = Instant::now() + Duration::from_secs(5);
        let mut frame = self.screen.styled()?;
        loop {
            std::thread::sleep(SETTLING);
            let next = self.screen.styled()?;
            if next == frame || Instant::now() > limit {
                break;
            }
            frame = next;
        }
        self.frames.push((self.begin.elapsed(), frame.clone()));
        Ok(frame)
    }

    /// The recording, in version 2 of asciicast.
    fn cast(&self) -> anyhow::Result<String> {
        let first = self.frames.first().context("no frames")?.0;
        let header = serde_json::json!({
            "version": 2, "width": SIZE.0, "height": SIZE.1,
            "title": "tracer: from a curl to its DNAT",
        });
        let mut cast = format!("{header}\n");
        for (time, frame) in &self.frames {
            let text = frame.trim_end().replace('\n', "\r\n");
            let output = format!("\x1b[0m\x1b[H\x1b[2J{text}");
            let event = serde_json::json!([(*time - first).as_secs_f64(), "o", output]);
            cast.push_str(&format!("{event}\n"));
        }
        Ok(cast)
    }
}
