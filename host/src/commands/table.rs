//! Tables in plain text.

/// Maximum number of characters in a column. A longer cell extends into the next column.
pub const MAX_COLUMN: usize = 80;

/// Formats `rows` under `header`. Columns are as wide as their widest cell. Control characters are escaped: cells may come
/// from files of strangers.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| escaped(cell)).collect())
        .collect();
    let head: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count().min(MAX_COLUMN));
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| padded(cell, width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(&head)
        .chain(&rows)
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns a cell without control characters.
fn escaped(cell: &str) -> String {
    let shown = cell.chars().map(|character| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    });
    shown.collect()
}

/// Pads a cell with blanks to a width. Formatting macros do not support widths above 65,535.
pub fn padded(cell: &str, width: usize) -> String {
    let missing = width.saturating_sub(cell.chars().count());
    cell.to_owned() + &" ".repeat(missing)
}

/// Formats a count with a unit of thousands, millions or billions: `125.8 M`.
pub fn human(count: u64) -> String {
    let (unit, name) = match count {
        0..1_000 => return count.to_string(),
        1_000..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (1e9, "G"),
        _ => (1e12, "T"),
    };
    format!("{:.1} {name}", count as f64 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        let rows = [vec!["a\u{1b}[31m\nb".to_owned(), "ä 界".to_owned()]];
        let shown = table(&["x", "y"], &rows);
        assert_eq!(shown.lines().last(), Some("a\\u{1b}[31m\\nb  ä 界"));
    }

    #[test]
    fn cells_of_any_length_are_shown_completely() {
        for length in [1, 200, 65_535, 65_536, 1 << 20] {
            let long = "ä".repeat(length);
            let rows = [
                [long.clone(), "1".to_owned()],
                ["b".to_owned(), "2".to_owned()],
            ]
            .map(Vec::from);
            let shown = table(&["kind", "value"], &rows);
            let lines: Vec<&str> = shown.lines().collect();
            assert_eq!(lines[1], format!("{}  1", padded(&long, 4)), "{length}");
            let width = length.clamp(4, MAX_COLUMN);
            assert_eq!(
                lines[2],
                format!("b{}  2", " ".repeat(width - 1)),
                "{length}"
            );
        }
    }
}
