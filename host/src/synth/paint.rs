//! Draws scenes as pictures.

use super::scene::{Background, Pattern, Scene, Shape, Sprite};
use crate::canvas::{Canvas, distance_to_segment};
use std::f32::consts::{PI, TAU};

/// The distance that a moving camera covers in a clip.
const PAN: f32 = 0.6;

/// Half the side of a square, relative to its radius.
const HALF_SIDE: f32 = 0.86;

/// Returns the picture of a scene at a time, `side` pixels wide and high: `[side, side, 3]`.
pub(super) fn paint(scene: &Scene, time: f32, side: usize) -> Vec<u8> {
    let pan = scene.camera.map_or([0.0; 2], |camera| {
        camera.step().map(|step| step * PAN * time)
    });
    let length = side as f32;
    let mut canvas = Canvas::new(side, side, |x, y| {
        colour_at(
            &scene.background,
            [x / length + pan[0], y / length + pan[1]],
        )
    });
    for sprite in scene.sprites.iter().filter(|sprite| sprite.appears <= time) {
        let [x, y] = sprite.position(time).map(|part| part * length);
        let radius = sprite.radius * length;
        let outline = outline(sprite);
        canvas.paint(
            [x - radius, y - radius, x + radius, y + radius],
            sprite.colour.rgb().map(f32::from),
            |px, py| {
                let point = [(px - x) / radius, (py - y) / radius];
                radius * distance(sprite.shape, &outline, point)
            },
        );
    }
    canvas.bytes()
}

fn colour_at(background: &Background, [u, v]: [f32; 2]) -> [f32; 3] {
    let [a, b] = background.phase;
    // Clipped waves have soft edges, so a slow camera movement is smooth.
    let wave = |x: f32| (x * TAU).sin();
    let cut = |wave: f32| 0.5 + 0.5 * (wave * 4.0).clamp(-1.0, 1.0);
    let part = match background.pattern {
        Pattern::Plain => 0.0,
        Pattern::Gradient => 0.5 + 0.5 * ((u * (a - 0.5) + v * (b - 0.5)) * 2.0).sin(),
        Pattern::Stripes => cut(wave(3.0 * (u + v) + a)),
        Pattern::Checkerboard => cut(wave(2.0 * u + a) * wave(2.0 * v + b)),
        Pattern::Clouds => clouds(background.seed, u * 5.0 + a, v * 5.0 + b),
    };
    let [first, second] = background.colours;
    [0, 1, 2].map(|i| first[i] + (second[i] - first[i]) * part)
}

/// Returns smooth noise: random values at integer coordinates, interpolated in between.
fn clouds(seed: u32, x: f32, y: f32) -> f32 {
    let (column, row) = (x.floor(), y.floor());
    let ease = |part: f32| part * part * (3.0 - 2.0 * part);
    let (across, down) = (ease(x - column), ease(y - row));
    let at = |dx: i32, dy: i32| scattered(seed, column as i32 + dx, row as i32 + dy);
    let top = at(0, 0) + (at(1, 0) - at(0, 0)) * across;
    let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * across;
    top + (bottom - top) * down
}

/// Returns a pseudorandom number from 0 to 1.
fn scattered(seed: u32, x: i32, y: i32) -> f32 {
    let mut bits =
        seed ^ (x as u32).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x85eb_ca77);
    for _ in 0..2 {
        bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
        bits ^= bits >> 13;
    }
    (bits >> 8) as f32 / (1 << 24) as f32
}

/// Returns the corners of a shape. The farthest has the distance 1 from the centre. Round shapes have none.
fn outline(sprite: &Sprite) -> Vec<[f32; 2]> {
    let around = |count: usize, radius: &dyn Fn(usize) -> f32, turn: f32| {
        let corners = (0..count).map(|index| {
            let angle = turn + index as f32 / count as f32 * TAU;
            [angle.sin() * radius(index), -angle.cos() * radius(index)]
        });
        corners.collect()
    };
    match sprite.shape {
        Shape::Circle | Shape::Ring => Vec::new(),
        Shape::Square => around(4, &|_| HALF_SIDE * 2f32.sqrt(), PI / 4.0),
        Shape::Triangle => around(3, &|_| 1.0, 0.0),
        Shape::Star => around(10, &|index| if index % 2 == 0 { 1.0 } else { 0.42 }, 0.0),
        Shape::Cross => {
            const ARM: f32 = 0.34;
            let quarter = [[ARM, -1.0], [ARM, -ARM], [1.0, -ARM]];
            let turned = |[x, y]: [f32; 2], turns: usize| match turns {
                0 => [x, y],
                1 => [-y, x],
                2 => [-x, -y],
                _ => [y, -x],
            };
            let corners = (0..4).flat_map(|turns| quarter.map(|corner| turned(corner, turns)));
            corners.collect()
        }
    }
}

/// Returns the distance of a point from the edge of a shape with radius 1. It is negative inside.
fn distance(shape: Shape, outline: &[[f32; 2]], point: [f32; 2]) -> f32 {
    let [x, y] = point;
    match shape {
        Shape::Circle => x.hypot(y) - 1.0,
        Shape::Ring => (x.hypot(y) - 0.74).abs() - 0.26,
        _ => to_polygon(outline, point),
    }
}

fn to_polygon(corners: &[[f32; 2]], point: [f32; 2]) -> f32 {
    let [x, y] = point;
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    for (index, &from) in corners.iter().enumerate() {
        let to = corners[(index + 1) % corners.len()];
        nearest = nearest.min(distance_to_segment(point, from, to));
        // A ray to the right from inside the polygon crosses its edges an odd number of times.
        if (from[1] > y) != (to[1] > y)
            && x < from[0] + (y - from[1]) / (to[1] - from[1]) * (to[0] - from[0])
        {
            inside = !inside;
        }
    }
    if inside { -nearest } else { nearest }
}
