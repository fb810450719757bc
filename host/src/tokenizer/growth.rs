//! How the text of a reply grows with its tokens: what of it a further token can change.

use tokenizers::{Decoder, DecoderWrapper};

/// What a further token can change of the text so far.
#[derive(Debug)]
pub(super) enum Growth {
    /// Nothing but a last character that is not complete.
    Tokens,
    /// As `Tokens`, and all of a run of byte tokens at the end: one invalid byte makes each of them `U+FFFD`.
    /// These decoders come before the one that reads bytes.
    ByteRuns(Vec<DecoderWrapper>),
    /// Anything.
    Whole,
}

impl Growth {
    /// What is known of a decoder; nothing is assumed of rare ones, whose text is shown at the end.
    pub fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let mut steps = Vec::new();
        if let Some(decoder) = decoder {
            flatten(decoder, &mut steps);
        }
        let mut growth = Self::Tokens;
        let mut fused = false;
        for (index, step) in steps.iter().enumerate() {
            let keeps = match step {
                // Each token by itself, or by whether it is the first.
                DecoderWrapper::Metaspace(_) | DecoderWrapper::Replace(_) => !fused,
                DecoderWrapper::Strip(strip) => strip.stop == 0,
                DecoderWrapper::Fuse(_) => {
                    fused = true;
                    true
                }
                DecoderWrapper::ByteLevel(_) => {
                    let first = index == 0;
                    fused = true;
                    first
                }
                DecoderWrapper::ByteFallback(_) => {
                    let before = &steps[..index];
                    let alone = before
                        .iter()
                        .all(|step| matches!(step, DecoderWrapper::Replace(_)));
                    growth = Self::ByteRuns(before.iter().map(|&step| step.clone()).collect());
                    alone
                }
                _ => false,
            };
            if !keeps {
                return Self::Whole;
            }
        }
        growth
    }
}

/// Whether a decoder that reads bytes takes the token as one.
pub(super) fn is_byte(before: &[DecoderWrapper], token: String) -> Result<bool, String> {
    let mut tokens = vec![token];
    for decoder in before {
        tokens = decoder
            .decode_chain(tokens)
            .map_err(|error| error.to_string())?;
    }
    Ok(tokens.iter().all(|token| {
        let digits = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
        digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
    }))
}

fn flatten<'d>(decoder: &'d DecoderWrapper, steps: &mut Vec<&'d DecoderWrapper>) {
    match decoder {
        DecoderWrapper::Sequence(sequence) => {
            for decoder in sequence.get_decoders() {
                flatten(decoder, steps);
            }
        }
        decoder => steps.push(decoder),
    }
}
