//! Files of the Hugging Face hub: found in its cache, or downloaded into it.
//!
//! The cache is the one of the hub's own tools ([`Settings`] says where it is), so that a file that
//! another program has fetched is not fetched again. `hf-hub` knows its layout; the transfer is ours,
//! because a download has to be resumed, checked against the hub's digest, and shared between
//! processes, and because the token must not reach the hosts that the hub redirects to.
//!
//! A file in the cache is taken as it is: the hub is only asked about files that are missing. Without
//! the feature `hub` it is not asked at all.

#[cfg(feature = "hub")]
mod address;
mod cache;
#[cfg_attr(not(feature = "hub"), path = "no_client.rs")]
mod client;
#[cfg(feature = "hub")]
mod download;
mod error;
mod file;
mod settings;

#[cfg(all(test, feature = "hub"))]
mod tests;

pub use error::HubError;
pub use file::{HubFile, Remote};
pub use settings::{DEFAULT_ENDPOINT, Settings, Token};

use cache::Cache;
use client::Client;
use std::{cell::OnceCell, path::PathBuf};

/// The hub and its cache on this machine.
pub struct Hub {
    settings: Settings,
    /// Made when the hub is first asked: who asks for nothing may have any settings.
    client: OnceCell<Client>,
}

impl Hub {
    /// Reaches nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            client: OnceCell::new(),
        }
    }

    fn client(&self) -> Result<&Client, HubError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.settings)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The file, if the cache has it.
    pub fn cached(&self, file: &HubFile) -> Option<PathBuf> {
        let folder = self.settings.cache.as_deref()?;
        Cache::new(folder, file).find()
    }

    /// What there is to download. Only the hub's answer about the file is read.
    ///
    /// # Errors
    ///
    /// [`HubError::Missing`] when nothing may be downloaded; [`HubError::Endpoint`] and [`HubError::Token`] when the
    /// settings name no hub or hold no token; else why the hub does not give the file.
    pub fn locate(&self, file: &HubFile) -> Result<Remote, HubError> {
        if self.settings.offline {
            return Err(self.missing(file, "--offline or HF_HUB_OFFLINE forbids downloads"));
        }
        self.client()?.locate(file)
    }

    /// Downloads into the cache what [`Self::locate`] found, or waits for another process that does.
    /// An interrupted download is continued. `progress` is told the bytes that are there, of how many.
    ///
    /// # Errors
    ///
    /// When the hub does not give the file, the connection breaks too often, what arrives is not what
    /// was announced, or the cache cannot be written.
    pub fn download(
        &self,
        file: &HubFile,
        remote: &Remote,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf, HubError> {
        let folder = self.settings.cache.as_deref().ok_or(HubError::NoCache)?;
        let cache = Cache::new(folder, file);
        self.client()?.download(&cache, file, remote, progress)
    }

    /// That a file is not in the cache and may not be downloaded, and `why` not.
    pub(crate) fn missing(&self, file: &HubFile, why: &'static str) -> HubError {
        error::missing(file, &self.settings, why)
    }
}
