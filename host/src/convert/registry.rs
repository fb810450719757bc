//! Writes the registry of a converted checkpoint: the text of the template with the paths of the new files.

use super::ConvertError;
use crate::registry::{FILE_OF_A_RUN, Moved, MovedFile, Registry, RegistryError, WeightSource};
use merv_checkpoint::text;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The name of the file.
pub(super) const FILE: &str = FILE_OF_A_RUN;

/// The files that a conversion wrote.
pub(super) struct ConvertedFiles<'m> {
    /// The file of the mixer, relative to the folder.
    pub mixer: &'m str,
    /// The file or index of the language model, relative to the folder.
    pub language_model: Option<&'m str>,
    /// The number of encoders of the mixer.
    pub projectors: usize,
}

impl ConvertedFiles<'_> {
    /// Writes the registry into `folder` and returns its name.
    pub fn write(&self, template: &Path, folder: &Path) -> Result<PathBuf, ConvertError> {
        let refuse = |source: RegistryError| ConvertError::Template {
            path: template.to_path_buf(),
            source: Box::new(source),
        };
        let registry = Registry::load(template).map_err(refuse)?;
        let encoders = registry.encoders.len();
        if encoders != self.projectors {
            return Err(ConvertError::Refused(format!(
                "the checkpoint has projectors for {} encoders, but the registry `{}` lists {encoders}; \
                 set --registry to the registry of the checkpoint",
                self.projectors, registry.id
            )));
        }
        if self.language_model.is_none() && registry.llm.weights == WeightSource::Checkpoint {
            return Err(ConvertError::Refused(format!(
                "the registry `{}` takes its language model from the checkpoint, which does not contain one; set \
                 --registry to a registry whose [llm] has its own weights",
                registry.id
            )));
        }
        let text = text::read(&registry.path, u64::MAX).map_err(|source| {
            refuse(RegistryError::Read {
                path: registry.path.clone(),
                source,
            })
        })?;
        // Digests are omitted: they would require reading many gigabytes again.
        let named = |path| MovedFile { path, sha256: None };
        let moved = Moved {
            mixer: Some(named(self.mixer)),
            llm: self.language_model.map(named),
            ..Moved::default()
        };
        let path = folder.join(FILE);
        fs::write(&path, moved.text(&text, &registry)).map_err(ConvertError::write(&path))?;
        // The new registry must be valid.
        Registry::load(&path).map_err(refuse)?;
        Ok(PathBuf::from(FILE))
    }
}
