//! Decodes a reply token by token.

use super::{error::TokenizerError, text_tokenizer::TextTokenizer, unstable_text::UnstableText};

/// Decodes a reply token by token. White space at both ends is stripped. Text is never retracted: the
/// concatenation of all returned pieces equals the decoded whole, for any ids.
pub struct TextStream<'t> {
    tokenizer: &'t TextTokenizer,
    ids: Vec<u32>,
    /// Bytes of the whole text that were returned.
    shown: usize,
    /// The first id that is decoded again for each new token. The text before it was returned.
    from: usize,
    /// Bytes of the text of `ids[from..]` that were returned or are leading white space.
    done: usize,
    /// The number of ids when text was last returned in full.
    mark: usize,
}

impl<'t> TextStream<'t> {
    /// Starts an empty reply.
    pub fn new(tokenizer: &'t TextTokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            shown: 0,
            from: 0,
            done: 0,
            mark: 0,
        }
    }

    /// Adds a token and returns the text that has become final. Text that may still change is held back: an
    /// incomplete character, bytes that further bytes may invalidate, and white space that may be trailing.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        self.ids.push(id);
        let settled = match self.tokenizer.unstable_text() {
            UnstableText::Everything => false,
            UnstableText::LastCharacter => true,
            UnstableText::ByteRuns(_) => !self.tokenizer.continues_bytes(id)?,
        };
        if !settled {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.ids[self.from..])?;
        let certain = text
            .trim_end()
            .trim_end_matches(char::REPLACEMENT_CHARACTER)
            .trim_end();
        if self.shown == 0 {
            self.done = certain.len() - certain.trim_start().len();
        }
        let new = certain.get(self.done..).unwrap_or_default().to_owned();
        self.done += new.len();
        self.shown += new.len();
        if self.done == text.len() {
            self.forget()?;
        }
        Ok(new)
    }

    /// Returns all ids, the whole text, and the part of it that was not returned yet.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn finish(self) -> Result<(Vec<u32>, String, String), TokenizerError> {
        let text = self.tokenizer.decode(&self.ids)?.trim().to_owned();
        let rest = text.get(self.shown..).unwrap_or_default().to_owned();
        Ok((self.ids, text, rest))
    }

    /// Stops decoding ids whose text is final, so that the cost of a token does not grow with the reply. Keeps some
    /// of them, because a decoder may treat the first ids differently.
    fn forget(&mut self) -> Result<(), TokenizerError> {
        let text = self.tokenizer.decode(&self.ids[self.mark..])?;
        if !text.trim().is_empty() {
            self.from = self.mark;
            self.done = text.len();
            self.mark = self.ids.len();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, seq::IndexedRandom};
    use rand_chacha::ChaCha8Rng;
    use serde_json::{Value, json};
    use std::{
        fs,
        path::{Path, PathBuf},
    };
    use tempfile::TempDir;

    /// Returns the pieces and the whole text.
    fn streamed(tokenizer: &TextTokenizer, ids: &[u32]) -> (Vec<String>, String) {
        let mut stream = TextStream::new(tokenizer);
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        let (kept, text, rest) = stream.finish().unwrap();
        assert_eq!(kept, ids);
        pieces.push(rest);
        (pieces, text)
    }

    #[track_caller]
    fn agrees(tokenizer: &TextTokenizer, ids: &[u32], name: &str) {
        let whole = tokenizer.decode(ids).unwrap();
        let (pieces, text) = streamed(tokenizer, ids);
        assert_eq!(text, whole.trim(), "{name}: {ids:?}");
        assert_eq!(pieces.concat(), text, "{name}: {ids:?}");
    }

    /// Bytes, spaces and single characters are more frequent than in the vocabulary. Some ids are special tokens,
    /// and some are not in the vocabulary.
    fn random_ids(tokenizer: &TextTokenizer, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let size = (0..).find(|&id| tokenizer.token(id).is_none()).unwrap();
        let short: Vec<u32> = (0..size)
            .filter(|&id| {
                let token = tokenizer.token(id).unwrap();
                token.starts_with("<0x") || token.chars().count() <= 1
            })
            .collect();
        let length = rng.random_range(0..40);
        let bias: f64 = rng.random();
        let mut ids = Vec::with_capacity(length);
        while ids.len() < length {
            ids.push(match rng.random::<f64>() {
                chance if chance < 0.05 => rng.random_range(0..size + 9),
                _ if rng.random::<f64>() < bias && !short.is_empty() => *short.choose(rng).unwrap(),
                _ => rng.random_range(0..size),
            });
        }
        ids
    }

    fn fixtures() -> Vec<PathBuf> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures");
        let families = fs::read_dir(Path::new(folder).join("tokenizers")).unwrap();
        let families = families.map(|entry| entry.unwrap().path());
        let files = families
            .flat_map(|family| ["tokenizer.json", "tokenizer.gguf"].map(|file| family.join(file)));
        let mut files: Vec<PathBuf> = files.filter(|file| file.exists()).collect();
        files.push(Path::new(folder).join("lively/llm/tokenizer.json"));
        assert!(files.len() >= 10);
        files
    }

    /// A tokenizer of bytes, spaces and some words with this decoder.
    fn with_decoder(folder: &TempDir, decoder: &Value) -> TextTokenizer {
        let bytes = (0..=255u8).map(|byte| format!("<0x{byte:02X}>"));
        let words = [
            "▁", "▁▁", "▁Hi", "x", "x▁", "é", "�", " ", "\n", "##y", "a</w>", "</w>", "|", "[PAD]",
            ".", "Ġ", "Ã", "©",
        ];
        let tokens = bytes.chain(words.map(str::to_owned));
        let vocab: serde_json::Map<String, Value> = tokens.zip((0..).map(Value::from)).collect();
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
            "post_processor": null, "decoder": decoder,
            "added_tokens": [{"id": 274, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}],
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "x"},
        });
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, file.to_string()).unwrap();
        TextTokenizer::load(&path).unwrap()
    }

    #[test]
    fn the_pieces_add_up_to_the_whole_text_for_any_ids() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for file in fixtures() {
            let tokenizer = TextTokenizer::load(&file).unwrap();
            for _ in 0..1500 {
                let ids = random_ids(&tokenizer, &mut rng);
                agrees(&tokenizer, &ids, &file.display().to_string());
            }
        }
    }

    #[test]
    fn the_pieces_add_up_to_the_whole_text_for_any_decoder() {
        let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        let strip =
            |start, stop| json!({"type": "Strip", "content": " ", "start": start, "stop": stop});
        let sequence = |decoders: Vec<Value>| json!({"type": "Sequence", "decoders": decoders});
        let (bytes, fuse) = (json!({"type": "ByteFallback"}), json!({"type": "Fuse"}));
        let metaspace = |scheme| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let decoders = [
            json!(null),
            metaspace("always"),
            metaspace("never"),
            byte_level.clone(),
            bytes.clone(),
            sequence(vec![
                replace("▁", " "),
                bytes.clone(),
                fuse.clone(),
                strip(1, 0),
            ]),
            sequence(vec![
                replace("▁", " "),
                bytes.clone(),
                fuse.clone(),
                strip(3, 0),
            ]),
            sequence(vec![replace("x", "<0x0A>"), bytes.clone(), fuse.clone()]),
            sequence(vec![bytes.clone(), metaspace("first")]),
            sequence(vec![bytes.clone(), fuse.clone(), replace("x", "")]),
            sequence(vec![bytes.clone(), byte_level.clone()]),
            sequence(vec![byte_level, bytes.clone()]),
            sequence(vec![fuse.clone(), bytes.clone()]),
            sequence(vec![bytes, bytes_of_two()]),
            strip(1, 0),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
            json!({"type": "BPEDecoder", "suffix": "</w>"}),
            json!({"type": "CTC", "pad_token": "[PAD]", "word_delimiter_token": "|", "cleanup": true}),
        ];
        let folder = TempDir::new().unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        for decoder in decoders {
            let tokenizer = with_decoder(&folder, &decoder);
            for _ in 0..2000 {
                agrees(
                    &tokenizer,
                    &random_ids(&tokenizer, &mut rng),
                    &decoder.to_string(),
                );
            }
        }
    }

    fn bytes_of_two() -> Value {
        json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]})
    }

    #[test]
    fn words_are_returned_immediately() {
        for file in fixtures() {
            let tokenizer = TextTokenizer::load(&file).unwrap();
            let sentence = "The red circle moves to the left, and then it stops.";
            let ids = tokenizer.encode_continuation(sentence).unwrap();
            let (pieces, text) = streamed(&tokenizer, &ids);
            assert_eq!(text, sentence);
            let late = pieces.iter().filter(|piece| piece.is_empty()).count();
            assert!(late <= pieces.len() / 3, "{}: {pieces:?}", file.display());
            // Only trailing white space is held back until the end.
            assert_eq!(pieces.last().unwrap(), "", "{}", file.display());
        }
    }

    #[test]
    fn the_cost_of_a_token_does_not_grow_with_the_reply() {
        for file in fixtures() {
            let tokenizer = TextTokenizer::load(&file).unwrap();
            let ids = tokenizer
                .encode_continuation("A circle moves. ")
                .unwrap()
                .repeat(600);
            let mut stream = TextStream::new(&tokenizer);
            let mut window = 0;
            for id in ids {
                stream.push(id).unwrap();
                window = window.max(stream.ids.len() - stream.from);
            }
            assert!(window < 40, "{}: {window}", file.display());
        }
    }
}
