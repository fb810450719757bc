//! Files of the Hugging Face hub: found in its cache, or downloaded into it.
//!
//! The cache is shared with the hub's own tools, so a file that another program has downloaded is not
//! downloaded again. [`Settings`] describes where it is. The layout of the cache is that of `hf-hub`. The
//! transfer is implemented here for two reasons. A download has to be resumed, checked against the hub's
//! digest, and shared between processes. And the token must not be sent to the hosts that the hub redirects
//! to.
//!
//! Files in the cache are used without a request to the hub. Only missing files are requested. Without the
//! feature `hub`, nothing is downloaded.

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
    /// Created for the first request. Without a request, invalid settings are not an error.
    client: OnceCell<Client>,
}

impl Hub {
    /// Creates a hub. No request is sent yet.
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

    /// Returns the path of a file if it is in the cache.
    pub fn cached(&self, file: &HubFile) -> Option<PathBuf> {
        let folder = self.settings.cache.as_deref()?;
        Cache::new(folder, file).find()
    }

    /// Requests the description of a file from the hub. Its contents are not downloaded.
    ///
    /// # Errors
    ///
    /// Returns [`HubError::Missing`] if downloads are not allowed, [`HubError::Endpoint`] or
    /// [`HubError::Token`] if the settings are not valid, and another error if the request fails.
    pub fn locate(&self, file: &HubFile) -> Result<Remote, HubError> {
        if self.settings.offline {
            return Err(self.missing(file, "--offline or HF_HUB_OFFLINE disables downloads"));
        }
        self.client()?.locate(file)
    }

    /// Downloads a file that [`Self::locate`] found into the cache. If another process is downloading it,
    /// waits for that process. An interrupted download is resumed. `progress` receives the number of received
    /// bytes and the size.
    ///
    /// # Errors
    ///
    /// Returns an error if the hub refuses the request, the connection is lost too often, the received file is
    /// not the expected one, or the cache cannot be written.
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

    /// Returns the error that a file is not in the cache and cannot be downloaded for the reason `why`.
    pub(crate) fn missing(&self, file: &HubFile, why: &'static str) -> HubError {
        error::missing(file, &self.settings, why)
    }
}
