//! Language models: embeddings in, logits out, with sessions that keep their context.

use crate::{
    DType, PluginError, TensorBuf, TensorView, Trainable, TrainableObject,
    guard::{guard, guarded_drop},
    training::unsupported,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, ROption, RResult, RSlice, RVec},
    type_level::downcasting::TD_Opaque,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The description of a language model, available before any weight is read.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq)]
pub struct LanguageModelInfo {
    /// D: the width of an embedding.
    pub width: u32,
    /// The number of rows of the embedding table and of columns of the logits.
    pub vocab_size: u32,
    /// The largest number of positions in a session.
    pub context_length: u32,
    /// The id of the token that begins a text, if the model has one.
    pub bos: ROption<u32>,
    /// The ids of the tokens that end a reply.
    pub eos: RVec<u32>,
    /// The dtype that the model computes in.
    pub dtype: DType,
    /// The number of parameters.
    pub parameters: u64,
    /// Multiply-accumulate operations per token, without attention over the context.
    pub macs_per_token: u64,
    /// The number of bytes that a session keeps for each position.
    pub cache_bytes_per_token: u64,
}

/// Identifies an open session of one language model.
pub type SessionId = u64;

/// Which positions [`LanguageModel::prefill`] returns logits for.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogitsAt {
    /// No position: `[0, vocab_size]`. The embeddings only extend the session.
    None,
    /// The last position: `[1, vocab_size]`.
    Last,
    /// Every position: `[length, vocab_size]`.
    All,
}

/// A loaded language model.
///
/// A session is the state of one text (its key and value cache). Sessions are independent: they
/// may differ in length, and one call to [`Self::decode`] may advance several of them.
pub trait LanguageModel: Send + Sync + 'static {
    /// The state of one text.
    type Session: Send + 'static;

    /// Returns the description of this model. Called once, when the model is loaded.
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

    /// Appends embeddings `[length, width]` of `f32` to the session.
    ///
    /// # Errors
    ///
    /// When the shape is wrong or the session would exceed the context length. The session is then
    /// unchanged.
    fn prefill(
        &self,
        session: &mut Self::Session,
        embeds: &TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError>;

    /// Advances each session by one token and returns logits `[sessions, vocab_size]` of `f32`.
    ///
    /// # Errors
    ///
    /// When an id is not below the vocabulary size or a session would exceed the context length. All
    /// sessions are then unchanged.
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

/// Whether [`TrainableLanguageModel::forward_backward`] computes gradients.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backward {
    /// Computes only the loss, as in validation. The gradients do not change.
    LossOnly,
    /// Computes the loss and the gradients.
    Gradients,
}

/// The result of [`TrainableLanguageModel::forward_backward`].
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct LossAndGradient {
    /// The sum of the cross-entropies of all labels that count.
    pub loss_sum: f64,
    /// The number of labels that count.
    pub tokens: u64,
    /// The gradient of `loss_sum` with respect to the embeddings, `[batch, length, width]` of `f32`; `[0]`
    /// for [`Backward::LossOnly`].
    pub gradient: TensorBuf,
}

/// The label of a position that does not count.
pub const IGNORED_LABEL: i64 = -100;

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
    /// # Shapes
    ///
    /// `embeds [batch, length, width]` of `f32`, `mask [batch, length]` of `u8` (1 for a token, 0 for
    /// padding), `labels [batch, length]` of `i64`.
    ///
    /// # Errors
    ///
    /// When training has not begun, a shape or dtype is not as above, a label is not a token id, or the
    /// computation fails.
    fn forward_backward(
        &self,
        embeds: &TensorView<'_>,
        mask: &TensorView<'_>,
        labels: &TensorView<'_>,
        what: Backward,
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

#[sabi_trait]
#[doc(hidden)]
pub trait LanguageModelAbi: Send + Sync {
    fn info(&self) -> LanguageModelInfo;
    fn embed(&self, ids: RSlice<'_, u32>) -> RResult<TensorBuf, PluginError>;
    fn open(&self) -> RResult<SessionId, PluginError>;
    fn close(&self, session: SessionId);
    fn prefill(
        &self,
        session: SessionId,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> RResult<TensorBuf, PluginError>;
    fn decode(
        &self,
        sessions: RSlice<'_, SessionId>,
        tokens: RSlice<'_, u32>,
    ) -> RResult<TensorBuf, PluginError>;
    fn fork(&self, session: SessionId) -> RResult<SessionId, PluginError>;
    #[sabi(last_prefix_field)]
    fn truncate(&self, session: SessionId, length: usize) -> RResult<(), PluginError>;
    // Since 1.1.
    fn training(&self) -> RResult<TrainableObject, PluginError> {
        unsupported()
    }
    fn forward_backward(
        &self,
        _embeds: TensorView<'_>,
        _mask: TensorView<'_>,
        _labels: TensorView<'_>,
        _what: Backward,
    ) -> RResult<LossAndGradient, PluginError> {
        unsupported()
    }
    fn backward_embed(
        &self,
        _ids: RSlice<'_, u32>,
        _gradient: TensorView<'_>,
    ) -> RResult<(), PluginError> {
        unsupported()
    }
}

/// The training methods of a language model, without its type.
trait LanguageModelTraining: Send + Sync {
    fn training(&self) -> TrainableObject;
    fn forward_backward(
        &self,
        embeds: &TensorView<'_>,
        mask: &TensorView<'_>,
        labels: &TensorView<'_>,
        what: Backward,
    ) -> Result<LossAndGradient, PluginError>;
    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError>;
}

impl<M: TrainableLanguageModel> LanguageModelTraining for Arc<M> {
    fn training(&self) -> TrainableObject {
        TrainableObject::new(Self::clone(self))
    }

    fn forward_backward(
        &self,
        embeds: &TensorView<'_>,
        mask: &TensorView<'_>,
        labels: &TensorView<'_>,
        what: Backward,
    ) -> Result<LossAndGradient, PluginError> {
        M::forward_backward(self, embeds, mask, labels, what)
    }

    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError> {
        M::backward_embed(self, ids, gradient)
    }
}

/// Stores a model's sessions by id, so that only ids cross the boundary.
struct LanguageModelAdapter<M: LanguageModel> {
    info: LanguageModelInfo,
    model: Option<Arc<M>>,
    training: Option<Box<dyn LanguageModelTraining>>,
    sessions: Mutex<HashMap<SessionId, Arc<Mutex<M::Session>>>>,
    next: AtomicU64,
}

impl<M: LanguageModel> LanguageModelAdapter<M> {
    fn model(&self) -> Result<&M, PluginError> {
        self.model
            .as_deref()
            .ok_or_else(|| PluginError::invalid("the language model was dropped"))
    }

    fn training(&self) -> Result<&dyn LanguageModelTraining, PluginError> {
        match &self.training {
            Some(training) => Ok(&**training),
            None => unsupported().into_result(),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Mutex<M::Session>>>> {
        // Entries are only inserted and removed, so a panic cannot leave the table half changed.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: SessionId) -> Result<Arc<Mutex<M::Session>>, PluginError> {
        let found = self.table().get(&id).cloned();
        found.ok_or_else(|| PluginError::invalid(format!("session {id} is not open")))
    }

    fn insert(&self, session: M::Session) -> SessionId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.table().insert(id, Arc::new(Mutex::new(session)));
        id
    }
}

fn lock<S>(id: SessionId, session: &Mutex<S>) -> Result<MutexGuard<'_, S>, PluginError> {
    session.lock().map_err(|_| {
        PluginError::invalid(format!(
            "session {id} is unusable because of an earlier panic"
        ))
    })
}

impl<M: LanguageModel> LanguageModelAbi for LanguageModelAdapter<M> {
    fn info(&self) -> LanguageModelInfo {
        self.info.clone()
    }

    fn embed(&self, ids: RSlice<'_, u32>) -> RResult<TensorBuf, PluginError> {
        guard("embed", || self.model()?.embed(ids.as_slice()))
    }

    fn open(&self) -> RResult<SessionId, PluginError> {
        guard("open", || Ok(self.insert(self.model()?.open()?)))
    }

    fn close(&self, session: SessionId) {
        let removed = self.table().remove(&session);
        guarded_drop(removed);
    }

    fn prefill(
        &self,
        session: SessionId,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> RResult<TensorBuf, PluginError> {
        guard("prefill", || {
            let found = self.find(session)?;
            let mut state = lock(session, &found)?;
            self.model()?.prefill(&mut state, &embeds, logits)
        })
    }

    fn decode(
        &self,
        sessions: RSlice<'_, SessionId>,
        tokens: RSlice<'_, u32>,
    ) -> RResult<TensorBuf, PluginError> {
        guard("decode", || {
            let (ids, tokens) = (sessions.as_slice(), tokens.as_slice());
            if ids.len() != tokens.len() {
                return Err(PluginError::invalid(format!(
                    "expected one token for each session, found {} tokens for {} sessions",
                    tokens.len(),
                    ids.len()
                )));
            }
            // Locked in ascending order, so two overlapping calls cannot deadlock.
            let mut order: Vec<usize> = (0..ids.len()).collect();
            order.sort_unstable_by_key(|&i| ids[i]);
            if order.windows(2).any(|pair| ids[pair[0]] == ids[pair[1]]) {
                return Err(PluginError::invalid(
                    "a session appears twice in one call to `decode`",
                ));
            }
            let found = order
                .iter()
                .map(|&i| self.find(ids[i]))
                .collect::<Result<Vec<_>, PluginError>>()?;
            let mut guards = order
                .iter()
                .zip(&found)
                .map(|(&i, session)| Ok((i, lock(ids[i], session)?)))
                .collect::<Result<Vec<_>, PluginError>>()?;
            guards.sort_unstable_by_key(|(i, _)| *i);
            let mut states: Vec<&mut M::Session> =
                guards.iter_mut().map(|(_, state)| &mut **state).collect();
            self.model()?.decode(&mut states, tokens)
        })
    }

    fn fork(&self, session: SessionId) -> RResult<SessionId, PluginError> {
        guard("fork", || {
            let found = self.find(session)?;
            let copy = self.model()?.fork(&*lock(session, &found)?)?;
            Ok(self.insert(copy))
        })
    }

    fn truncate(&self, session: SessionId, length: usize) -> RResult<(), PluginError> {
        guard("truncate", || {
            let found = self.find(session)?;
            let mut state = lock(session, &found)?;
            self.model()?.truncate(&mut state, length)
        })
    }

    fn training(&self) -> RResult<TrainableObject, PluginError> {
        guard("training", || Ok(self.training()?.training()))
    }

    fn forward_backward(
        &self,
        embeds: TensorView<'_>,
        mask: TensorView<'_>,
        labels: TensorView<'_>,
        what: Backward,
    ) -> RResult<LossAndGradient, PluginError> {
        guard("forward_backward", || {
            self.training()?
                .forward_backward(&embeds, &mask, &labels, what)
        })
    }

    fn backward_embed(
        &self,
        ids: RSlice<'_, u32>,
        gradient: TensorView<'_>,
    ) -> RResult<(), PluginError> {
        guard("backward_embed", || {
            self.training()?.backward_embed(ids.as_slice(), &gradient)
        })
    }
}

impl<M: LanguageModel> Drop for LanguageModelAdapter<M> {
    fn drop(&mut self) {
        let sessions = std::mem::take(&mut *self.table());
        guarded_drop(sessions);
        guarded_drop(self.training.take());
        guarded_drop(self.model.take());
    }
}

/// A language model behind the ABI. `load_llm` returns it, and the host calls it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct LanguageModelObject(LanguageModelAbi_TO<'static, RBox<()>>);

impl LanguageModelObject {
    /// Wraps a language model for the host.
    pub fn new<M: LanguageModel>(model: M) -> Self {
        Self::wrap(Arc::new(model), None)
    }

    /// Wraps a language model that can be trained.
    pub fn trainable<M: TrainableLanguageModel>(model: M) -> Self {
        let model = Arc::new(model);
        let training: Box<dyn LanguageModelTraining> = Box::new(Arc::clone(&model));
        Self::wrap(model, Some(training))
    }

    fn wrap<M: LanguageModel>(
        model: Arc<M>,
        training: Option<Box<dyn LanguageModelTraining>>,
    ) -> Self {
        let adapter = LanguageModelAdapter {
            info: model.info(),
            model: Some(model),
            training,
            sessions: Mutex::new(HashMap::new()),
            next: AtomicU64::new(1),
        };
        Self(LanguageModelAbi_TO::from_value(adapter, TD_Opaque))
    }

    /// See [`LanguageModel::info`].
    pub fn info(&self) -> LanguageModelInfo {
        self.0.info()
    }

    /// See [`LanguageModel::embed`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::embed`], and [`crate::ErrorKind::Panic`], which every method here may return.
    pub fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        self.0.embed(ids.into()).into_result()
    }

    /// See [`LanguageModel::open`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::open`].
    pub fn open(&self) -> Result<SessionId, PluginError> {
        self.0.open().into_result()
    }

    /// Drops a session. An unknown id is ignored.
    pub fn close(&self, session: SessionId) {
        self.0.close(session);
    }

    /// See [`LanguageModel::prefill`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::prefill`].
    pub fn prefill(
        &self,
        session: SessionId,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError> {
        self.0.prefill(session, embeds, logits).into_result()
    }

    /// See [`LanguageModel::decode`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::decode`].
    pub fn decode(&self, sessions: &[SessionId], tokens: &[u32]) -> Result<TensorBuf, PluginError> {
        self.0.decode(sessions.into(), tokens.into()).into_result()
    }

    /// See [`LanguageModel::fork`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::fork`].
    pub fn fork(&self, session: SessionId) -> Result<SessionId, PluginError> {
        self.0.fork(session).into_result()
    }

    /// See [`LanguageModel::truncate`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::truncate`].
    pub fn truncate(&self, session: SessionId, length: usize) -> Result<(), PluginError> {
        self.0.truncate(session, length).into_result()
    }

    /// Returns the parameters, for training.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Unsupported`] when the model cannot be trained. The methods below return the
    /// same error.
    pub fn training(&self) -> Result<TrainableObject, PluginError> {
        self.0.training().into_result()
    }

    /// See [`TrainableLanguageModel::forward_backward`].
    ///
    /// # Errors
    ///
    /// As for [`TrainableLanguageModel::forward_backward`].
    pub fn forward_backward(
        &self,
        embeds: TensorView<'_>,
        mask: TensorView<'_>,
        labels: TensorView<'_>,
        what: Backward,
    ) -> Result<LossAndGradient, PluginError> {
        self.0
            .forward_backward(embeds, mask, labels, what)
            .into_result()
    }

    /// See [`TrainableLanguageModel::backward_embed`].
    ///
    /// # Errors
    ///
    /// As for [`TrainableLanguageModel::backward_embed`].
    pub fn backward_embed(&self, ids: &[u32], gradient: TensorView<'_>) -> Result<(), PluginError> {
        self.0.backward_embed(ids.into(), gradient).into_result()
    }
}
