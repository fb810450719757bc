//! A picture to draw on: areas with smooth edges, given by their distance.

/// RGB, from 0 to 255, not rounded before the end.
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    /// Row by row.
    pixels: Vec<[f32; 3]>,
}

/// A part of the plane, in pixels: left, top, right, bottom.
pub(crate) type Area = [f32; 4];

impl Canvas {
    /// A picture whose pixel at each column and row, measured at its middle, has the colour `at` it.
    pub(crate) fn new(width: usize, height: usize, at: impl Fn(f32, f32) -> [f32; 3]) -> Self {
        let middle = |index: usize| index as f32 + 0.5;
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| at(middle(x), middle(y)));
        Self {
            width,
            height,
            pixels: pixels.collect(),
        }
    }

    /// Paints where `distance`, in pixels and negative inside, says; nothing outside of `area`. A pixel on
    /// the edge is covered in part.
    pub(crate) fn paint(
        &mut self,
        area: Area,
        colour: [f32; 3],
        distance: impl Fn(f32, f32) -> f32,
    ) {
        let [left, top, right, bottom] = area;
        let range = |from: f32, to: f32, end: usize| {
            let from = (from - 1.0).max(0.0) as usize;
            from..((to + 2.0).max(0.0) as usize).min(end)
        };
        for row in range(top, bottom, self.height) {
            for column in range(left, right, self.width) {
                let inside = 0.5 - distance(column as f32 + 0.5, row as f32 + 0.5);
                let cover = inside.clamp(0.0, 1.0);
                let pixel = &mut self.pixels[row * self.width + column];
                for (value, paint) in pixel.iter_mut().zip(colour) {
                    *value += (paint - *value) * cover;
                }
            }
        }
    }

    /// `[height, width, 3]`, red first.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let values = self.pixels.iter().flatten();
        values.map(|value| value.round() as u8).collect()
    }
}

/// How far `point` is from the straight line between two others.
pub(crate) fn to_segment(point: [f32; 2], from: [f32; 2], to: [f32; 2]) -> f32 {
    let [x, y] = [point[0] - from[0], point[1] - from[1]];
    let [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 {
        ((x * dx + y * dy) / length).clamp(0.0, 1.0)
    } else {
        0.0
    };
    (x - along * dx).hypot(y - along * dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_covered_in_part() {
        let mut canvas = Canvas::new(4, 1, |_, _| [0.0; 3]);
        // All left of 1.5 is inside.
        canvas.paint([0.0, 0.0, 4.0, 1.0], [200.0; 3], |x, _| x - 1.5);
        let reds: Vec<u8> = canvas.bytes().into_iter().step_by(3).collect();
        assert_eq!(reds, [200, 100, 0, 0]);
    }

    #[test]
    fn what_lies_outside_of_the_picture_is_left_away() {
        let mut canvas = Canvas::new(2, 2, |_, _| [10.0; 3]);
        canvas.paint([-50.0, -50.0, -10.0, 90.0], [255.0; 3], |_, _| -1.0);
        canvas.paint([50.0, 50.0, 60.0, 90.0], [255.0; 3], |_, _| -1.0);
        assert_eq!(canvas.bytes(), [10; 12]);
    }

    #[test]
    fn distances_end_at_the_ends() {
        assert_eq!(to_segment([0.0, 2.0], [-1.0, 0.0], [1.0, 0.0]), 2.0);
        assert_eq!(to_segment([4.0, 4.0], [-1.0, 0.0], [1.0, 0.0]), 5.0);
        assert_eq!(to_segment([3.0, 4.0], [0.0, 0.0], [0.0, 0.0]), 5.0);
    }
}
