//! The layout of a chart: panels in two columns.

use super::{
    Panel,
    marks::{Anchor, Chart, Mark, Rgb},
    scale::Scale,
};

const WIDTH: f32 = 560.0;
const HEIGHT: f32 = 300.0;
const TITLE: f32 = 40.0;
/// The margins around the axes of a panel: left, top, right, bottom.
const MARGINS: [f32; 4] = [74.0, 34.0, 20.0, 40.0];

const INK: Rgb = [40, 40, 40];
const GRID: Rgb = [222, 222, 222];
/// The colours of the curves, in order. Colour-blind readers can distinguish them too.
const CURVES: [Rgb; 6] = [
    [0, 90, 170],
    [215, 85, 0],
    [0, 140, 100],
    [190, 60, 140],
    [125, 95, 20],
    [90, 90, 90],
];

/// The maximum number of points of a curve. Points beyond the number of pixels would overlap.
const POINTS: usize = 1200;

/// The height of a line in the legend.
const NAME: f32 = 17.0;

/// Draws all panels below a title.
pub(super) fn draw(title: &str, panels: &[Panel]) -> Chart {
    let columns = panels.len().clamp(1, 2);
    let rows = panels.len().div_ceil(columns);
    let width = WIDTH * columns as f32;
    let mut marks = vec![text([width / 2.0, 26.0], 18.0, Anchor::Middle, INK, title)];
    for (index, panel) in panels.iter().enumerate() {
        let corner = [
            WIDTH * (index % columns) as f32,
            TITLE + HEIGHT * (index / columns) as f32,
        ];
        draw_panel(panel, corner, &mut marks);
    }
    Chart {
        width: width as u32,
        height: (TITLE + HEIGHT * rows as f32) as u32,
        marks,
    }
}

fn draw_panel(panel: &Panel, corner: [f32; 2], marks: &mut Vec<Mark>) {
    let [left, top, right, bottom] = MARGINS;
    let (left, top) = (corner[0] + left, corner[1] + top);
    let (right, bottom) = (corner[0] + WIDTH - right, corner[1] + HEIGHT - bottom);
    let points = || panel.curves.iter().flat_map(|curve| &curve.points);
    let steps = Scale::over(points().map(|point| point.0), 6, false);
    let named = if panel.curves.len() > 1 {
        panel.curves.len()
    } else {
        0
    };
    let values = points()
        .map(|point| point.1)
        .chain(headroom(panel, named, bottom - top));
    let values = Scale::over(values, 5, panel.from_zero);
    let x = |step: f64| left + (right - left) * steps.position(step) as f32;
    let y = |value: f64| bottom - (bottom - top) * values.position(value) as f32;

    marks.push(text(
        [left, top - 14.0],
        15.0,
        Anchor::Start,
        INK,
        &panel.title,
    ));
    for (value, label) in values.ticks() {
        marks.push(line(vec![[left, y(value)], [right, y(value)]], GRID, 1.0));
        let at = [left - 8.0, y(value) + 4.0];
        marks.push(text(at, 12.0, Anchor::End, INK, &label));
    }
    for (step, label) in steps.ticks() {
        marks.push(line(
            vec![[x(step), bottom], [x(step), bottom + 5.0]],
            INK,
            1.0,
        ));
        let at = [x(step), bottom + 19.0];
        marks.push(text(at, 12.0, Anchor::Middle, INK, &label));
    }
    marks.push(line(
        vec![[left, top], [left, bottom], [right, bottom]],
        INK,
        1.0,
    ));
    marks.push(text(
        [(left + right) / 2.0, bottom + 35.0],
        12.0,
        Anchor::Middle,
        INK,
        "step",
    ));

    let colours = CURVES.into_iter().cycle();
    for (curve, colour) in panel.curves.iter().zip(colours.clone()) {
        let mut points: Vec<_> = thinned(&curve.points)
            .into_iter()
            .map(|(step, value)| [x(step), y(value)])
            .collect();
        if let [only] = points[..] {
            // Draw a single point as a short line.
            points = vec![[only[0] - 2.0, only[1]], [only[0] + 2.0, only[1]]];
        }
        marks.push(line(points, colour, 1.6));
    }
    if named > 0 {
        let names = panel.curves.iter().map(|curve| &curve.name);
        for (index, (name, colour)) in names.zip(colours).enumerate() {
            let height = top + 8.0 + NAME * index as f32;
            marks.push(line(
                vec![[right - 26.0, height], [right - 6.0, height]],
                colour,
                3.0,
            ));
            let at = [right - 32.0, height + 4.0];
            marks.push(text(at, 12.0, Anchor::End, INK, name));
        }
    }
}

/// Returns a value that raises the top of the axis so that the legend of `named` curves is above all curves, in a
/// panel of this height.
fn headroom(panel: &Panel, named: usize, height: f32) -> Option<f64> {
    let part = f64::from(NAME * named as f32 / height);
    if named == 0 || part > 0.5 {
        return None;
    }
    let values = panel.curves.iter().flat_map(|curve| &curve.points);
    let values = values.map(|point| point.1);
    let most = values.clone().fold(f64::NEG_INFINITY, f64::max);
    let least = values.fold(f64::INFINITY, f64::min);
    let least = if panel.from_zero {
        least.min(0.0)
    } else {
        least
    };
    let high = most + (most - least) * part / (1.0 - part);
    high.is_finite().then_some(high)
}

/// Returns at most [`POINTS`] points. Of several points that would overlap, the lowest and the highest are kept, so
/// that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS {
        return points.to_vec();
    }
    let together = points.len().div_ceil(POINTS / 2);
    let mut kept = Vec::new();
    for chunk in points.chunks(together) {
        let by_value = |a: &usize, b: &usize| chunk[*a].1.total_cmp(&chunk[*b].1);
        let low = (0..chunk.len()).min_by(by_value).unwrap_or(0);
        let high = (0..chunk.len()).max_by(by_value).unwrap_or(0);
        let (first, second) = (low.min(high), low.max(high));
        kept.push(chunk[first]);
        if second != first {
            kept.push(chunk[second]);
        }
    }
    kept
}

fn line(points: Vec<[f32; 2]>, colour: Rgb, width: f32) -> Mark {
    Mark::Line {
        points,
        colour,
        width,
    }
}

fn text(at: [f32; 2], size: f32, anchor: Anchor, colour: Rgb, text: &str) -> Mark {
    Mark::Text {
        at,
        size,
        anchor,
        colour,
        text: text.to_owned(),
    }
}
