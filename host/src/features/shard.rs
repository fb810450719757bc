//! A file of features in the safetensors format. It is written once and never changed. Its metadata contains a
//! checksum of each tensor.

use crate::disk::{tensor_names::check_names, whole_file};
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::{
    Dtype,
    tensor::{Metadata, TensorView},
};
use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    str::FromStr,
};

/// The maximum size of a shard's header in bytes. The header of a hundred thousand features has about 16 MB.
const MAX_HEADER: u64 = 100 << 20;

/// The number format of stored features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum StoreDtype {
    /// Half precision: 11 significant bits, up to 65504.
    #[default]
    F16,
    /// Brain floating point: 8 significant bits, the range of f32.
    Bf16,
    /// Single precision, as computed.
    F32,
}

impl StoreDtype {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::F16, Self::Bf16, Self::F32];

    /// Returns the name in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }

    /// Returns the largest finite value.
    pub fn largest(self) -> f32 {
        match self {
            Self::F16 => f16::MAX.to_f32(),
            Self::Bf16 => bf16::MAX.to_f32(),
            Self::F32 => f32::MAX,
        }
    }

    fn stored(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
        }
    }

    /// Rounds values to this format and encodes them in the little-endian byte order of safetensors.
    pub(super) fn pack(self, values: &[f32]) -> Vec<u8> {
        let each = values.iter();
        match self {
            Self::F16 => each.flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
            Self::Bf16 => each
                .flat_map(|&x| bf16::from_f32(x).to_le_bytes())
                .collect(),
            Self::F32 => each.flat_map(|&x| x.to_le_bytes()).collect(),
        }
    }

    /// Decodes values that `pack` encoded.
    fn unpack(self, bytes: &[u8]) -> Vec<f32> {
        let pairs = || bytes.as_chunks::<2>().0.iter();
        match self {
            Self::F16 => pairs().map(|&x| f16::from_le_bytes(x).to_f32()).collect(),
            Self::Bf16 => pairs().map(|&x| bf16::from_le_bytes(x).to_f32()).collect(),
            Self::F32 => {
                let fours = bytes.as_chunks::<4>().0.iter();
                fours.map(|&x| f32::from_le_bytes(x)).collect()
            }
        }
    }
}

impl fmt::Display for StoreDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for StoreDtype {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|dtype| dtype.name() == name);
        known.ok_or_else(|| format!("unknown format `{name}`; expected f16, bf16 or f32"))
    }
}

/// Features in their stored format.
pub(super) struct Features {
    /// `[tokens, width]`
    pub shape: [usize; 2],
    pub bytes: Vec<u8>,
}

impl Features {
    /// Returns the features in f32, as the mixer expects them.
    pub fn tensor(&self, dtype: StoreDtype) -> candle_core::Result<Tensor> {
        Tensor::from_vec(dtype.unpack(&self.bytes), &self.shape, &Device::Cpu)
    }
}

/// The location of features in a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Location {
    pub dtype: StoreDtype,
    pub shape: [usize; 2],
    /// The offset from the start of the file.
    offset: u64,
    bytes: usize,
    /// Absent in shards of earlier versions.
    checksum: Option<u32>,
}

/// The contents of a shard.
#[derive(Default)]
pub(super) struct Index {
    /// The keys and locations of the features.
    pub locations: Vec<(String, Location)>,
    /// Whether the features have checksums.
    pub has_checksums: bool,
}

/// Computes the checksum of features, which covers their key, shape, format and values.
fn checksum(key: &str, shape: [usize; 2], dtype: StoreDtype, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(format!("{key} {shape:?} {dtype} ").as_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Writes a shard.
pub(super) fn write(
    path: &Path,
    features: &BTreeMap<String, Features>,
    dtype: StoreDtype,
) -> io::Result<()> {
    check_names(features.keys().map(String::as_str))?;
    let views = features.iter().map(|(key, features)| {
        TensorView::new(dtype.stored(), features.shape.to_vec(), &features.bytes)
            .map(|view| (key, view))
    });
    let views = views
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let checksums = features.iter().map(|(key, features)| {
        let checksum = checksum(key, features.shape, dtype, &features.bytes);
        (key.clone(), format!("{checksum:08x}"))
    });
    let bytes = safetensors::serialize(views, Some(checksums.collect()));
    whole_file::write_unswept(path, &bytes.map_err(io::Error::other)?)
}

/// Reads the index of a shard.
///
/// # Errors
///
/// When the file cannot be read, or is not a complete shard.
pub(super) fn index(path: &Path) -> io::Result<Index> {
    let torn = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let start = length.saturating_add(8);
    if length > MAX_HEADER || start > size {
        return Err(torn(format!(
            "a header of {length} bytes in a file of {size}"
        )));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| torn(format!("its header cannot be read: {error}")))?;
    let checksums = header.metadata();
    let mut found = Index {
        locations: Vec::new(),
        has_checksums: checksums.is_some(),
    };
    let mut end = 0;
    for (key, about) in header.tensors() {
        let (from, to) = about.data_offsets;
        end = end.max(to as u64);
        let shape = <[usize; 2]>::try_from(about.shape.as_slice());
        let mut dtypes = StoreDtype::ALL.into_iter();
        let dtype = dtypes.find(|dtype| dtype.stored() == about.dtype);
        let (Some(dtype), Ok(shape)) = (dtype, shape) else {
            return Err(torn(format!("`{key}` is not features")));
        };
        let checksum = match checksums {
            None => None,
            Some(all) => {
                let stated = all.get(&key).map(|digits| u32::from_str_radix(digits, 16));
                let Some(Ok(stated)) = stated else {
                    return Err(torn(format!("`{key}` has no checksum")));
                };
                Some(stated)
            }
        };
        let bytes = shape[0]
            .checked_mul(shape[1])
            .and_then(|count| count.checked_mul(dtype.size()));
        if to.checked_sub(from) != bytes {
            return Err(torn(format!(
                "the size of `{key}` does not match its shape"
            )));
        }
        let location = Location {
            dtype,
            checksum,
            shape,
            offset: start.saturating_add(from as u64),
            bytes: to - from,
        };
        found.locations.push((key, location));
    }
    if start.saturating_add(end) != size {
        let expected = start.saturating_add(end);
        return Err(torn(format!(
            "the file has {size} bytes; expected {expected} according to its header"
        )));
    }
    Ok(found)
}

/// Reads features and verifies their checksum.
pub(super) fn read(path: &Path, key: &str, location: &Location) -> io::Result<Features> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(location.offset))?;
    let mut bytes = vec![0; location.bytes];
    file.read_exact(&mut bytes)?;
    let found = checksum(key, location.shape, location.dtype, &bytes);
    if location.checksum.is_some_and(|stated| stated != found) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the checksum of `{key}` does not match: the file was damaged after it was written"
            ),
        ));
    }
    Ok(Features {
        shape: location.shape,
        bytes,
    })
}
