//! A registry for a converted checkpoint: the text of its template, with other files in it.

use super::ConvertError;
use crate::registry::{FILE_OF_A_RUN, Moved, MovedFile, Registry, RegistryError, WeightSource};
use merv_checkpoint::text;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The name of the file.
pub(super) const FILE: &str = FILE_OF_A_RUN;

/// What a conversion made.
pub(super) struct ConvertedFiles<'m> {
    /// The mixer's file, below the folder.
    pub mixer: &'m str,
    /// The language model's file or index, below the folder.
    pub language_model: Option<&'m str>,
    /// How many encoders the mixer is for.
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
                "the checkpoint has projectors for {} encoders, but the registry `{}` names {encoders}; \
                 name the one that the checkpoint belongs to in --registry",
                self.projectors, registry.id
            )));
        }
        if self.language_model.is_none() && registry.llm.weights == WeightSource::Checkpoint {
            return Err(ConvertError::Refused(format!(
                "the registry `{}` takes its language model from the checkpoint, which holds none; name \
                 one whose [llm] has weights of its own in --registry",
                registry.id
            )));
        }
        let text = text::read(&registry.path, u64::MAX).map_err(|source| {
            refuse(RegistryError::Read {
                path: registry.path.clone(),
                source,
            })
        })?;
        // A model of many gigabytes is not read twice for a digest that nobody asked for.
        let named = |path| MovedFile { path, sha256: None };
        let moved = Moved {
            mixer: Some(named(self.mixer)),
            llm: self.language_model.map(named),
            ..Moved::default()
        };
        let path = folder.join(FILE);
        fs::write(&path, moved.text(&text, &registry)).map_err(ConvertError::write(&path))?;
        // What was made must be what is read.
        Registry::load(&path).map_err(refuse)?;
        Ok(PathBuf::from(FILE))
    }
}
