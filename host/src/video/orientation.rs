//! The orientation of a decoded frame: how it is rotated and mirrored for display.

use image::metadata;

use super::RgbFrame;

/// One of the eight orientations: transposes, then mirrors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Orientation {
    /// Whether rows become columns.
    transpose: bool,
    /// Whether left and right are exchanged after the transposition.
    mirror: bool,
    /// Whether top and bottom are exchanged after the transposition.
    flip: bool,
}

impl Orientation {
    /// Reads an FFmpeg display matrix (nine 32-bit integers in native byte order) like `ffmpeg -autorotate`:
    /// multiples of 90 degrees, within one degree. Other angles and invalid matrices leave frames unchanged.
    pub(super) fn from_display_matrix(bytes: &[u8]) -> Self {
        let entry = |index: usize| {
            let bytes = bytes.get(index * 4..index * 4 + 4)?;
            Some(f64::from(i32::from_ne_bytes(bytes.try_into().ok()?)))
        };
        // x' = a·x + c·y and y' = b·x + d·y.
        let (Some(a), Some(b), Some(c), Some(d)) = (entry(0), entry(1), entry(3), entry(4)) else {
            return Self::default();
        };
        let (across, down) = (a.hypot(c), b.hypot(d));
        if across == 0.0 || down == 0.0 {
            return Self::default();
        }
        let clockwise = (b / down).atan2(a / across).to_degrees();
        let quarters = (clockwise / 90.0).round();
        if (clockwise - quarters * 90.0).abs() >= 1.0 {
            return Self::default();
        }
        let transpose = quarters.abs() == 1.0;
        Self {
            transpose,
            mirror: if transpose { c < 0.0 } else { a < 0.0 },
            flip: if transpose { b < 0.0 } else { d < 0.0 },
        }
    }

    /// Converts an EXIF orientation number. Unknown numbers mean upright.
    pub(super) fn from_exif(number: u8) -> Self {
        Self {
            transpose: matches!(number, 5..=8),
            mirror: matches!(number, 2 | 3 | 6 | 7),
            flip: matches!(number, 3 | 4 | 7 | 8),
        }
    }

    /// Reads the orientation from an EXIF block, with or without JPEG's prefix.
    pub(super) fn from_exif_block(block: &[u8]) -> Self {
        let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
        metadata::Orientation::from_exif_chunk(block)
            .map_or_else(Self::default, |found| Self::from_exif(found.to_exif()))
    }

    /// Rotates and mirrors a frame for display.
    pub(super) fn apply(self, frame: RgbFrame) -> RgbFrame {
        if self == Self::default() {
            return frame;
        }
        let pixels = frame.data.as_chunks::<3>().0;
        let (width, height) = if self.transpose {
            (frame.height, frame.width)
        } else {
            (frame.width, frame.height)
        };
        let mut data = Vec::with_capacity(frame.data.len());
        for y in 0..height {
            let y = if self.flip { height - 1 - y } else { y };
            for x in 0..width {
                let x = if self.mirror { width - 1 - x } else { x };
                let (column, row) = if self.transpose { (y, x) } else { (x, y) };
                data.extend_from_slice(&pixels[row * frame.width + column]);
            }
        }
        RgbFrame {
            width,
            height,
            data,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of grey pixels with these rows.
    fn picture(rows: &[&[u8]]) -> RgbFrame {
        RgbFrame {
            width: rows[0].len(),
            height: rows.len(),
            data: rows
                .iter()
                .flat_map(|row| row.iter())
                .flat_map(|&grey| [grey; 3])
                .collect(),
        }
    }

    fn shown(matrix: [i32; 4]) -> RgbFrame {
        let [a, b, c, d] = matrix.map(|entry| entry * 65536);
        let entries = [a, b, 0, c, d, 0, 0, 0, 1 << 30];
        let bytes: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_ne_bytes())
            .collect();
        Orientation::from_display_matrix(&bytes).apply(picture(&[&[1, 2, 3], &[4, 5, 6]]))
    }

    /// The results are those of `ffmpeg -autorotate`. Comments name its filters.
    #[test]
    fn all_eight_orientations() {
        let turned: [([i32; 4], &[&[u8]]); 8] = [
            ([1, 0, 0, 1], &[&[1, 2, 3], &[4, 5, 6]]),
            // hflip
            ([-1, 0, 0, 1], &[&[3, 2, 1], &[6, 5, 4]]),
            // vflip
            ([1, 0, 0, -1], &[&[4, 5, 6], &[1, 2, 3]]),
            // hflip,vflip
            ([-1, 0, 0, -1], &[&[6, 5, 4], &[3, 2, 1]]),
            // transpose=cclock_flip
            ([0, 1, 1, 0], &[&[1, 4], &[2, 5], &[3, 6]]),
            // transpose=clock
            ([0, 1, -1, 0], &[&[4, 1], &[5, 2], &[6, 3]]),
            // transpose=cclock
            ([0, -1, 1, 0], &[&[3, 6], &[2, 5], &[1, 4]]),
            // transpose=clock_flip
            ([0, -1, -1, 0], &[&[6, 3], &[5, 2], &[4, 1]]),
        ];
        for (matrix, expected) in turned {
            assert_eq!(shown(matrix).data, picture(expected).data, "{matrix:?}");
            assert_eq!(shown(matrix).width, picture(expected).width, "{matrix:?}");
        }
    }

    #[test]
    fn other_angles_and_invalid_matrices_leave_the_frame_unchanged() {
        let upright = picture(&[&[1, 2, 3], &[4, 5, 6]]);
        for matrix in [[1, 1, -1, 1], [0, 0, 0, 0], [2, 0, 0, 2]] {
            assert_eq!(shown(matrix).data, upright.data, "{matrix:?}");
        }
        for bytes in [&[][..], &[0; 19]] {
            assert_eq!(
                Orientation::from_display_matrix(bytes),
                Orientation::default()
            );
        }
    }
}
