//! Renders a chart as PNG, at twice its size so that small letters remain readable.

use super::{
    marks::{Anchor, Chart, Mark, Rgb},
    strokes,
};
use crate::canvas::{Canvas, distance_to_segment};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::io;

const SCALE: f32 = 2.0;

/// The line width of letters, relative to the font size.
const PEN: f32 = 0.095;

pub(super) fn write(chart: &Chart) -> io::Result<Vec<u8>> {
    let (width, height) = (chart.width * SCALE as u32, chart.height * SCALE as u32);
    let mut canvas = Canvas::new(width as usize, height as usize, |_, _| [255.0; 3]);
    for mark in &chart.marks {
        match mark {
            Mark::Line {
                points,
                colour,
                width,
            } => polyline(&mut canvas, points, *colour, *width),
            Mark::Text {
                at,
                size,
                anchor,
                colour,
                text,
            } => {
                let length = strokes::width(text) * size;
                let left = match anchor {
                    Anchor::Start => at[0],
                    Anchor::Middle => at[0] - length / 2.0,
                    Anchor::End => at[0] - length,
                };
                for stroke in strokes::of(text) {
                    let place = |[x, y]: [f32; 2]| [left + x * size, at[1] - y * size];
                    let points: Vec<_> = stroke.into_iter().map(place).collect();
                    polyline(&mut canvas, &points, *colour, PEN * size);
                }
            }
        }
    }
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(&canvas.bytes(), width, height, ExtendedColorType::Rgb8)
        .map_err(io::Error::other)?;
    Ok(bytes)
}

fn polyline(canvas: &mut Canvas, points: &[[f32; 2]], colour: Rgb, width: f32) {
    let pen = width * SCALE / 2.0;
    for pair in points.windows(2) {
        let [from, to] = [pair[0], pair[1]].map(|point| point.map(|part| part * SCALE));
        let area = [
            from[0].min(to[0]) - pen,
            from[1].min(to[1]) - pen,
            from[0].max(to[0]) + pen,
            from[1].max(to[1]) + pen,
        ];
        canvas.paint(area, colour.map(f32::from), |x, y| {
            distance_to_segment([x, y], from, to) - pen
        });
    }
}
