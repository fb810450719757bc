//! A tensor in a mapped file.

use crate::{StoredDtype, dtype::elements_of, mapped::MappedFile};
use std::{
    borrow::Cow,
    fmt, io,
    ops::Range,
    path::Path,
    sync::{Arc, OnceLock},
};

/// A tensor of a checkpoint. Cheap to clone: the elements stay where the file is mapped.
#[derive(Clone)]
pub struct StoredTensor {
    /// The type of the elements.
    pub dtype: StoredDtype,
    /// The shape, row-major, outermost dimension first.
    pub shape: Vec<usize>,
    layout: Layout,
    file: Arc<MappedFile>,
}

/// Where the elements lie.
#[derive(Clone)]
enum Layout {
    /// One after the other, in this range of the file.
    Contiguous(Range<usize>),
    /// Strided: a view of a storage that is not contiguous.
    Strided(Arc<Strided>),
}

struct Strided {
    /// The bytes of the first element and all after it.
    storage: Range<usize>,
    /// Of each dimension, in elements.
    strides: Vec<usize>,
    gathered: OnceLock<Vec<u8>>,
}

impl StoredTensor {
    /// A tensor whose elements lie one after the other from byte `start` on. Says what is wrong if they
    /// do not all lie in the file.
    pub(crate) fn contiguous(
        file: &Arc<MappedFile>,
        dtype: StoredDtype,
        shape: Vec<usize>,
        start: usize,
    ) -> Result<Self, String> {
        let range = dtype
            .bytes_of(&shape)
            .and_then(|length| Some(start..start.checked_add(length)?))
            .filter(|range| range.end <= file.bytes().len());
        let Some(range) = range else {
            return Err(format!(
                "{dtype} {shape:?} from byte {start} on does not lie in the file of {} bytes",
                file.bytes().len()
            ));
        };
        Ok(Self {
            dtype,
            shape,
            layout: Layout::Contiguous(range),
            file: Arc::clone(file),
        })
    }

    /// A view of a storage: `storage` is its bytes in the file, `offset` and `strides` count elements.
    /// Says what is wrong if the view leaves the storage, or repeats its elements.
    pub(crate) fn view(
        file: &Arc<MappedFile>,
        dtype: StoredDtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: Range<usize>,
    ) -> Result<Self, String> {
        let size = dtype.block_bytes();
        let stored = storage.len() / size;
        let outside = || {
            format!(
                "{shape:?} with strides {strides:?} from {offset} on leaves its storage of {stored}"
            )
        };
        if shape.len() != strides.len() {
            return Err(format!(
                "{} dimensions have {} strides",
                shape.len(),
                strides.len()
            ));
        }
        let count = elements_of(&shape).ok_or_else(outside)?;
        if count > stored {
            return Err(format!(
                "{shape:?} has more elements than its storage, which holds {stored} (an expanded view?); \
                 save it after `.contiguous()`"
            ));
        }
        let steps = shape.iter().zip(&strides);
        let last = steps.clone().try_fold(offset, |at, (&size, &stride)| {
            at.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        });
        if count > 0 && last.is_none_or(|last| last >= stored) {
            return Err(outside());
        }
        // The stride of a dimension of 1 means nothing.
        let mut expected = 1;
        let is_contiguous = steps.rev().all(|(&size, &stride)| {
            let fits = size == 1 || stride == expected;
            expected *= size.max(1);
            fits
        });
        let start = if count == 0 { 0 } else { offset * size };
        let layout = if is_contiguous || count == 0 {
            Layout::Contiguous(storage.start + start..storage.start + start + count * size)
        } else {
            Layout::Strided(Arc::new(Strided {
                storage: storage.start + start..storage.end,
                strides,
                gathered: OnceLock::new(),
            }))
        };
        Ok(Self {
            dtype,
            shape,
            layout,
            file: Arc::clone(file),
        })
    }

    /// A tensor that is in memory and in no file.
    ///
    /// # Errors
    ///
    /// When there is not enough memory, or `shape` is not that of the values.
    pub fn of_f32s(values: &[f32], shape: Vec<usize>) -> io::Result<Self> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let file = MappedFile::in_memory(&bytes)?;
        Self::contiguous(&file, StoredDtype::F32, shape, 0).map_err(io::Error::other)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// How many elements there are.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many bytes they take.
    pub fn byte_len(&self) -> usize {
        self.elements() / self.dtype.block_len() * self.dtype.block_bytes()
    }

    /// The elements, little-endian, one after the other. They are where the file is mapped, at any
    /// alignment; those of a view that is not contiguous are copied at the first call, and kept.
    pub fn bytes(&self) -> &[u8] {
        match &self.layout {
            Layout::Contiguous(range) => &self.file.bytes()[range.clone()],
            Layout::Strided(strided) => strided.gathered.get_or_init(|| self.gather(strided)),
        }
    }

    /// As [`Self::bytes`], but a copy is the caller's and is not kept.
    pub fn read(&self) -> Cow<'_, [u8]> {
        match &self.layout {
            Layout::Contiguous(range) => Cow::Borrowed(&self.file.bytes()[range.clone()]),
            Layout::Strided(strided) => Cow::Owned(self.gather(strided)),
        }
    }

    fn gather(&self, strided: &Strided) -> Vec<u8> {
        let storage = &self.file.bytes()[strided.storage.clone()];
        let size = self.dtype.block_bytes();
        let mut bytes = Vec::with_capacity(self.byte_len());
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        loop {
            bytes.extend_from_slice(&storage[at * size..(at + 1) * size]);
            // The next index, as an odometer counts.
            let mut dimension = self.shape.len();
            loop {
                if dimension == 0 {
                    return bytes;
                }
                dimension -= 1;
                index[dimension] += 1;
                at += strided.strides[dimension];
                if index[dimension] < self.shape[dimension] {
                    break;
                }
                at -= self.shape[dimension] * strided.strides[dimension];
                index[dimension] = 0;
            }
        }
    }
}

impl fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().display();
        write!(f, "{} {:?} in {path}", self.dtype, self.shape)
    }
}
