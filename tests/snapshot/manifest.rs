/// The version of this ABI, `major.minor.patch`. It is the first key of the manifest.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The name of the section that holds the manifest: ELF, Mach-O and PE have different rules for names.
pub const MANIFEST_SECTION: &str = if cfg!(target_vendor = "apple") {
    "__merv_plugin"
} else if cfg!(windows) {
    ".mervpl"
} else {
    ".merv.plugin"
};

/// Kinds of what a plugin provides. A host ignores kinds that it does not know.
pub mod kind {
    /// Turns clips into features: [`crate::Encoder`].
    pub const ENCODER: &str = "encoder";
    /// Turns embeddings into logits: [`crate::LanguageModel`].
    pub const LLM: &str = "llm";
    /// Turns features into visual tokens: [`crate::Mixer`].
    pub const MIXER: &str = "mixer";
    /// Fuses projected features behind the host's projectors: [`crate::Mixer`].
    pub const FUSION: &str = "fusion";
    /// Exchanges tensors between processes: [`crate::Collective`].
    pub const COLLECTIVE: &str = "collective";
}

/// What a plugin can do beside its duty, which is inference on `f32` in main memory.
pub mod feature {
    /// The model can be trained: [`crate::Trainable`].
    pub const TRAIN: &str = "train";
    /// The encoder takes clips of `u8`: [`crate::EncoderInfo::clip_dtypes`].
    pub const U8_CLIPS: &str = "u8-clips";
    /// The model takes and returns tensors of its device: [`crate::DeviceService`].
    pub const DEVICE_TENSORS: &str = "device-tensors";
    /// Long calls end soon after the host cancels them: they check [`crate::Call::current`].
    pub const CANCEL: &str = "cancel";
}

/// One model or service that a plugin provides.
#[derive(Debug, Clone, Copy)]
pub struct Provided {
    id: &'static str,
    kind: &'static str,
    license: &'static str,
    without_weights: bool,
    features: &'static [&'static str],
}

impl Provided {
    /// An encoder and the licence of the weights that a user downloads for it.
    pub const fn encoder(id: &'static str, weights_license: &'static str) -> Self {
        Self::new(kind::ENCODER, id, weights_license)
    }

    /// A language model and the licence of its weights.
    pub const fn llm(id: &'static str, weights_license: &'static str) -> Self {
        Self::new(kind::LLM, id, weights_license)
    }

    /// A mixer. Its weights are part of the user's checkpoint.
    pub const fn mixer(id: &'static str) -> Self {
        Self::new(kind::MIXER, id, "none").without_weights()
    }

    /// A fusion behind the host's projectors. Its weights are part of the user's checkpoint.
    pub const fn fusion(id: &'static str) -> Self {
        Self::new(kind::FUSION, id, "none").without_weights()
    }

    /// A collective.
    pub const fn collective(id: &'static str) -> Self {
        Self::new(kind::COLLECTIVE, id, "none").without_weights()
    }

    /// Anything else, of a kind that a newer host may know.
    pub const fn new(kind: &'static str, id: &'static str, weights_license: &'static str) -> Self {
        Self {
            id,
            kind,
            license: weights_license,
            without_weights: false,
            features: &[],
        }
    }

    /// Returns the id that registries use.
    pub const fn id(&self) -> &'static str {
        self.id
    }

    /// States that the model has no weights, so that a registry may omit them. A registry always names the weights of a
    /// language model, because its tokenizer is found next to them.
    #[must_use]
    pub const fn without_weights(mut self) -> Self {
        self.without_weights = true;
        self
    }

    /// States what the model can do ([`feature`]).
    #[must_use]
    pub const fn features(mut self, features: &'static [&'static str]) -> Self {
        self.features = features;
        self
    }
}

/// The manifest of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct Manifest {
    name: &'static str,
    version: &'static str,
    license: &'static str,
    backend: &'static str,
    devices: &'static [&'static str],
    provides: &'static [Provided],
}

impl Manifest {
    /// A manifest for the CPU that provides nothing yet. `name` is the plugin's name in registries. The library must be
    /// called `libmerv_NAME.so`, with `_` for each `-`: other files are not found by this name.
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            license: "not stated",
            backend: "own",
            devices: &["cpu"],
            provides: &[],
        }
    }

    /// Sets the licence of the plugin's code.
    #[must_use]
    pub const fn license(mut self, license: &'static str) -> Self {
        self.license = license;
        self
    }

    /// Sets the library that the plugin computes with: `candle`, `libtorch`, …
    #[must_use]
    pub const fn backend(mut self, backend: &'static str) -> Self {
        self.backend = backend;
        self
    }

    /// Sets the kinds of device that the plugin serves: `cpu`, `cuda`, … ([`crate::DeviceKind::name`]).
    #[must_use]
    pub const fn devices(mut self, devices: &'static [&'static str]) -> Self {
        self.devices = devices;
        self
    }

    /// Sets what the plugin provides.
    #[must_use]
    pub const fn provides(mut self, provides: &'static [Provided]) -> Self {
        self.provides = provides;
        self
    }

    /// Returns the length of [`Self::json`].
    #[doc(hidden)]
    pub const fn json_len(&self) -> usize {
        let mut writer = Writer {
            bytes: [0; 0],
            len: 0,
        };
        writer.manifest(self);
        writer.len
    }

    /// Returns the text of the section. `N` is [`Self::json_len`].
    #[doc(hidden)]
    pub const fn json<const N: usize>(&self) -> [u8; N] {
        let mut writer = Writer {
            bytes: [0; N],
            len: 0,
        };
        writer.manifest(self);
        writer.bytes
    }
}

/// Writes JSON at compile time. Bytes that do not fit are only counted.
struct Writer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Writer<N> {
    const fn manifest(&mut self, manifest: &Manifest) {
        self.raw("{\"api_version\":");
        self.string(API_VERSION);
        self.raw(",\"name\":");
        self.string(manifest.name);
        self.raw(",\"version\":");
        self.string(manifest.version);
        self.raw(",\"license\":");
        self.string(manifest.license);
        self.raw(",\"backend\":");
        self.string(manifest.backend);
        self.raw(",\"devices\":");
        self.strings(manifest.devices);
        self.raw(",\"provides\":[");
        let mut index = 0;
        while index < manifest.provides.len() {
            if index > 0 {
                self.raw(",");
            }
            self.provided(&manifest.provides[index]);
            index += 1;
        }
        self.raw("]}");
    }

    const fn provided(&mut self, provided: &Provided) {
        self.raw("{\"id\":");
        self.string(provided.id);
        self.raw(",\"kind\":");
        self.string(provided.kind);
        self.raw(",\"license\":");
        self.string(provided.license);
        if provided.without_weights {
            self.raw(",\"without_weights\":true");
        }
        self.raw(",\"features\":");
        self.strings(provided.features);
        self.raw("}");
    }

    const fn strings(&mut self, texts: &[&str]) {
        self.raw("[");
        let mut index = 0;
        while index < texts.len() {
            if index > 0 {
                self.raw(",");
            }
            self.string(texts[index]);
            index += 1;
        }
        self.raw("]");
    }

    const fn string(&mut self, text: &str) {
        self.raw("\"");
        let bytes = text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            match bytes[index] {
                b'"' => self.raw("\\\""),
                b'\\' => self.raw("\\\\"),
                control @ 0..0x20 => {
                    const HEX: &[u8; 16] = b"0123456789abcdef";
                    self.raw("\\u00");
                    self.byte(HEX[(control >> 4) as usize]);
                    self.byte(HEX[(control & 15) as usize]);
                }
                byte => self.byte(byte),
            }
            index += 1;
        }
        self.raw("\"");
    }

    const fn raw(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut index = 0;
        while index < bytes.len() {
            self.byte(bytes[index]);
            index += 1;
        }
    }

    const fn byte(&mut self, byte: u8) {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }
}
