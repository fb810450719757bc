//! Combines the texts and clips of a batch into the inputs of the language model.

use super::data::Tokens;
use merv_plugin_api::IGNORED_LABEL;

/// The positions of the tokens of a batch. The visual tokens come right after the BOS token, or first if there
/// is none. Shorter rows are padded at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchLayout {
    /// The number of rows.
    pub batch: usize,
    /// The number of positions in a row.
    pub length: usize,
    /// `[batch, length]`: 1 for a token, 0 for padding.
    pub mask: Vec<u8>,
    /// `[batch, length]`: token ids, or [`IGNORED_LABEL`].
    pub labels: Vec<i64>,
    /// The ids of all text tokens of the batch, row by row.
    pub ids: Vec<u32>,
    rows: Vec<Row>,
    visual_tokens: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    text: usize,
    /// The number of text tokens before the visual tokens, if the row has visual tokens.
    visual_at: Option<usize>,
}

impl BatchLayout {
    /// Lays out `rows`, each with whether it has visual tokens, for a language model whose BOS token is `bos`.
    pub fn new(rows: &[(&Tokens, bool)], bos: Option<u32>, visual_tokens: usize) -> Self {
        let length = |(tokens, visual): &(&Tokens, bool)| {
            tokens.ids.len() + if *visual { visual_tokens } else { 0 }
        };
        let longest = rows.iter().map(length).max().unwrap_or(0);
        let mut layout = Self {
            batch: rows.len(),
            length: longest,
            mask: Vec::with_capacity(rows.len() * longest),
            labels: Vec::with_capacity(rows.len() * longest),
            ids: Vec::new(),
            rows: Vec::with_capacity(rows.len()),
            visual_tokens,
        };
        for (tokens, visual) in rows {
            let begins = bos.is_some_and(|bos| tokens.ids.first() == Some(&bos));
            let row = Row {
                text: tokens.ids.len(),
                visual_at: visual.then_some(usize::from(begins)),
            };
            let (before, after) = tokens.labels.split_at(row.visual_at.unwrap_or(0));
            let seen = row.visual_at.map_or(0, |_| visual_tokens);
            let end = (layout.rows.len() + 1) * longest;
            layout.labels.extend_from_slice(before);
            layout.labels.extend((0..seen).map(|_| IGNORED_LABEL));
            layout.labels.extend_from_slice(after);
            layout.mask.resize(layout.labels.len(), 1);
            layout.labels.resize(end, IGNORED_LABEL);
            layout.mask.resize(end, 0);
            layout.ids.extend_from_slice(&tokens.ids);
            layout.rows.push(row);
        }
        layout
    }

    /// Returns the number of positions that are not padding.
    pub fn tokens(&self) -> usize {
        self.mask.iter().map(|&mask| usize::from(mask)).sum()
    }

    /// Returns the input embeddings of the language model.
    ///
    /// # Shapes
    ///
    /// `text`: `[ids, width]`. `visual`: `[rows with visual tokens, visual tokens, width]`. Result:
    /// `[batch, length, width]`.
    pub fn embeds(&self, text: &[f32], visual: &[f32], width: usize) -> Vec<f32> {
        let mut embeds = vec![0.0; self.batch * self.length * width];
        self.pieces(|piece, place, from, count| {
            let source = match piece {
                Piece::Text => text,
                Piece::Visual => visual,
            };
            embeds[place * width..][..count * width]
                .copy_from_slice(&source[from * width..][..count * width]);
        });
        embeds
    }

    /// Splits the gradient of the input embeddings, `[batch, length, width]`, into the gradients of the text and
    /// of the visual tokens.
    pub fn split(&self, gradient: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
        let clips = self
            .rows
            .iter()
            .filter(|row| row.visual_at.is_some())
            .count();
        let mut text = vec![0.0; self.ids.len() * width];
        let mut visual = vec![0.0; clips * self.visual_tokens * width];
        self.pieces(|piece, place, from, count| {
            let target = match piece {
                Piece::Text => &mut text,
                Piece::Visual => &mut visual,
            };
            target[from * width..][..count * width]
                .copy_from_slice(&gradient[place * width..][..count * width]);
        });
        (text, visual)
    }

    /// Calls `visit` for each run of tokens, with its kind, its offset in `[batch · length]`, its offset among
    /// the tokens of its kind, and its length.
    fn pieces(&self, mut visit: impl FnMut(Piece, usize, usize, usize)) {
        let (mut text, mut visual) = (0, 0);
        for (number, row) in self.rows.iter().enumerate() {
            let start = number * self.length;
            let before = row.visual_at.unwrap_or(0);
            let seen = row.visual_at.map_or(0, |_| self.visual_tokens);
            visit(Piece::Text, start, text, before);
            visit(Piece::Visual, start + before, visual, seen);
            visit(
                Piece::Text,
                start + before + seen,
                text + before,
                row.text - before,
            );
            text += row.text;
            visual += seen;
        }
    }
}

#[derive(Clone, Copy)]
enum Piece {
    Text,
    Visual,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(ids: &[u32]) -> Tokens {
        Tokens {
            ids: ids.to_vec(),
            labels: ids.iter().map(|&id| i64::from(id)).collect(),
        }
    }

    #[test]
    fn visual_tokens_follow_the_bos_and_padding_comes_last() {
        let (a, b, c) = (tokens(&[1, 5, 6]), tokens(&[1, 7]), tokens(&[8]));
        let rows = [(&a, true), (&b, false), (&c, true)];
        let layout = BatchLayout::new(&rows, Some(1), 2);
        let no = IGNORED_LABEL;
        assert_eq!((layout.batch, layout.length), (3, 5));
        assert_eq!(layout.mask, [1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0]);
        assert_eq!(
            layout.labels,
            [1, no, no, 5, 6, 1, 7, no, no, no, no, no, 8, no, no]
        );
        assert_eq!(
            (layout.tokens(), &layout.ids[..]),
            (10, &[1, 5, 6, 1, 7, 8][..])
        );
        let text: Vec<f32> = layout.ids.iter().map(|&id| id as f32).collect();
        let visual = [-1.0, -2.0, -3.0, -4.0];
        let embeds = layout.embeds(&text, &visual, 1);
        assert_eq!(
            embeds,
            [
                1.0, -1.0, -2.0, 5.0, 6.0, 1.0, 7.0, 0.0, 0.0, 0.0, -3.0, -4.0, 8.0, 0.0, 0.0
            ]
        );
        assert_eq!(layout.split(&embeds, 1), (text, visual.to_vec()));
    }

    #[test]
    fn widths_stay_together() {
        let a = tokens(&[1, 2]);
        let layout = BatchLayout::new(&[(&a, true)], Some(1), 1);
        let embeds = layout.embeds(&[1.0, 1.5, 2.0, 2.5], &[9.0, 9.5], 2);
        assert_eq!(embeds, [1.0, 1.5, 9.0, 9.5, 2.0, 2.5]);
        let (text, visual) = layout.split(&embeds, 2);
        assert_eq!(
            (&text[..], &visual[..]),
            (&[1.0, 1.5, 2.0, 2.5][..], &[9.0, 9.5][..])
        );
    }
}
