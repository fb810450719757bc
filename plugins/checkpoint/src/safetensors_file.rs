//! safetensors files: a JSON header with names, types, shapes and offsets, then the elements.

use crate::{CheckpointError, StoredDtype, StoredTensor, checkpoint::Contents, mapped::MappedFile};
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

/// Bytes of a header at most. 100,000 tensors take about 10 MB; parsing takes some times as much.
const MAX_HEADER: u64 = 1 << 24;

/// Whether the file begins as a safetensors file does: the header's length, then the header.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.get(8) == Some(&b'{')
}

/// The tensors of a safetensors file.
pub(crate) fn read(file: &Arc<MappedFile>) -> Result<Contents, CheckpointError> {
    let bytes = file.bytes();
    let damaged = |what: String| file.damaged(FORMAT, what);
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| damaged(format!("{} bytes are too few", bytes.len())))?;
    let length = u64::from_le_bytes(*length);
    if length > rest.len() as u64 {
        return Err(damaged(format!(
            "its header claims {length} bytes, but the file has {}",
            bytes.len()
        )));
    }
    if length > MAX_HEADER {
        return Err(damaged(format!(
            "its header claims {length} bytes; expected {MAX_HEADER} at most"
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
                "tensor `{name}` is of {:?}; expected F64, F32, F16, BF16, an integer or BOOL",
                view.dtype()
            ))
        })?;
        let offset = view.data().as_ptr() as usize - start;
        let tensor = StoredTensor::whole(file, dtype, view.shape().to_vec(), offset)
            .map_err(|what| damaged(format!("tensor `{name}`: {what}")))?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(Contents {
        tensors,
        gguf: None,
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

/// The library keeps one of several tensors of the same name; which one is meant cannot be known.
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
