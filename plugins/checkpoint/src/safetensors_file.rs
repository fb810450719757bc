//! safetensors files: a JSON header with names, types, shapes and offsets, followed by the elements.

use crate::{
    CheckpointError, StoredDtype, StoredTensor, contents::FileContents, mapped::MappedFile,
};
use safetensors::{Dtype, SafeTensors};
use serde::{
    Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

const FORMAT: &str = "safetensors";

/// The largest size of a header, in bytes. 100,000 tensors take about 10 MB, and parsing takes several times
/// as much memory.
const MAX_HEADER: u64 = 1 << 24;

/// Returns whether the file begins like a safetensors file: with the header's length and the header.
pub(crate) fn is_safetensors(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

/// Reads the tensors of a safetensors file.
pub(crate) fn read(file: &Arc<MappedFile>) -> Result<FileContents, CheckpointError> {
    let bytes = file.bytes();
    let damaged = |what: String| file.damaged(FORMAT, what);
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged(format!("it has only {} bytes", bytes.len())))?;
    let length = u64::from_le_bytes(*length);
    if length > rest.len() as u64 {
        return Err(damaged(format!(
            "its header declares {length} bytes, but the file has {}",
            bytes.len()
        )));
    }
    if length > MAX_HEADER {
        return Err(damaged(format!(
            "its header declares {length} bytes; expected at most {MAX_HEADER}"
        )));
    }
    refuse_repeated_names(&rest[..length as usize])
        .map_err(|error| damaged(format!("its header cannot be read: {error}")))?;
    let parsed = SafeTensors::deserialize(bytes)
        .map_err(|error| damaged(format!("{error} ({} bytes)", bytes.len())))?;
    let start = bytes.as_ptr() as usize;
    let mut tensors = BTreeMap::new();
    for (name, view) in parsed.iter() {
        let dtype = stored(view.dtype()).ok_or_else(|| {
            file.unsupported(format!(
                "tensor `{name}` has type {}; expected F64, F32, F16, BF16, an integer type or BOOL",
                view.dtype()
            ))
        })?;
        let offset = view.data().as_ptr() as usize - start;
        let tensor = StoredTensor::contiguous(file, dtype, view.shape().to_vec(), offset)
            .map_err(|what| damaged(format!("tensor `{name}`: {what}")))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(FileContents {
        tensors,
        ignored: Vec::new(),
    })
}

fn stored(dtype: Dtype) -> Option<StoredDtype> {
    Some(match dtype {
        Dtype::F64 => StoredDtype::F64,
        Dtype::F32 => StoredDtype::F32,
        Dtype::F16 => StoredDtype::F16,
        Dtype::BF16 => StoredDtype::BF16,
        Dtype::I64 => StoredDtype::I64,
        Dtype::I32 => StoredDtype::I32,
        Dtype::I16 => StoredDtype::I16,
        Dtype::I8 => StoredDtype::I8,
        Dtype::U8 => StoredDtype::U8,
        Dtype::BOOL => StoredDtype::Bool,
        _ => return None,
    })
}

/// Refuses a header in which a name occurs twice. The library would silently keep one of the tensors.
fn refuse_repeated_names(header: &[u8]) -> Result<(), serde_json::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table of tensors")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut names = BTreeSet::new();
            while let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                if let Some(name) = names.replace(name) {
                    return Err(A::Error::custom(format!("`{name}` occurs twice")));
                }
            }
            Ok(())
        }
    }

    let mut json = serde_json::Deserializer::from_slice(header);
    json.deserialize_map(Names)
}

#[cfg(test)]
mod tests {
    use crate::Checkpoint;
    use std::io::Write;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &vec![0; data]].concat()
    }

    fn tensor(name: &str, dtype: &str, shape: &str, from: u64, to: u64) -> String {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    }

    fn open(bytes: &[u8]) -> Result<Checkpoint, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Checkpoint::open(&[file.path()]).map_err(|error| error.to_string())
    }

    #[test]
    fn tensors_are_read_at_any_alignment() {
        let header = format!("{{{}}}", tensor("a", "F16", "[2,1]", 0, 4));
        for pad in 0..4 {
            let header = header.clone() + &" ".repeat(pad);
            let checkpoint = open(&file(&header, 4)).unwrap();
            assert_eq!(checkpoint.get("a").unwrap().bytes(), [0; 4]);
        }
    }

    #[test]
    fn the_header_is_checked() {
        let max = u64::MAX;
        for (header, data, word) in [
            ("{".to_owned(), 0, "cannot be read"),
            ("{}".to_owned(), 1, "bytes"),
            (format!("{{{}}}", tensor("a", "F32", "[2]", 0, 4)), 4, "a"),
            (
                format!("{{{}}}", tensor("a", "F32", "[2]", 0, 8)),
                4,
                "bytes",
            ),
            (
                format!("{{{}}}", tensor("a", "F32", "[1]", 4, 8)),
                8,
                "bytes",
            ),
            (
                format!("{{{}}}", tensor("a", "F32", "[1]", 8, 4)),
                8,
                "bytes",
            ),
            (
                format!("{{{}}}", tensor("a", "F32", "[1]", max - 3, max)),
                8,
                "bytes",
            ),
            (
                format!(
                    "{{{}}}",
                    tensor("a", "F32", "[4294967296,4294967296]", 0, 0)
                ),
                0,
                "bytes",
            ),
            (
                format!("{{{}}}", tensor("a", "F32", &format!("[{max},2]"), 0, 8)),
                8,
                "bytes",
            ),
            (
                format!("{{{}}}", tensor("a", "F32", "[-1]", 0, 4)),
                4,
                "bytes",
            ),
            (
                format!("{{{}}}", tensor("a", "X9", "[1]", 0, 4)),
                4,
                "bytes",
            ),
            (format!("{{{}}}", tensor("a", "U64", "[1]", 0, 8)), 8, "U64"),
            (
                format!(
                    "{{{},{}}}",
                    tensor("a", "F32", "[1]", 0, 4),
                    tensor("b", "F32", "[1]", 0, 4)
                ),
                4,
                "bytes",
            ),
            (
                format!(
                    "{{{},{}}}",
                    tensor("a", "F32", "[1]", 0, 4),
                    tensor("a", "I32", "[1]", 0, 4)
                ),
                4,
                "`a` occurs twice",
            ),
            ("{\"a\":".to_owned() + &"[".repeat(1_000_000), 0, "EOF"),
        ] {
            let error = open(&file(&header, data)).map(|_| ()).unwrap_err();
            let shown: String = header.chars().take(80).collect();
            assert!(error.contains(word), "{shown}: `{error}` lacks `{word}`");
        }
        let long = [&(1u64 << 25).to_le_bytes()[..], b"{", &vec![b' '; 1 << 25]].concat();
        assert!(open(&long).map(|_| ()).unwrap_err().contains("at most"));
    }

    #[test]
    fn errors_name_the_kind_of_other_files() {
        for (bytes, word) in [
            (&b""[..], "it is empty"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
            (b"\n<!DOCTYPE html>", "web page"),
            (b"\x89HDF\r\n\x1a\n", "begins with"),
        ] {
            let error = open(bytes).map(|_| ()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = Checkpoint::open(&[folder.path()]).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("cannot be opened"), "{error}");
        let none: [&str; 0] = [];
        assert!(Checkpoint::open(&none).is_err());
    }
}
