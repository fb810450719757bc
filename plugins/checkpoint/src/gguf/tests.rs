//! Valid, damaged and malicious GGUF files.

use crate::{Checkpoint, CheckpointError, GgmlType, StoredDtype};
use std::io::Write;

/// Builds a GGUF file.
struct Gguf {
    version: u32,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    /// The declared numbers of tensors and keys, if not the true ones.
    counts: Option<(u64, u64)>,
    alignment: usize,
    data: Vec<u8>,
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(name.as_bytes())[..], &kind.to_le_bytes(), value].concat()
}

fn array(kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat()
}

/// `dims` are in ggml's order, the innermost first.
fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name.as_bytes());
    bytes.extend((dims.len() as u32).to_le_bytes());
    dims.iter()
        .for_each(|size| bytes.extend(size.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

impl Gguf {
    fn new() -> Self {
        Self {
            version: 3,
            keys: Vec::new(),
            tensors: Vec::new(),
            counts: None,
            alignment: 32,
            data: vec![0; 256],
        }
    }

    fn key(mut self, bytes: Vec<u8>) -> Self {
        self.keys.push(bytes);
        self
    }

    fn tensor(mut self, bytes: Vec<u8>) -> Self {
        self.tensors.push(bytes);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let (tensors, keys) = self
            .counts
            .unwrap_or((self.tensors.len() as u64, self.keys.len() as u64));
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        bytes.extend(self.keys.concat());
        bytes.extend(self.tensors.concat());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }

    fn open(&self) -> Result<Checkpoint, CheckpointError> {
        open(&self.bytes())
    }

    #[track_caller]
    fn refused(&self, words: &[&str]) {
        refused(&self.bytes(), words);
    }
}

fn open(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Checkpoint::open(&[file.path()])
}

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let error = match open(bytes) {
        Ok(_) => panic!("opened, but expected an error with {words:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(error.contains(word), "`{error}` lacks `{word}`");
    }
}

#[test]
fn metadata_and_tensors_are_read() {
    let tokens: Vec<u8> = [string(b"<s>"), string("\u{2581}a".as_bytes())].concat();
    let mut file = Gguf::new()
        .key(key("general.architecture", 8, &string(b"llama")))
        .key(key("llama.block_count", 4, &7u32.to_le_bytes()))
        .key(key("llama.rope.freq_base", 6, &1e4f32.to_le_bytes()))
        .key(key("small", 1, &(-3i8).to_le_bytes()))
        .key(key("big", 10, &u64::MAX.to_le_bytes()))
        .key(key("add_bos", 7, &[1]))
        .key(key("tokens", 9, &array(8, 2, &tokens)))
        .key(key(
            "types",
            9,
            &array(5, 2, &[3, 0, 0, 0, 255, 255, 255, 255]),
        ))
        .key(key("scores", 9, &array(6, 1, &0.5f32.to_le_bytes())))
        .key(key("general.alignment", 4, &64u32.to_le_bytes()))
        .tensor(tensor("b", &[3, 2], 0, 0))
        .tensor(tensor("a", &[32, 1, 2], 8, 64));
    file.alignment = 64;
    file.data = (0..=255).collect();
    for version in [2, 3] {
        file.version = version;
        let checkpoint = file.open().unwrap();
        let metadata = checkpoint.gguf().unwrap();
        assert_eq!(
            metadata.require::<&str>("general.architecture").unwrap(),
            "llama"
        );
        assert_eq!(metadata.require::<usize>("llama.block_count").unwrap(), 7);
        assert_eq!(
            metadata.require::<f32>("llama.rope.freq_base").unwrap(),
            1e4
        );
        assert_eq!(metadata.require::<i64>("small").unwrap(), -3);
        assert_eq!(metadata.require::<u64>("big").unwrap(), u64::MAX);
        assert!(metadata.require::<bool>("add_bos").unwrap());
        assert_eq!(
            metadata.require::<&[String]>("tokens").unwrap(),
            ["<s>", "\u{2581}a"]
        );
        assert_eq!(metadata.require::<Vec<i64>>("types").unwrap(), [3, -1]);
        assert_eq!(metadata.require::<&[f32]>("scores").unwrap(), [0.5]);
        assert_eq!(metadata.find::<u32>("none").unwrap(), None);

        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
        let b = checkpoint.get("b").unwrap();
        assert_eq!(
            (b.dtype, b.shape.as_slice()),
            (StoredDtype::F32, &[2, 3][..])
        );
        assert_eq!(b.bytes(), (0..24).collect::<Vec<u8>>());
        let a = checkpoint.get("a").unwrap();
        assert_eq!(a.dtype, StoredDtype::Quantized(GgmlType::Q8_0));
        assert_eq!(a.shape, [2, 1, 32]);
        assert_eq!(a.bytes(), (64..64 + 68).collect::<Vec<u8>>());
    }
}

#[test]
fn getter_errors_name_the_expected_type() {
    let file = Gguf::new().key(key("count", 8, &string(b"many"))).key(key(
        "negative",
        5,
        &(-1i32).to_le_bytes(),
    ));
    let checkpoint = file.open().unwrap();
    let metadata = checkpoint.gguf().unwrap();
    let text = |error: CheckpointError| error.to_string();
    let error = text(metadata.require::<u32>("count").unwrap_err());
    assert!(
        error.contains("`count` is \"many\"; expected an integer that fits u32"),
        "{error}"
    );
    let error = text(metadata.find::<usize>("negative").unwrap_err());
    assert!(error.contains("`negative` is -1"), "{error}");
    let error = text(metadata.require::<bool>("absent").unwrap_err());
    assert!(error.contains("`absent` is missing"), "{error}");
}

#[test]
fn truncated_files_are_refused() {
    let whole = Gguf::new()
        .key(key("name", 8, &string(b"x")))
        .key(key("list", 9, &array(8, 1, &string(b"y"))))
        .tensor(tensor("a", &[64], 0, 0))
        .bytes();
    assert!(open(&whole).is_ok());
    for length in 0..whole.len() {
        let error = open(&whole[..length]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("fetch it again"), "{length} bytes: {error}");
    }
}

#[test]
fn declared_sizes_are_checked() {
    let huge = u64::MAX.to_le_bytes();
    let large = (1u64 << 40).to_le_bytes();
    for (tensors, keys) in [
        (u64::MAX, 0),
        (0, u64::MAX),
        (1 << 40, 0),
        (0, 1 << 40),
        (100_000, 0),
        (0, 60_000),
    ] {
        let mut file = Gguf::new();
        file.counts = Some((tensors, keys));
        file.refused(&["declared"]);
    }
    for size in [huge, large] {
        // A string, and arrays of every width. CVE-2025-66960: an unchecked string length was allocated.
        Gguf::new()
            .key(key("s", 8, &size))
            .refused(&["key `s`", "declared"]);
        for kind in (0..=8u32).chain(10..=12) {
            let bytes = [&kind.to_le_bytes()[..], &size].concat();
            Gguf::new()
                .key(key("a", 9, &bytes))
                .refused(&["key `a`", "declared"]);
        }
        let mut name = tensor("t", &[1], 0, 0);
        name[..8].copy_from_slice(&size);
        Gguf::new()
            .tensor(name)
            .refused(&["tensor 0 of 1", "declared"]);
    }
    let nested = array(9, 1, &array(9, 1, &[]));
    Gguf::new()
        .key(key("a", 9, &nested))
        .refused(&["array of arrays"]);
}

#[test]
fn tensors_outside_the_file_are_refused() {
    let one = |bytes| Gguf::new().tensor(bytes);
    // Products that overflow to small numbers (GHSA-vgg9-87g3-85w8, GHSA-96jg-mvhq-q7q7).
    for dims in [
        &[1 << 32, 1 << 32][..],
        &[u64::MAX, u64::MAX],
        &[1 << 62, 4],
        &[(1 << 63) + 32, 2],
        &[1 << 16, 1 << 16, 1 << 16, 1 << 16],
        &[(1 << 62) + 1, 1],
    ] {
        for kind in [0, 1, 8, 12] {
            one(tensor("t", dims, kind, 0)).refused(&["`t`"]);
        }
    }
    one(tensor("t", &[65], 0, 0)).refused(&["tensor `t`", "ends beyond the file"]);
    one(tensor("t", &[1], 0, 256)).refused(&["tensor `t`"]);
    one(tensor("t", &[1], 0, u64::MAX - 31)).refused(&["tensor `t`"]);
    one(tensor("t", &[1], 0, 1)).refused(&["not a multiple of the alignment"]);
    one(tensor("t", &[0], 0, 0)).refused(&["a dimension is 0"]);
    one(tensor("t", &[1; 5], 0, 0)).refused(&["5 dimensions"]);
    one(tensor("t", &[33], 8, 0)).refused(&["tensor `t`"]);
    one(tensor("t", &[1], 23, 0)).refused(&["IQ4_XS (23)"]);
    one(tensor("t", &[1], 4, 0)).refused(&["unknown (4)"]);
    one(tensor("", &[1], 0, 0)).refused(&["0 bytes; expected 1"]);
    one(tensor("a", &[9], 0, 0))
        .tensor(tensor("b", &[1], 0, 32))
        .refused(&["`a` and `b` overlap"]);
    one(tensor("a", &[1], 0, 0))
        .tensor(tensor("a", &[1], 0, 32))
        .refused(&["`a` occurs twice"]);
}

#[test]
fn invalid_headers_are_refused() {
    for alignment in [0u32, 3, 24, 1 << 21, u32::MAX] {
        Gguf::new()
            .key(key("general.alignment", 4, &alignment.to_le_bytes()))
            .refused(&["general.alignment", &alignment.to_string()]);
    }
    Gguf::new()
        .key(key("general.alignment", 8, &string(b"32")))
        .refused(&["general.alignment", "\"32\""]);
    for version in [0, 1, 4, u32::MAX] {
        let mut file = Gguf::new();
        file.version = version;
        file.refused(&["version", &version.to_string()]);
    }
    let mut file = Gguf::new();
    file.version = 3u32.swap_bytes();
    file.refused(&["big-endian"]);
    Gguf::new()
        .key(key("k", 0, &[1]))
        .key(key("k", 0, &[2]))
        .refused(&["`k` occurs twice"]);
    Gguf::new()
        .key(key("k", 13, &[0; 8]))
        .refused(&["its type is 13"]);
    Gguf::new()
        .key(key("k", 7, &[2]))
        .refused(&["a boolean is 2"]);
    Gguf::new().key(key("", 7, &[1])).refused(&["0 bytes"]);
    Gguf::new()
        .key(key("k", 8, &string(&[0xff])))
        .refused(&["not UTF-8"]);
}

// The numbers of `enum ggml_type` in ggml's `ggml.h`.
#[test]
fn errors_name_unsupported_types() {
    for (kind, name) in [
        (9, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (20, "IQ4_NL"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (23, "IQ4_XS"),
        (29, "IQ1_M"),
        (34, "TQ1_0"),
        (35, "TQ2_0"),
        (39, "MXFP4"),
        (40, "unknown"),
    ] {
        let file = Gguf::new().tensor(tensor("t", &[1], kind, 0));
        file.refused(&[&format!("its type is {name} ({kind})")]);
    }
}

#[test]
fn supported_types_have_the_sizes_of_ggml() {
    use StoredDtype::{BF16, F16, F32, F64, I8, I16, I32, I64, Quantized};
    // The bytes that a row of 256 numbers takes in ggml.
    for (kind, dtype, bytes) in [
        (0, F32, 1024),
        (1, F16, 512),
        (2, Quantized(GgmlType::Q4_0), 8 * 18),
        (3, Quantized(GgmlType::Q4_1), 8 * 20),
        (6, Quantized(GgmlType::Q5_0), 8 * 22),
        (7, Quantized(GgmlType::Q5_1), 8 * 24),
        (8, Quantized(GgmlType::Q8_0), 8 * 34),
        (10, Quantized(GgmlType::Q2K), 84),
        (11, Quantized(GgmlType::Q3K), 110),
        (12, Quantized(GgmlType::Q4K), 144),
        (13, Quantized(GgmlType::Q5K), 176),
        (14, Quantized(GgmlType::Q6K), 210),
        (24, I8, 256),
        (25, I16, 512),
        (26, I32, 1024),
        (27, I64, 2048),
        (28, F64, 2048),
        (30, BF16, 512),
    ] {
        let mut file = Gguf::new().tensor(tensor("t", &[256], kind, 0));
        // The tensor ends with the file.
        file.data = vec![0; bytes];
        let checkpoint = file.open().unwrap();
        let stored = checkpoint.get("t").unwrap();
        assert_eq!(
            (stored.dtype, stored.bytes().len()),
            (dtype, bytes),
            "{kind}"
        );
        file.data.pop();
        file.refused(&["`t`", "ends beyond the file"]);
    }
}

#[test]
fn lists_of_every_integer_type_are_read() {
    let number = |kind, bytes: &[u8]| key("k", 9, &array(kind, 2, bytes));
    let list = |bytes| {
        let file = Gguf::new().key(bytes).tensor(tensor("t", &[1], 0, 0));
        file.open().unwrap().gguf().unwrap().find::<Vec<i64>>("k")
    };
    assert_eq!(list(number(0, &[7, 200])).unwrap(), Some(vec![7, 200]));
    assert_eq!(list(number(1, &[7, 200])).unwrap(), Some(vec![7, -56]));
    assert_eq!(
        list(number(2, &[1, 0, 0, 255])).unwrap(),
        Some(vec![1, 0xff00])
    );
    assert_eq!(
        list(number(3, &[1, 0, 0, 255])).unwrap(),
        Some(vec![1, -256])
    );
    let small = [&9u32.to_le_bytes()[..], &u32::MAX.to_le_bytes()].concat();
    assert_eq!(
        list(number(4, &small)).unwrap(),
        Some(vec![9, i64::from(u32::MAX)])
    );
    assert_eq!(list(number(5, &small)).unwrap(), Some(vec![9, -1]));
    let large = [&9u64.to_le_bytes()[..], &(u64::MAX >> 1).to_le_bytes()].concat();
    assert_eq!(list(number(10, &large)).unwrap(), Some(vec![9, i64::MAX]));
    assert_eq!(list(number(11, &large)).unwrap(), Some(vec![9, i64::MAX]));
    // A number too large for an i64, and numbers that are not integers.
    let beyond = [&9u64.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    assert!(list(number(10, &beyond)).is_err());
    assert!(list(number(6, &small)).is_err());
}

#[test]
fn names_have_at_most_1024_bytes() {
    let named = |length| Gguf::new().tensor(tensor(&"n".repeat(length), &[1; 4], 0, 0));
    let checkpoint = named(1024).open().unwrap();
    assert_eq!(checkpoint.get(&"n".repeat(1024)).unwrap().shape, [1; 4]);
    named(1025).refused(&["its name has 1025 bytes; expected 1 to 1024"]);
}

#[test]
fn a_file_may_end_with_its_header() {
    let mut file = Gguf::new();
    file.data.clear();
    // 24 bytes before the key, then 8 + name + 4 + 8 + text: 64 in all.
    let file = file.key(key("name", 8, &string(&[b'x'; 16])));
    assert_eq!(file.bytes().len(), 64);
    let checkpoint = file.open().unwrap();
    let found = checkpoint.gguf().unwrap().find::<&str>("name").unwrap();
    assert_eq!(found, Some(&*"x".repeat(16)));
}
