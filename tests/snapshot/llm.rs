use crate::{
    DType, Device, PluginError, ReadyGradients, TensorBuf, TensorView, Trainable, code::open_code,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The description of a language model, available before any weight is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LanguageModelInfo {
    /// D: the width of an embedding.
    pub width: u32,
    /// The number of rows of the embedding table and of columns of the logits.
    pub vocab_size: u32,
    /// The largest number of positions in a session.
    pub context_length: u32,
    /// The id of the token that begins a text, if the model has one. It is below `vocab_size`.
    #[serde(default)]
    pub bos: Option<u32>,
    /// The ids of the tokens that end a reply. They are below `vocab_size`.
    #[serde(default)]
    pub eos: Vec<u32>,
    /// The dtype that the model computes in.
    pub dtype: DType,
    /// The device that the model computes on.
    pub device: Device,
    /// The number of parameters.
    pub parameters: u64,
    /// Multiply-accumulate operations per token, without attention over the context.
    pub macs_per_token: u64,
    /// The number of bytes that a session keeps for each position.
    pub cache_bytes_per_token: u64,
    /// The requested options that the model honours, with the values in effect. A value is compared with the requested
    /// one as text, so it must be written the same. Options that were not requested may be stated too.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Further properties, for hosts that know them.
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

impl LanguageModelInfo {
    /// A language model in `f32` on the CPU, without tokens that begin or end a text.
    pub fn new(width: u32, vocab_size: u32, context_length: u32) -> Self {
        Self {
            width,
            vocab_size,
            context_length,
            bos: None,
            eos: Vec::new(),
            dtype: DType::F32,
            device: Device::CPU,
            parameters: 0,
            macs_per_token: 0,
            cache_bytes_per_token: 0,
            options: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Sets the id of the token that begins a text, if the model has one.
    #[must_use]
    pub fn bos(mut self, id: Option<u32>) -> Self {
        self.bos = id;
        self
    }

    /// Sets the ids of the tokens that end a reply.
    #[must_use]
    pub fn eos(mut self, ids: Vec<u32>) -> Self {
        self.eos = ids;
        self
    }

    /// Sets the dtype that the model computes in.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }

    /// Sets the device that the model computes on.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Sets the number of parameters, the multiply-accumulate operations per token without attention over the context,
    /// and the bytes that a session keeps for each position.
    #[must_use]
    pub fn cost(mut self, parameters: u64, macs_per_token: u64, cache_bytes: u64) -> Self {
        self.parameters = parameters;
        self.macs_per_token = macs_per_token;
        self.cache_bytes_per_token = cache_bytes;
        self
    }

    /// States that an option is honoured, with the value in effect.
    #[must_use]
    pub fn option(mut self, key: &str, value: impl ToString) -> Self {
        self.options.insert(key.to_owned(), value.to_string());
        self
    }
}

/// Identifies an open session of one language model.
pub type SessionId = u64;

open_code! {
    /// Which positions [`LanguageModel::prefill`] returns logits for.
    LogitsAt, "choice of logits" {
        /// No position: `[0, vocab_size]`. The embeddings only extend the session.
        NONE = 0, "none";
        /// The last position: `[1, vocab_size]`, or `[0, vocab_size]` if nothing was appended.
        LAST = 1, "last";
        /// Every position: `[length, vocab_size]`.
        ALL = 2, "all";
    }
}

impl LogitsAt {
    /// Returns the number of rows of logits for a prompt of `length` positions.
    ///
    /// # Errors
    ///
    /// When the code is of a newer version.
    pub fn rows(self, length: usize) -> Result<usize, PluginError> {
        match self {
            Self::NONE => Ok(0),
            Self::LAST => Ok(length.min(1)),
            Self::ALL => Ok(length),
            other => Err(PluginError::unsupported(format!("unknown {other}"))),
        }
    }
}

/// A loaded language model.
///
/// A session is the state of one text (its key and value cache). Sessions are independent: they
/// may differ in length, and one call to [`Self::decode`] may advance several of them.
pub trait LanguageModel: Send + Sync + 'static {
    /// The state of one text.
    type Session: Send + 'static;

    /// Returns the description of this model. Called once, when the model is loaded. It must be the one that
    /// [`crate::Plugin::describe_llm`] gave for the same request.
    fn info(&self) -> LanguageModelInfo;

    /// Returns the embeddings of tokens: `[length]` → `[length, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When an id is not below the vocabulary size.
    fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError>;

    /// Opens an empty session.
    ///
    /// # Errors
    ///
    /// When memory runs out.
    fn open(&self) -> Result<Self::Session, PluginError>;

    /// Appends embeddings `[length, width]` of `f32` to the session: those of [`Self::embed`], unchanged, and visual
    /// tokens, which are no token's embeddings.
    ///
    /// # Errors
    ///
    /// When the shape is wrong, the session would exceed the context length, or the call is cancelled. The session is
    /// then unchanged.
    fn prefill(
        &self,
        session: &mut Self::Session,
        embeds: &TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError>;

    /// Appends one token to each session and returns the logits after it, `[sessions, vocab_size]` of `f32`. The sessions
    /// are different ones, and there is one token for each: the adapter has checked it.
    ///
    /// # Errors
    ///
    /// When an id is not below the vocabulary size, a session would exceed the context length, or the call is cancelled.
    /// All sessions are then unchanged.
    fn decode(
        &self,
        sessions: &mut [&mut Self::Session],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError>;

    /// Copies a session.
    ///
    /// # Errors
    ///
    /// When memory runs out.
    fn fork(&self, session: &Self::Session) -> Result<Self::Session, PluginError>;

    /// Removes everything after the first `length` positions.
    ///
    /// # Errors
    ///
    /// When the session is shorter than `length`.
    fn truncate(&self, session: &mut Self::Session, length: usize) -> Result<(), PluginError>;
}

open_code! {
    /// Whether [`TrainableLanguageModel::forward_backward`] computes gradients.
    Backward, "kind of backward pass" {
        /// Computes only the loss, as in validation. The gradients do not change.
        LOSS_ONLY = 0, "loss only";
        /// Computes the loss and the gradients.
        GRADIENTS = 1, "gradients";
    }
}

/// The result of [`TrainableLanguageModel::forward_backward`].
#[derive(Debug)]
#[non_exhaustive]
pub struct LossAndGradient {
    /// The sum of the cross-entropies of all labels that count.
    pub loss_sum: f64,
    /// The number of labels that count.
    pub tokens: u64,
    /// The gradient of `loss_sum` with respect to the embeddings, `[batch, length, width]` of `f32`; `[0]`
    /// for [`Backward::LOSS_ONLY`].
    pub gradient: TensorBuf,
}

impl LossAndGradient {
    /// The loss of `tokens` labels and its gradient.
    pub fn new(loss_sum: f64, tokens: u64, gradient: TensorBuf) -> Self {
        Self {
            loss_sum,
            tokens,
            gradient,
        }
    }
}

/// The label of a position that does not count.
pub const IGNORED_LABEL: i64 = -100;

/// A batch of texts to learn from, borrowed from the host for one call.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct TrainingTexts<'a> {
    /// `[batch, length, width]` of `f32`.
    pub embeds: TensorView<'a>,
    /// `[batch, length]` of `u8`: 1 for a token, 0 for padding.
    pub mask: TensorView<'a>,
    /// `[batch, length]` of `i64`.
    pub labels: TensorView<'a>,
}

impl<'a> TrainingTexts<'a> {
    /// Texts with the shapes of the fields.
    pub fn new(embeds: TensorView<'a>, mask: TensorView<'a>, labels: TensorView<'a>) -> Self {
        Self {
            embeds,
            mask,
            labels,
        }
    }
}

/// A language model that can also be trained.
pub trait TrainableLanguageModel: LanguageModel + Trainable {
    /// Returns the loss of a batch of texts and, if requested, its gradient with respect to their
    /// embeddings. If the parameters are trained, their gradients are accumulated too. All gradients are
    /// those of the loss sum.
    ///
    /// Attention is causal and ignores positions whose mask is 0. The results of masked positions are not
    /// used. Positions count from 0 in every row. The label at position `i` is the token that position
    /// `i - 1` must predict, as in Hugging Face's models. Three kinds of label do not count: the one at
    /// position 0, [`IGNORED_LABEL`], and a label whose position or preceding position is masked.
    ///
    /// # Errors
    ///
    /// When training has not begun, a shape or dtype is not as in [`TrainingTexts`], a label is not a token id, or the
    /// computation fails, and the error of `ready`.
    fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, PluginError>;

    /// Adds `gradient`, the gradient of embeddings from [`LanguageModel::embed`], to the gradient of the
    /// embedding table. Does nothing when the model is not trained.
    ///
    /// # Shapes
    ///
    /// `ids [length]`, `gradient [length, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When training has not begun, the shape does not match, or an id is not below the vocabulary size.
    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError>;
}
