//! Letters as line strokes, so that pictures do not need a font.

/// The grid of a letter has 5 columns and 9 rows. The third row is the baseline, the seventh the top of lower-case
/// letters, and the ninth the top of capitals.
const COLUMN: f32 = 0.105;
const ROW: f32 = 0.12;
const FOOT: f32 = 2.0;

/// The number of columns between letters.
const SPACE: f32 = 1.7;

/// The strokes of each letter. A point is written as two digits, its column and its row.
const GLYPHS: [(char, &str); 78] = [
    (' ', "00 20"),
    ('0', "03 07 18 38 47 43 32 12 03"),
    ('1', "07 18 12|02 22"),
    ('2', "07 18 38 47 46 02 42"),
    ('3', "07 18 38 47 46 35 15|35 44 43 32 12 03"),
    ('4', "32 38 04 44"),
    ('5', "48 08 05 35 44 43 32 12 03"),
    ('6', "38 18 07 03 12 32 43 44 35 05"),
    ('7', "08 48 12"),
    ('8', "15 06 07 18 38 47 46 35 15 04 03 12 32 43 44 35"),
    ('9', "45 15 06 07 18 38 47 43 32 12"),
    ('A', "02 28 42|14 34"),
    ('B', "05 08 38 47 46 35 05 02 32 43 44 35"),
    ('C', "47 38 18 07 03 12 32 43"),
    ('D', "02 08 28 46 44 22 02"),
    ('E', "48 08 02 42|05 35"),
    ('F', "48 08 02|05 35"),
    ('G', "47 38 18 07 03 12 32 43 45 25"),
    ('H', "08 02|48 42|05 45"),
    ('I', "08 28|18 12|02 22"),
    ('J', "48 43 32 12 03"),
    ('K', "08 02|48 04|26 42"),
    ('L', "08 02 42"),
    ('M', "02 08 25 48 42"),
    ('N', "02 08 42 48"),
    ('O', "03 07 18 38 47 43 32 12 03"),
    ('P', "02 08 38 47 46 35 05"),
    ('Q', "03 07 18 38 47 43 32 12 03|24 42"),
    ('R', "02 08 38 47 46 35 05|25 42"),
    ('S', "47 38 18 07 06 15 35 44 43 32 12 03"),
    ('T', "08 48|28 22"),
    ('U', "08 03 12 32 43 48"),
    ('V', "08 22 48"),
    ('W', "08 12 26 32 48"),
    ('X', "08 42|48 02"),
    ('Y', "08 25 48|25 22"),
    ('Z', "08 48 02 42"),
    ('a', "45 36 16 05 03 12 32 43|46 42"),
    ('b', "08 02|05 16 36 45 43 32 12 03"),
    ('c', "45 36 16 05 03 12 32 43"),
    ('d', "48 42|45 36 16 05 03 12 32 43"),
    ('e', "04 44 45 36 16 05 03 12 32 43"),
    ('f', "38 28 17 12|06 36"),
    ('g', "45 36 16 05 03 12 32 43|46 41 30 10 01"),
    ('h', "08 02|05 16 36 45 42"),
    ('i', "06 02|08 08"),
    ('j', "16 11 00|18 18"),
    ('k', "08 02|46 04|25 42"),
    ('l', "08 02"),
    ('m', "06 02|05 16 25 22|25 36 45 42"),
    ('n', "06 02|05 16 36 45 42"),
    ('o', "05 16 36 45 43 32 12 03 05"),
    ('p', "06 00|05 16 36 45 43 32 12 03"),
    ('q', "46 40|45 36 16 05 03 12 32 43"),
    ('r', "06 02|05 16 36"),
    ('s', "45 36 16 05 14 34 43 32 12 03"),
    ('t', "18 13 22 32|06 36"),
    ('u', "06 03 12 32 43|46 42"),
    ('v', "06 22 46"),
    ('w', "06 12 25 32 46"),
    ('x', "06 42|46 02"),
    ('y', "06 22|46 10"),
    ('z', "06 46 02 42"),
    ('-', "05 35"),
    ('_', "01 41"),
    ('.', "02 02"),
    (',', "12 01"),
    (':', "03 03|05 05"),
    ('/', "02 48"),
    ('+', "05 45|27 23"),
    ('=', "04 44|06 46"),
    ('(', "18 06 04 12"),
    (')', "08 16 14 02"),
    ('[', "18 08 02 12"),
    (']', "08 18 12 02"),
    ('%', "02 48|07 07|43 43"),
    ('#', "14 18|34 38|05 45|07 47"),
    ('@', "33 35 15 13 33 44 47 38 18 07 03 12 32"),
];

/// The replacement for unknown letters.
const UNKNOWN: &str = "02 08 48 42 02";

fn glyph(letter: char) -> &'static str {
    let found = GLYPHS.iter().find(|(known, _)| *known == letter);
    found.map_or(UNKNOWN, |(_, strokes)| strokes)
}

/// Returns the points of a stroke, in columns and rows.
fn points(stroke: &str) -> impl Iterator<Item = [f32; 2]> {
    stroke.split(' ').filter_map(|pair| {
        let &[column, row] = pair.as_bytes() else {
            return None;
        };
        Some([column, row].map(|digit| f32::from(digit - b'0')))
    })
}

fn columns(letter: char) -> f32 {
    let strokes = glyph(letter).split('|').flat_map(points);
    strokes.map(|[column, _]| column).fold(0.0, f32::max)
}

/// Returns the width of a line of text of size 1.
pub(super) fn width(text: &str) -> f32 {
    let letters = text.chars().map(|letter| columns(letter) + SPACE);
    COLUMN * (letters.sum::<f32>() - SPACE).max(0.0)
}

/// Returns the strokes of a line of text of size 1, each with at least two points. The origin is the start of the
/// baseline.
pub(super) fn of(text: &str) -> Vec<Vec<[f32; 2]>> {
    let mut left = 0.0;
    let mut strokes = Vec::new();
    for letter in text.chars() {
        if letter != ' ' {
            for stroke in glyph(letter).split('|') {
                let placed = points(stroke)
                    .map(|[column, row]| [COLUMN * (left + column), ROW * (row - FOOT)]);
                strokes.push(placed.collect());
            }
        }
        left += columns(letter) + SPACE;
    }
    strokes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_stays_within_its_grid() {
        for (letter, strokes) in GLYPHS {
            for stroke in strokes.split('|') {
                let pairs = stroke.split(' ').count();
                assert_eq!(points(stroke).count(), pairs, "{letter}");
                assert!(pairs >= 2, "{letter}");
                assert!(
                    points(stroke).all(|[x, y]| x <= 4.0 && y <= 8.0),
                    "{letter}"
                );
            }
            assert_eq!(glyph(letter), strokes, "{letter} is defined twice");
        }
        let needed = ('0'..='9')
            .chain('a'..='z')
            .chain('A'..='Z')
            .chain("-_.: ".chars());
        assert!(needed.into_iter().all(|letter| glyph(letter) != UNKNOWN));
        assert_eq!(glyph('ß'), UNKNOWN);
    }

    #[test]
    fn the_width_of_a_text_equals_that_of_its_strokes() {
        let text = "learning rate 1.5e-4";
        let right = of(text)
            .into_iter()
            .flatten()
            .map(|[x, _]| x)
            .fold(0.0, f32::max);
        assert!((right - width(text)).abs() < 1e-5);
        assert_eq!(width(""), 0.0);
    }
}
