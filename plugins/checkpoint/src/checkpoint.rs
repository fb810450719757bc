//! One checkpoint over one or more files.

use crate::{
    CheckpointError, GgufMetadata, StoredTensor, gguf, mapped::MappedFile, pytorch,
    safetensors_file,
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The tensors of one or more files, mapped into memory.
pub struct Checkpoint {
    paths: Vec<PathBuf>,
    files: Vec<Arc<MappedFile>>,
    tensors: BTreeMap<String, StoredTensor>,
    gguf: Option<GgufMetadata>,
    ignored: Vec<(String, &'static str)>,
}

/// The files of a checkpoint, as they are mapped.
#[derive(Clone)]
pub struct Mapping(Vec<Arc<MappedFile>>);

impl Mapping {
    /// Gives back the memory that the files' pages take; they are read again when they are needed, from the
    /// system's cache as long as it has room. For whoever will not need the weights for a while.
    pub fn release(&self) {
        self.0.iter().for_each(|file| file.release());
    }
}

/// What a reader found in one file.
pub(crate) struct FileContents {
    /// The tensors, by name; each name once.
    pub tensors: BTreeMap<String, StoredTensor>,
    /// The metadata of a GGUF file.
    pub gguf: Option<GgufMetadata>,
    /// Names and kinds of values beside the tensors.
    pub ignored: Vec<(String, &'static str)>,
}

impl Checkpoint {
    /// Maps `paths` and reads what they hold. The format of each is told by its first bytes.
    ///
    /// # Errors
    ///
    /// When a file cannot be opened, is of no format that is read here, is damaged, or holds a tensor
    /// that another one holds too.
    pub fn open(paths: &[impl AsRef<Path>]) -> Result<Self, CheckpointError> {
        if paths.is_empty() {
            return Err(CheckpointError::NoFile);
        }
        let mut checkpoint = Self {
            paths: paths
                .iter()
                .map(|path| path.as_ref().to_path_buf())
                .collect(),
            files: Vec::with_capacity(paths.len()),
            tensors: BTreeMap::new(),
            gguf: None,
            ignored: Vec::new(),
        };
        for path in paths {
            let file = MappedFile::open(path.as_ref())?;
            let contents = read(&file)?;
            checkpoint.files.push(file);
            checkpoint.gguf = checkpoint.gguf.take().or(contents.gguf);
            checkpoint.ignored.extend(contents.ignored);
            for (name, tensor) in contents.tensors {
                checkpoint.insert(name, tensor)?;
            }
        }
        Ok(checkpoint)
    }

    fn insert(&mut self, name: String, tensor: StoredTensor) -> Result<(), CheckpointError> {
        match self.tensors.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert(tensor);
                Ok(())
            }
            Entry::Occupied(entry) => Err(CheckpointError::Twice {
                name: entry.key().clone(),
                path: tensor.path().to_path_buf(),
                other: entry.get().path().to_path_buf(),
            }),
        }
    }

    /// The same tensors under other names; those for which `rename` gives none are left out.
    ///
    /// # Errors
    ///
    /// When two tensors get the same name.
    pub fn rename(self, rename: impl Fn(&str) -> Option<String>) -> Result<Self, CheckpointError> {
        let mut renamed = Self {
            paths: self.paths,
            files: self.files,
            tensors: BTreeMap::new(),
            gguf: self.gguf,
            ignored: self.ignored,
        };
        for (name, tensor) in self.tensors {
            if let Some(name) = rename(&name) {
                renamed.insert(name, tensor)?;
            }
        }
        Ok(renamed)
    }

    /// The files, as they were given.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// The files, as they are mapped.
    pub fn mapping(&self) -> Mapping {
        Mapping(self.files.clone())
    }

    /// The names of the tensors, sorted. Nested dictionaries of PyTorch are joined with dots.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensors with their names, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        let tensors = self.tensors.iter();
        tensors.map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor `name`.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// What PyTorch's files hold beside tensors, such as the number of an epoch: names, as tensors have
    /// them, and kinds. [`Self::rename`] leaves them as they are.
    pub fn ignored(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.ignored
            .iter()
            .map(|(name, kind)| (name.as_str(), *kind))
    }

    /// The metadata, if it is a GGUF file; of several, that of the first.
    pub fn gguf(&self) -> Option<&GgufMetadata> {
        self.gguf.as_ref()
    }
}

fn read(file: &Arc<MappedFile>) -> Result<FileContents, CheckpointError> {
    let bytes = file.bytes();
    if bytes.starts_with(gguf::MAGIC) {
        return gguf::read(file);
    }
    if safetensors_file::is_safetensors(bytes) {
        return safetensors_file::read(file);
    }
    if pytorch::is_zip(bytes) {
        return pytorch::read_zip(file);
    }
    if pytorch::is_legacy(bytes) {
        return pytorch::read_legacy(file);
    }
    let start = &bytes[..bytes.len().min(8)];
    let found = if bytes.is_empty() {
        "it is empty".to_owned()
    } else if bytes.starts_with(b"version https://git-lfs") {
        "it is a pointer of Git LFS, not the file itself".to_owned()
    } else if bytes.trim_ascii_start().starts_with(b"<") {
        "it is a web page".to_owned()
    } else {
        format!("it begins with \"{}\"", start.escape_ascii())
    };
    Err(file.unsupported(format!(
        "expected weights as safetensors, PyTorch or GGUF file, but {found} ({} bytes); fetch it again",
        bytes.len()
    )))
}
