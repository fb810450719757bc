//! Language models: embeddings in, logits out, with sessions that remember what they have seen.

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

/// What a language model is, known before any weight is read.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq)]
pub struct LanguageModelInfo {
    /// D: the width of an embedding.
    pub width: u32,
    /// Rows of the embedding table and columns of the logits.
    pub vocab_size: u32,
    /// Positions a session can hold.
    pub context_length: u32,
    /// The id of the token that begins a text, if the model has one.
    pub bos: ROption<u32>,
    /// The ids of the tokens that end a reply.
    pub eos: RVec<u32>,
    /// What the model computes in.
    pub dtype: DType,
    /// Parameters.
    pub parameters: u64,
    /// Multiply-accumulate operations per token, attention over the context left out.
    pub macs_per_token: u64,
    /// Bytes that a session keeps for each position.
    pub cache_bytes_per_token: u64,
}

/// Names an open session of one language model.
pub type SessionId = u64;

/// Which positions [`LanguageModel::prefill`] returns logits for.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogitsAt {
    /// None: `[0, vocab_size]`. The session only takes the embeddings in.
    None,
    /// The last position: `[1, vocab_size]`.
    Last,
    /// Every position: `[length, vocab_size]`.
    All,
}

/// A loaded language model.
///
/// A session is the memory of one text (the key and value cache). Sessions are independent: they
/// may differ in length and be advanced together in one [`Self::decode`].
pub trait LanguageModel: Send + Sync + 'static {
    /// The memory of one text.
    type Session: Send + 'static;

    /// What this model is. Asked once, when it is loaded.
    fn info(&self) -> LanguageModelInfo;

    /// The embeddings of tokens: `[length]` → `[length, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When an id is not below the vocabulary's size.
    fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError>;

    /// A session that has seen nothing.
    ///
    /// # Errors
    ///
    /// When memory runs out.
    fn open(&self) -> Result<Self::Session, PluginError>;

    /// Takes embeddings `[length, width]` of `f32` into the session, after what it has seen.
    ///
    /// # Errors
    ///
    /// When the shape is wrong or the session would outgrow the context. The session is then
    /// unchanged.
    fn prefill(
        &self,
        session: &mut Self::Session,
        embeds: &TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError>;

    /// Advances each session by one token: logits `[sessions, vocab_size]` of `f32`.
    ///
    /// # Errors
    ///
    /// When an id is not below the vocabulary's size or a session would outgrow the context. All
    /// sessions are then unchanged.
    fn decode(
        &self,
        sessions: &mut [&mut Self::Session],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError>;

    /// A second session that has seen the same.
    ///
    /// # Errors
    ///
    /// When memory runs out.
    fn fork(&self, session: &Self::Session) -> Result<Self::Session, PluginError>;

    /// Forgets everything after the first `length` positions.
    ///
    /// # Errors
    ///
    /// When the session is shorter than that.
    fn truncate(&self, session: &mut Self::Session, length: usize) -> Result<(), PluginError>;
}

/// Whether [`TrainableLanguageModel::forward_backward`] goes back.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backward {
    /// No: only the loss is wanted, as in validation. No gradient changes.
    LossOnly,
    /// Yes.
    Gradients,
}

/// What [`TrainableLanguageModel::forward_backward`] returns.
#[repr(C)]
#[derive(StableAbi, Debug)]
pub struct LossAndGradient {
    /// The sum of the cross-entropies of all labels that count.
    pub loss_sum: f64,
    /// How many labels count.
    pub tokens: u64,
    /// The gradient of `loss_sum` by the embeddings, `[batch, length, width]` of `f32`; `[0]` when only
    /// the loss was wanted.
    pub gradient: TensorBuf,
}

/// The label of a position that does not count.
pub const IGNORED_LABEL: i64 = -100;

/// A language model that can also be trained.
pub trait TrainableLanguageModel: LanguageModel + Trainable {
    /// The loss of a batch of texts and, if asked for, its gradient by their embeddings; the gradients of
    /// the parameters are added up, if they are trained. All gradients are those of the loss sum.
    ///
    /// Attention is causal and sees no position whose mask is 0; what a masked position itself computes is
    /// of no consequence. Positions count from 0 in every row. The label at position `i` is the token that
    /// position `i - 1` is to foretell, as in Hugging Face's models; so the label at position 0 never
    /// counts, nor does [`IGNORED_LABEL`], nor a label whose position or the one before it is masked.
    ///
    /// # Shapes
    ///
    /// `embeds [batch, length, width]` of `f32`, `mask [batch, length]` of `u8` (1 a token, 0 padding),
    /// `labels [batch, length]` of `i64`.
    ///
    /// # Errors
    ///
    /// When training has not begun, a shape or dtype is not as above, a label is no token, or the
    /// computation fails.
    fn forward_backward(
        &self,
        embeds: &TensorView<'_>,
        mask: &TensorView<'_>,
        labels: &TensorView<'_>,
        what: Backward,
    ) -> Result<LossAndGradient, PluginError>;

    /// Adds `gradient`, the gradient of embeddings that [`LanguageModel::embed`] has looked up, to that of
    /// the embedding table. Does nothing when the model is not trained.
    ///
    /// # Shapes
    ///
    /// `ids [length]`, `gradient [length, width]` of `f32`.
    ///
    /// # Errors
    ///
    /// When training has not begun, the shape does not fit, or an id is not below the vocabulary's size.
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

/// What a trainable language model does besides, whatever its type.
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

/// Keeps a model's sessions by number, so that only numbers cross the boundary.
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
        // The table is only ever inserted into and removed from: a panic cannot leave it half done.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: SessionId) -> Result<Arc<Mutex<M::Session>>, PluginError> {
        let found = self.table().get(&id).cloned();
        found.ok_or_else(|| PluginError::invalid(format!("session {id} is not open")))
    }

    fn keep(&self, session: M::Session) -> SessionId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.table().insert(id, Arc::new(Mutex::new(session)));
        id
    }
}

fn lock<S>(id: SessionId, session: &Mutex<S>) -> Result<MutexGuard<'_, S>, PluginError> {
    session.lock().map_err(|_| {
        PluginError::invalid(format!(
            "session {id} was left unusable by an earlier panic"
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
        guard("open", || Ok(self.keep(self.model()?.open()?)))
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
                    "expected one token for each session, found {} for {}",
                    tokens.len(),
                    ids.len()
                )));
            }
            // Locked in ascending order, so that two overlapping calls cannot wait for each other.
            let mut order: Vec<usize> = (0..ids.len()).collect();
            order.sort_unstable_by_key(|&i| ids[i]);
            if order.windows(2).any(|pair| ids[pair[0]] == ids[pair[1]]) {
                return Err(PluginError::invalid(
                    "a session was named twice in one decode",
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
            Ok(self.keep(copy))
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

/// A language model behind the ABI: what `load_llm` returns and the host calls.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct LanguageModelObject(LanguageModelAbi_TO<'static, RBox<()>>);

impl LanguageModelObject {
    /// Wraps a language model for the journey across the boundary.
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
    /// As [`LanguageModel::embed`], and [`crate::ErrorKind::Panic`]; so for every method here.
    pub fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        self.0.embed(ids.into()).into_result()
    }

    /// See [`LanguageModel::open`].
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::open`].
    pub fn open(&self) -> Result<SessionId, PluginError> {
        self.0.open().into_result()
    }

    /// Drops a session; an unknown number is ignored.
    pub fn close(&self, session: SessionId) {
        self.0.close(session);
    }

    /// See [`LanguageModel::prefill`].
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::prefill`].
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
    /// As [`LanguageModel::decode`].
    pub fn decode(&self, sessions: &[SessionId], tokens: &[u32]) -> Result<TensorBuf, PluginError> {
        self.0.decode(sessions.into(), tokens.into()).into_result()
    }

    /// See [`LanguageModel::fork`].
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::fork`].
    pub fn fork(&self, session: SessionId) -> Result<SessionId, PluginError> {
        self.0.fork(session).into_result()
    }

    /// See [`LanguageModel::truncate`].
    ///
    /// # Errors
    ///
    /// As [`LanguageModel::truncate`].
    pub fn truncate(&self, session: SessionId, length: usize) -> Result<(), PluginError> {
        self.0.truncate(session, length).into_result()
    }

    /// The parameters, to train them.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::Unsupported`] when the model cannot be trained; so for every method below.
    pub fn training(&self) -> Result<TrainableObject, PluginError> {
        self.0.training().into_result()
    }

    /// See [`TrainableLanguageModel::forward_backward`].
    ///
    /// # Errors
    ///
    /// As [`TrainableLanguageModel::forward_backward`].
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
    /// As [`TrainableLanguageModel::backward_embed`].
    pub fn backward_embed(&self, ids: &[u32], gradient: TensorView<'_>) -> Result<(), PluginError> {
        self.0.backward_embed(ids.into(), gradient).into_result()
    }
}
