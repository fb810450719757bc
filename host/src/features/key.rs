//! Keys: digests of everything that features depend on.

use super::{Digests, FeatureError};
use crate::{disk::digest::Sha256Digest, transform::ResizeStrategy, video::Selection};
use merv_plugin_api::EncoderInfo;
use sha2::{Digest, Sha256};
use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Increased when the host creates different clips from the same frames, so that older features are not found.
const VERSION: u64 = 3;

/// Everything that the features of an encoder depend on, except the clip.
#[derive(Debug, Clone)]
pub struct EncoderIdentity {
    /// The id of the encoder.
    pub id: String,
    /// The name of its plugin.
    pub plugin: String,
    /// The version of its plugin.
    pub version: String,
    /// The files of its weights, in order.
    pub weights: Vec<PathBuf>,
    /// Its configuration file, if any.
    pub config: Option<PathBuf>,
    /// Its sizes, number format and preprocessing.
    pub info: EncoderInfo,
    /// How frames are resized to squares.
    pub resize: ResizeStrategy,
}

/// The digest of an [`EncoderIdentity`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderKey {
    id: String,
    digest: Sha256Digest,
}

/// The key of the features of a clip, for one encoder. Displayed as `<encoder id>/<digest>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClipKey(String);

/// A digest of named fields. Different lists of fields are hashed as different bytes.
struct Fields(Sha256);

impl Fields {
    fn new(what: &str) -> Self {
        let mut fields = Self(Sha256::new());
        fields.text("what", what);
        fields.number("version", VERSION);
        fields
    }

    fn text(&mut self, name: &str, value: &str) {
        for part in [name, value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }

    fn number(&mut self, name: &str, value: impl fmt::Display) {
        self.text(name, &value.to_string());
    }

    /// Adds the bits of a number, because its text could be rounded.
    fn real(&mut self, name: &str, value: Option<f64>) {
        let bits = value.map_or("none".to_owned(), |value| value.to_bits().to_string());
        self.text(name, &bits);
    }

    fn finish(self) -> Sha256Digest {
        Sha256Digest::finish(self.0)
    }
}

impl EncoderKey {
    /// Computes the key. Reads the files of the encoder, unless `digests` knows their digests.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn new(identity: &EncoderIdentity, digests: &Digests) -> Result<Self, FeatureError> {
        let mut fields = Fields::new("encoder");
        fields.text("id", &identity.id);
        fields.text("plugin", &identity.plugin);
        fields.text("plugin version", &identity.version);
        for path in &identity.weights {
            fields.number("weights", digests.of(path)?);
        }
        if let Some(path) = &identity.config {
            fields.number("config", digests.of(path)?);
        }
        let info = &identity.info;
        for (name, size) in [
            ("width", info.width),
            ("frames", info.num_frames),
            ("image size", info.image_size()),
            ("temporal", info.temporal),
            ("spatial", info.spatial),
        ] {
            fields.number(name, size);
        }
        fields.number("dtype", info.dtype);
        fields.number("device", info.device);
        for dtype in &info.clip_dtypes {
            fields.number("clip dtype", dtype);
        }
        for (key, value) in &info.options {
            fields.text(key, value);
        }
        let spec = &info.preprocess;
        fields.number("clip size", spec.image_size);
        fields.number("short side", spec.short_side);
        fields.number("interpolation", spec.interpolation);
        fields.number("domain", spec.domain);
        for value in spec.mean.iter().chain(&spec.std) {
            fields.real("mean and std", Some(f64::from(*value)));
        }
        fields.text("resize", identity.resize.name());
        Ok(Self {
            id: identity.id.clone(),
            digest: fields.finish(),
        })
    }

    /// Returns the key of a clip: the frames that `selection` selects from the video with this digest.
    pub fn clip(&self, video: &Sha256Digest, selection: &Selection) -> ClipKey {
        let mut fields = Fields::new("clip");
        fields.number("encoder", self.digest);
        fields.number("video", video);
        fields.number("frames", selection.num_frames);
        let (start, end) = selection.window();
        fields.real("start", start);
        fields.real("end", end);
        fields.number(
            "end frame",
            selection
                .end_frame
                .filter(|&frame| frame >= 0)
                .unwrap_or(-1),
        );
        fields.real("folder's rate", selection.folder_fps);
        // If the method makes no difference, all methods share the same features.
        if selection.goes_by_seconds() {
            fields.text("seconds", selection.seconds.name());
        }
        ClipKey(format!("{}/{}", self.id, fields.finish()))
    }
}

impl ClipKey {
    /// Returns the key as it is written in shards.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClipKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl EncoderIdentity {
    /// Returns the files that the encoder is loaded from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.weights
            .iter()
            .chain(&self.config)
            .map(PathBuf::as_path)
    }
}
