//! Text as it grows, token by token.

use super::{error::TextError, growth::Growth, text_tokenizer::TextTokenizer};

/// Text as it grows, token by token, stripped on both sides as the whole text will be. What is shown is never
/// taken back: all that is shown together is the whole text, whatever the ids are.
pub struct Stream<'t> {
    tokenizer: &'t TextTokenizer,
    ids: Vec<u32>,
    /// Bytes of the whole text that were shown.
    shown: usize,
    /// Where the ids begin that are decoded for each new token: text before it is shown.
    from: usize,
    /// Bytes of the text of `ids[from..]` that were shown, or are leading white space.
    done: usize,
    /// Where the last token ended that left nothing held back.
    mark: usize,
}

impl<'t> Stream<'t> {
    /// Nothing yet.
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

    /// Adds a token; returns the text that is certain now and was not shown before. What may still
    /// change is held back: an unfinished character, bytes that further ones may make invalid, and white
    /// space that may be the last.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn push(&mut self, id: u32) -> Result<String, TextError> {
        self.ids.push(id);
        let settled = match self.tokenizer.growth() {
            Growth::Whole => false,
            Growth::Tokens => true,
            Growth::ByteRuns(_) => !self.tokenizer.continues_bytes(id)?,
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

    /// All ids so far, the whole text, and what of it was not shown yet.
    ///
    /// # Errors
    ///
    /// When the tokenizer fails.
    pub fn finish(self) -> Result<(Vec<u32>, String, String), TextError> {
        let text = self.tokenizer.decode(&self.ids)?.trim().to_owned();
        let rest = text.get(self.shown..).unwrap_or_default().to_owned();
        Ok((self.ids, text, rest))
    }

    /// Leaves out ids that can change nothing any more, so that a long reply is not decoded anew for every
    /// token. Some that were shown stay, since a decoder may treat the first ones differently.
    fn forget(&mut self) -> Result<(), TextError> {
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

    /// What is shown token by token, and the whole text.
    fn streamed(tokenizer: &TextTokenizer, ids: &[u32]) -> (Vec<String>, String) {
        let mut stream = Stream::new(tokenizer);
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

    /// Ids of bytes, blanks and single characters come more often than a vocabulary has them; some are
    /// special, some no token at all.
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

    /// A tokenizer of bytes, blanks and some words with this decoder.
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
    fn what_is_shown_is_the_whole_text_for_any_ids() {
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
    fn what_is_shown_is_the_whole_text_for_any_decoder() {
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
    fn words_are_shown_at_once() {
        for file in fixtures() {
            let tokenizer = TextTokenizer::load(&file).unwrap();
            let sentence = "The red circle moves to the left, and then it stops.";
            let ids = tokenizer.encode_more(sentence).unwrap();
            let (pieces, text) = streamed(&tokenizer, &ids);
            assert_eq!(text, sentence);
            let late = pieces.iter().filter(|piece| piece.is_empty()).count();
            assert!(late <= pieces.len() / 3, "{}: {pieces:?}", file.display());
            // Nothing but the last white space waits for the end.
            assert_eq!(pieces.last().unwrap(), "", "{}", file.display());
        }
    }

    #[test]
    fn a_long_reply_takes_no_longer_for_each_token() {
        for file in fixtures() {
            let tokenizer = TextTokenizer::load(&file).unwrap();
            let ids = tokenizer
                .encode_more("A circle moves. ")
                .unwrap()
                .repeat(600);
            let mut stream = Stream::new(&tokenizer);
            let mut window = 0;
            for id in ids {
                stream.push(id).unwrap();
                window = window.max(stream.ids.len() - stream.from);
            }
            assert!(window < 40, "{}: {window}", file.display());
        }
    }
}
