//! Which part of a decoded text a further token can change. It depends on the decoder.

use tokenizers::{Decoder, DecoderWrapper};

/// The part of a decoded text that a further token can change.
#[derive(Debug)]
pub(super) enum UnstableText {
    /// Only an incomplete last character.
    LastCharacter,
    /// Also a run of byte tokens at the end, because one invalid byte turns each of them into `U+FFFD`. Contains
    /// the decoders that run before the byte decoder.
    ByteRuns(Vec<DecoderWrapper>),
    /// The whole text.
    Everything,
}

impl UnstableText {
    /// Classifies a decoder. For rare decoders, the whole text may change, so it is shown at the end.
    pub fn of(decoder: Option<&DecoderWrapper>) -> Self {
        let mut steps = Vec::new();
        if let Some(decoder) = decoder {
            flatten(decoder, &mut steps);
        }
        let mut unstable = Self::LastCharacter;
        let mut fused = false;
        for (index, step) in steps.iter().enumerate() {
            let keeps = match step {
                // They decode each token independently, or only treat the first one differently.
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
                    unstable = Self::ByteRuns(before.iter().map(|&step| step.clone()).collect());
                    alone
                }
                _ => false,
            };
            if !keeps {
                return Self::Everything;
            }
        }
        unstable
    }
}

/// Whether the byte decoder reads the token as a byte.
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
