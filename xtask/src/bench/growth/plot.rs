//! A plot as SVG: lines over a logarithmic axis.
//!
//! Written here because a plotting library is a hundred times what four axes and some lines take.

use std::fmt::Write as _;

/// A line and what it shows.
pub(super) struct Line {
    /// As the legend has it.
    pub(super) name: String,
    /// Where it goes, by growing x; x from 1 on, y from 0 on.
    pub(super) points: Vec<(f64, f64)>,
}

const SIZE: (f64, f64) = (860.0, 420.0);
/// Of the axes: left, top, right, bottom.
const FRAME: [f64; 4] = [70.0, 20.0, 560.0, 370.0];
/// Told apart also by who sees few colours: dark and light of three hues.
const COLOURS: [&str; 6] = [
    "#0b5394", "#9fc5e8", "#a64d00", "#f6b26b", "#38761d", "#93c47d",
];
/// How many steps the axis of y has.
const STEPS: u32 = 5;

/// The whole picture.
pub(super) fn svg(lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let widest = points().map(|(x, _)| x.log10()).fold(1.0, f64::max).ceil();
    let step = nice(points().map(|(_, y)| *y).fold(1.0, f64::max) / f64::from(STEPS));
    let place = |(x, y): (f64, f64)| {
        let [left, top, right, bottom] = FRAME;
        let part = (x.log10() / widest, y / (step * f64::from(STEPS)));
        (
            left + part.0 * (right - left),
            bottom - part.1 * (bottom - top),
        )
    };
    let (width, height) = SIZE;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    axes(&mut text, widest, step, place);
    for ((number, line), colour) in (0_u32..).zip(lines).zip(COLOURS.iter().cycle()) {
        draw(&mut text, line, colour, f64::from(number), place);
    }
    text + "</svg>\n"
}

fn axes(text: &mut String, widest: f64, step: f64, place: impl Fn((f64, f64)) -> (f64, f64)) {
    let [left, _, right, bottom] = FRAME;
    for number in 0..=STEPS {
        let value = step * f64::from(number);
        let (_, y) = place((1.0, value));
        let _ = writeln!(
            text,
            "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            left - 8.0,
            y + 4.0
        );
    }
    let mut exponent = 0.0;
    while exponent <= widest {
        let value = 10_f64.powf(exponent).round();
        let (x, _) = place((value, 0.0));
        let _ = writeln!(
            text,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
            bottom + 18.0
        );
        exponent += 1.0;
    }
    let _ = writeln!(
        text,
        "<path d=\"M{left} {bottom}H{right}\" stroke=\"#555555\"/>\
         <text x=\"{left}\" y=\"14\">ns a datagram, all programs together</text>\
         <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">how many</text>",
        bottom + 38.0
    );
}

fn draw(
    text: &mut String,
    line: &Line,
    colour: &str,
    number: f64,
    place: impl Fn((f64, f64)) -> (f64, f64),
) {
    let corners: Vec<String> = line
        .points
        .iter()
        .map(|point| place(*point))
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = writeln!(
        text,
        "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
        corners.join(" ")
    );
    for corner in &corners {
        if let Some((x, y)) = corner.split_once(',') {
            let _ = writeln!(
                text,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
    }
    let (x, y) = (FRAME[2] + 16.0, 40.0 + 20.0 * number);
    let _ = writeln!(
        text,
        "<path d=\"M{x} {y}h22\" stroke=\"{colour}\" stroke-width=\"3\"/>\
         <text x=\"{}\" y=\"{}\">{}</text>",
        x + 28.0,
        y + 4.0,
        line.name
    );
}

/// The next of 1, 2, 5, 10, 20, ..
fn nice(step: f64) -> f64 {
    let size = 10_f64.powf(step.log10().floor());
    let nice = [1.0, 2.0, 5.0].map(|factor| factor * size);
    nice.into_iter()
        .find(|candidate| *candidate >= step)
        .unwrap_or(10.0 * size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        assert_eq!(nice(3.0), 5.0);
        assert_eq!(nice(20.0), 20.0);
        assert_eq!(nice(700.0), 1000.0);
    }

    #[test]
    fn lines_stand_where_their_values_say() {
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let grows = line("grows", &[(1.0, 250.0), (100.0, 500.0)]);
        let zero = line("zero", &[(10.0, 0.0)]);
        let picture = svg(&[grows, zero]);
        // Half of the largest is half way up; 1 is at the left, 100 at the right.
        assert!(
            picture.contains("points=\"70.0,195.0 560.0,20.0\""),
            "{picture}"
        );
        assert!(picture.contains("points=\"315.0,370.0\""), "{picture}");
        assert!(picture.contains(">grows</text>") && picture.ends_with("</svg>\n"));
    }
}
