//! Edits that make GGUF files wrong.

/// The offset of the first byte after the length-prefixed string `text`.
///
/// # Panics
///
/// If the file does not contain the string.
#[track_caller]
pub fn after(bytes: &[u8], text: &str) -> usize {
    let mut string = (text.len() as u64).to_le_bytes().to_vec();
    string.extend(text.as_bytes());
    let at = bytes
        .windows(string.len())
        .position(|window| window == string);
    at.unwrap_or_else(|| panic!("no `{text}` in the file")) + string.len()
}

/// Overwrites a string with another of the same length.
#[track_caller]
pub fn rename(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let end = after(bytes, from);
    bytes[end - to.len()..end].copy_from_slice(to.as_bytes());
}

/// Overwrites the value of `key`, which has the type `kind` and takes four bytes.
#[track_caller]
pub fn set(bytes: &mut [u8], key: &str, kind: u32, value: [u8; 4]) {
    let at = after(bytes, key);
    assert_eq!(bytes[at..at + 4], kind.to_le_bytes(), "the type of `{key}`");
    bytes[at + 4..at + 8].copy_from_slice(&value);
}

/// Overwrites the first element of the array `key`, whose elements take four bytes.
#[track_caller]
pub fn set_element(bytes: &mut [u8], key: &str, value: [u8; 4]) {
    // Skips the type, the type of the elements and their number.
    let at = after(bytes, key) + 16;
    bytes[at..at + 4].copy_from_slice(&value);
}

/// A file with the metadata of a SentencePiece tokenizer, whose tokens are all of one kind.
pub fn tokenizer(tokens: &[String], kind: i32) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    let string = |bytes: &mut Vec<u8>, text: &str| {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    };
    bytes.extend(3u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes.extend(4u64.to_le_bytes());
    string(&mut bytes, "tokenizer.ggml.model");
    bytes.extend(8u32.to_le_bytes());
    string(&mut bytes, "llama");
    for (key, element) in [("tokens", 8u32), ("scores", 6), ("token_type", 5)] {
        string(&mut bytes, &format!("tokenizer.ggml.{key}"));
        bytes.extend(9u32.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend((tokens.len() as u64).to_le_bytes());
        for (id, token) in tokens.iter().enumerate() {
            match key {
                "tokens" => string(&mut bytes, token),
                "scores" => bytes.extend((-(id as f32)).to_le_bytes()),
                _ => bytes.extend(kind.to_le_bytes()),
            }
        }
    }
    // The tensor data, which are empty, start at a multiple of the alignment.
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}
