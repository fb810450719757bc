//! An image to draw on. Shapes are given by distance functions and have smooth edges.

/// An RGB image. Values are from 0 to 255, and are rounded only in [`Canvas::bytes`].
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    /// In row-major order.
    pixels: Vec<[f32; 3]>,
}

/// A rectangle in pixels: left, top, right, bottom.
pub(crate) type Area = [f32; 4];

impl Canvas {
    /// Creates an image. `colour` returns the colour at the centre of each pixel, given its x and y.
    pub(crate) fn new(width: usize, height: usize, colour: impl Fn(f32, f32) -> [f32; 3]) -> Self {
        let middle = |index: usize| index as f32 + 0.5;
        let pixels = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| colour(middle(x), middle(y)));
        Self {
            width,
            height,
            pixels: pixels.collect(),
        }
    }

    /// Paints a shape inside `area`. `distance` is the signed distance to its edge in pixels, negative inside.
    /// A pixel on the edge is covered partly.
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

    /// Returns the RGB bytes with the shape `[height, width, 3]`.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let values = self.pixels.iter().flatten();
        values.map(|value| value.round() as u8).collect()
    }
}

/// Returns the distance from `point` to the line segment between two other points.
pub(crate) fn distance_to_segment(point: [f32; 2], from: [f32; 2], to: [f32; 2]) -> f32 {
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
    fn edges_are_covered_partly() {
        let mut canvas = Canvas::new(4, 1, |_, _| [0.0; 3]);
        // Everything left of 1.5 is inside.
        canvas.paint([0.0, 0.0, 4.0, 1.0], [200.0; 3], |x, _| x - 1.5);
        let reds: Vec<u8> = canvas.bytes().into_iter().step_by(3).collect();
        assert_eq!(reds, [200, 100, 0, 0]);
    }

    #[test]
    fn shapes_outside_the_image_are_not_painted() {
        let mut canvas = Canvas::new(2, 2, |_, _| [10.0; 3]);
        canvas.paint([-50.0, -50.0, -10.0, 90.0], [255.0; 3], |_, _| -1.0);
        canvas.paint([50.0, 50.0, 60.0, 90.0], [255.0; 3], |_, _| -1.0);
        assert_eq!(canvas.bytes(), [10; 12]);
    }

    #[test]
    fn the_distance_to_a_segment_ends_at_its_end_points() {
        let distance = distance_to_segment;
        assert_eq!(distance([0.0, 2.0], [-1.0, 0.0], [1.0, 0.0]), 2.0);
        assert_eq!(distance([4.0, 4.0], [-1.0, 0.0], [1.0, 0.0]), 5.0);
        assert_eq!(distance([3.0, 4.0], [0.0, 0.0], [0.0, 0.0]), 5.0);
    }
}
