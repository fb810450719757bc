//! GGUF, versions 2 and 3 (ggml's `docs/gguf.md`): the metadata, the descriptions of the tensors and, from
//! a multiple of the alignment on, their elements.

mod cursor;
mod metadata;
#[cfg(test)]
mod tests;

pub use metadata::{FromGguf, GgufArray, GgufMetadata, GgufValue};

use crate::{
    CheckpointError, GgmlType, StoredDtype, StoredTensor, contents::FileContents,
    mapped::MappedFile,
};
use cursor::Cursor;
use std::{collections::BTreeMap, sync::Arc};

/// The largest number of keys. Common files have fewer than a hundred.
const MAX_KEYS: u64 = 1 << 16;

/// The largest number of tensors. The largest published models have a few thousand.
const MAX_TENSORS: u64 = 1 << 17;

/// The first bytes of a GGUF file.
pub(crate) const MAGIC: &[u8] = b"GGUF";

const FORMAT: &str = "GGUF";

/// The alignment of the elements unless `general.alignment` sets another.
const DEFAULT_ALIGNMENT: u64 = 32;

/// The largest alignment: 1 MiB.
const MAX_ALIGNMENT: u64 = 1 << 20;

/// `GGML_MAX_DIMS` of ggml.
const MAX_DIMENSIONS: u32 = 4;

/// The largest length of a tensor's name, in bytes. ggml itself accepts 63.
const MAX_NAME: usize = 1024;

/// A tensor as the header describes it.
struct TensorInfo {
    name: String,
    dtype: StoredDtype,
    shape: Vec<usize>,
    offset: u64,
}

/// Reads the metadata and the tensors of a GGUF file.
pub(crate) fn read(
    file: &Arc<MappedFile>,
) -> Result<(FileContents, GgufMetadata), CheckpointError> {
    let damaged = |what: String| file.damaged(FORMAT, what);
    let mut cursor = Cursor::new(file.bytes());
    cursor.skip(MAGIC.len()).map_err(damaged)?;
    let version = cursor.u32("the version").map_err(damaged)?;
    if !(2..=3).contains(&version) {
        let swapped = (2..=3).contains(&version.swap_bytes());
        return Err(file.unsupported(if swapped {
            "it is a big-endian GGUF file; expected a little-endian one".to_owned()
        } else {
            format!("it has GGUF version {version}; expected 2 or 3")
        }));
    }
    let tensors = cursor.u64("the number of tensors").map_err(damaged)?;
    let keys = cursor.u64("the number of keys").map_err(damaged)?;
    if tensors > MAX_TENSORS || keys > MAX_KEYS {
        return Err(damaged(format!(
            "{tensors} tensors and {keys} keys are declared; \
             expected at most {MAX_TENSORS} and {MAX_KEYS}"
        )));
    }
    // The least bytes of each. A tensor: the length of its name, the number of its dimensions, a type and an
    // offset. A key: its length, a type and a value.
    let tensors = cursor.count("tensors", tensors, 24).map_err(damaged)?;
    let keys = cursor.count("keys", keys, 13).map_err(damaged)?;
    let metadata = GgufMetadata::read(&mut cursor, keys, file.path()).map_err(damaged)?;
    let alignment = alignment(&metadata).map_err(damaged)?;
    let mut infos = Vec::new();
    for index in 0..tensors {
        let info = tensor_info(&mut cursor, alignment)
            .map_err(|what| damaged(format!("tensor {index} of {tensors}: {what}")))?;
        infos.push(info);
    }
    let start = cursor.position().next_multiple_of(alignment as usize);
    locate(file, infos, start)
        .map(|tensors| {
            let ignored = Vec::new();
            (FileContents { tensors, ignored }, metadata)
        })
        .map_err(damaged)
}

fn alignment(metadata: &GgufMetadata) -> Result<u64, String> {
    let found = match metadata.find::<u64>("general.alignment") {
        Ok(found) => found.unwrap_or(DEFAULT_ALIGNMENT),
        Err(_) => 0,
    };
    if found.is_power_of_two() && found <= MAX_ALIGNMENT {
        return Ok(found);
    }
    let value = metadata.get("general.alignment");
    Err(format!(
        "`general.alignment` is {}; expected a power of two up to {MAX_ALIGNMENT}",
        value.map_or_else(|| "missing".to_owned(), ToString::to_string)
    ))
}

fn tensor_info(cursor: &mut Cursor<'_>, alignment: u64) -> Result<TensorInfo, String> {
    let name = cursor.string("its name")?;
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(format!(
            "its name has {} bytes; expected 1 to {MAX_NAME}",
            name.len()
        ));
    }
    let about = |what: String| format!("`{name}`: {what}");
    let count = cursor.u32("the number of dimensions").map_err(about)?;
    if count > MAX_DIMENSIONS {
        return Err(about(format!(
            "it has {count} dimensions; expected at most {MAX_DIMENSIONS}"
        )));
    }
    let mut shape = Vec::new();
    for _ in 0..count {
        let size = cursor.u64("a dimension").map_err(about)?;
        let size = usize::try_from(size).ok().filter(|&size| size > 0);
        shape.push(size.ok_or_else(|| about("a dimension is 0 or too large".to_owned()))?);
    }
    // ggml writes the innermost dimension first.
    shape.reverse();
    let code = cursor.u32("its type").map_err(about)?;
    let dtype = dtype(code).map_err(about)?;
    let offset = cursor.u64("its offset").map_err(about)?;
    if !offset.is_multiple_of(alignment) {
        return Err(about(format!(
            "its offset {offset} is not a multiple of the alignment {alignment}"
        )));
    }
    Ok(TensorInfo {
        name: name.to_owned(),
        dtype,
        shape,
        offset,
    })
}

/// Returns the type with number `code` in ggml's `enum ggml_type`.
fn dtype(code: u32) -> Result<StoredDtype, String> {
    Ok(match code {
        0 => StoredDtype::F32,
        1 => StoredDtype::F16,
        2 => StoredDtype::Quantized(GgmlType::Q4_0),
        3 => StoredDtype::Quantized(GgmlType::Q4_1),
        6 => StoredDtype::Quantized(GgmlType::Q5_0),
        7 => StoredDtype::Quantized(GgmlType::Q5_1),
        8 => StoredDtype::Quantized(GgmlType::Q8_0),
        10 => StoredDtype::Quantized(GgmlType::Q2K),
        11 => StoredDtype::Quantized(GgmlType::Q3K),
        12 => StoredDtype::Quantized(GgmlType::Q4K),
        13 => StoredDtype::Quantized(GgmlType::Q5K),
        14 => StoredDtype::Quantized(GgmlType::Q6K),
        24 => StoredDtype::I8,
        25 => StoredDtype::I16,
        26 => StoredDtype::I32,
        27 => StoredDtype::I64,
        28 => StoredDtype::F64,
        30 => StoredDtype::BF16,
        other => {
            let name = match other {
                9 => "Q8_1",
                15 => "Q8_K",
                16 => "IQ2_XXS",
                17 => "IQ2_XS",
                18 => "IQ3_XXS",
                19 => "IQ1_S",
                20 => "IQ4_NL",
                21 => "IQ3_S",
                22 => "IQ2_S",
                23 => "IQ4_XS",
                29 => "IQ1_M",
                34 => "TQ1_0",
                35 => "TQ2_0",
                39 => "MXFP4",
                _ => "unknown",
            };
            return Err(format!(
                "its type is {name} ({other}); expected F32, F16, BF16, F64, an integer, \
                 Q4_0 to Q8_0 or Q2_K to Q6_K"
            ));
        }
    })
}

/// Finds the elements of each tensor. They must be inside the file and must not overlap.
fn locate(
    file: &Arc<MappedFile>,
    mut infos: Vec<TensorInfo>,
    start: usize,
) -> Result<BTreeMap<String, StoredTensor>, String> {
    infos.sort_by_key(|tensor| tensor.offset);
    let mut tensors = BTreeMap::new();
    let mut taken = start;
    let mut before = String::new();
    for TensorInfo {
        name,
        dtype,
        shape,
        offset,
    } in infos
    {
        let at = usize::try_from(offset)
            .ok()
            .and_then(|offset| start.checked_add(offset))
            .ok_or_else(|| {
                format!("tensor `{name}` begins at {offset}, beyond the end of the file")
            })?;
        if at < taken {
            return Err(format!("tensors `{before}` and `{name}` overlap"));
        }
        let tensor = StoredTensor::contiguous(file, dtype, shape, at)
            .map_err(|what| format!("tensor `{name}`: {what}"))?;
        taken = at + tensor.byte_len();
        before.clone_from(&name);
        if tensors.insert(name, tensor).is_some() {
            return Err(format!("tensor `{before}` occurs twice"));
        }
    }
    Ok(tensors)
}
