//! The client when the feature `hub` is off: nothing is downloaded.

use super::{HubError, HubFile, Remote, Settings, cache::Cache, error::missing};
use std::path::PathBuf;

/// Refuses every download.
pub(super) struct Client {
    settings: Settings,
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, HubError> {
        Ok(Self {
            settings: settings.clone(),
        })
    }

    pub(super) fn locate(&self, file: &HubFile) -> Result<Remote, HubError> {
        Err(self.refusal(file))
    }

    pub(super) fn download(
        &self,
        _cache: &Cache<'_>,
        file: &HubFile,
        _remote: &Remote,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, HubError> {
        Err(self.refusal(file))
    }

    fn refusal(&self, file: &HubFile) -> HubError {
        missing(
            file,
            &self.settings,
            "this program was built without merv-host's feature `hub`, which is needed for downloads",
        )
    }
}
