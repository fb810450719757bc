//! SentencePiece BPE. GGUF files store scores instead of a list of merges. The list is derived from the pairs of
//! tokens that form another token, ordered by the score of that token.

use super::vocabulary::{Kind, MAX_MERGES, Vocabulary, find, require, same_length};
use std::collections::HashMap;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, Tokenizer,
    decoders::{byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence, strip::Strip},
    models::bpe::BPE,
    normalizers::{self, Prepend, Replace},
};

/// The character that SentencePiece uses for a space.
const BLANK: &str = "▁";

pub(super) fn tokenizer(vocabulary: &Vocabulary<'_>) -> Result<Tokenizer, String> {
    let bytes = vocabulary.kinds.contains(&Kind::Byte);
    let mut entries = vocabulary.entries();
    let unknown = entries.find(|(_, _, kind)| *kind == Kind::Unknown);
    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary.map().collect::<Vocab>(), merges(vocabulary)?)
        .fuse_unk(true)
        .byte_fallback(bytes);
    if let Some((_, token, _)) = unknown {
        model = model.unk_token(token.to_owned());
    }
    let model = model.build().map_err(|error| error.to_string())?;
    let leads: bool = find(vocabulary.metadata, "add_space_prefix")?.unwrap_or(true);
    let replace = |from: &str, to: &str| Replace::new(from, to).map_err(|error| error.to_string());
    let mut normalizer: Vec<NormalizerWrapper> = vec![replace(" ", BLANK)?.into()];
    let mut decoder: Vec<DecoderWrapper> = vec![
        replace(BLANK, " ")?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if leads {
        normalizer.insert(0, Prepend::new(BLANK.to_owned()).into());
        decoder.push(Strip::new(' ', 1, 0).into());
    }
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(normalizers::Sequence::new(normalizer)));
    tokenizer.with_decoder(Some(Sequence::new(decoder)));
    Ok(tokenizer)
}

type Vocab = tokenizers::models::bpe::Vocab;

/// A merge of two tokens.
struct Merge<'a> {
    score: f32,
    left: &'a str,
    right: &'a str,
    /// The lengths of both parts in characters.
    lengths: (usize, usize),
}

/// Derives the merges, best first. Matches `generate_merges` in `convert_slow_tokenizer.py` of transformers.
fn merges(vocabulary: &Vocabulary<'_>) -> Result<Vec<(String, String)>, String> {
    let scores: &[f32] = require(vocabulary.metadata, "scores")?;
    same_length("scores", scores.len(), vocabulary.tokens)?;
    let joins = |kind| matches!(kind, Kind::Normal | Kind::UserDefined);
    let parts = vocabulary.entries().filter(|(_, _, kind)| joins(*kind));
    let parts: HashMap<&str, u32> = parts.map(|(id, token, _)| (token, id)).collect();
    let mut merges = Vec::new();
    for (id, token, _) in vocabulary.entries().filter(|(_, _, kind)| joins(*kind)) {
        let begin = merges.len();
        for (count, (at, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(at);
            let (Some(left_id), Some(right_id)) = (parts.get(left), parts.get(right)) else {
                continue;
            };
            let merge = Merge {
                score: scores[id as usize],
                left,
                right,
                lengths: (count, right.chars().count()),
            };
            merges.push((left_id, right_id, merge));
        }
        merges[begin..].sort_by_key(|(left, right, _)| (*left, *right));
        if merges.len() > MAX_MERGES {
            return Err(format!(
                "more than {MAX_MERGES} pairs of its tokens form another token; expected at most {MAX_MERGES}"
            ));
        }
    }
    merges.sort_by(|(_, _, a), (_, _, b)| {
        let by_score = b.score.total_cmp(&a.score);
        by_score.then(b.lengths.cmp(&a.lengths))
    });
    let texts = merges.into_iter().map(|(_, _, merge)| merge);
    Ok(texts
        .map(|merge| (merge.left.to_owned(), merge.right.to_owned()))
        .collect())
}
