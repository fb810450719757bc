use super::{
    error::{Wire, WireError, answer, receive},
    sessions::Sessions,
    text,
    training::{HostClosure, TrainableObject, WireReady, ready, tell_ready, untrainable},
};
use crate::{
    Backward, Call, LanguageModel, LanguageModelInfo, LogitsAt, LossAndGradient, PluginError,
    ReadyGradients, SessionId, TensorBuf, TensorView, TrainableLanguageModel, TrainingTexts,
    guarded::Guarded,
};
use abi_stable::{
    StableAbi, sabi_trait,
    std_types::{RBox, RResult, RSlice, RString},
    type_level::downcasting::TD_Opaque,
};
use std::sync::Arc;

/// The fields of a [`LossAndGradient`].
#[repr(C)]
#[derive(StableAbi)]
pub struct WireLossAndGradient {
    loss_sum: f64,
    tokens: u64,
    gradient: TensorBuf,
}

#[sabi_trait]
pub trait LanguageModelAbi: Send + Sync {
    /// Returns a [`LanguageModelInfo`] as text.
    fn info(&self) -> RResult<RString, WireError>;
    fn embed(&self, ids: RSlice<'_, u32>) -> RResult<TensorBuf, WireError>;
    fn open(&self) -> RResult<SessionId, WireError>;
    fn close(&self, session: SessionId);
    fn prefill(
        &self,
        call: Call,
        session: SessionId,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> RResult<TensorBuf, WireError>;
    fn decode(
        &self,
        call: Call,
        sessions: RSlice<'_, SessionId>,
        tokens: RSlice<'_, u32>,
    ) -> RResult<TensorBuf, WireError>;
    fn fork(&self, session: SessionId) -> RResult<SessionId, WireError>;
    fn truncate(&self, session: SessionId, length: usize) -> RResult<(), WireError>;
    fn training(&self) -> RResult<TrainableObject, WireError>;
    fn forward_backward(
        &self,
        call: Call,
        embeds: TensorView<'_>,
        mask: TensorView<'_>,
        labels: TensorView<'_>,
        what: Backward,
        ready: WireReady<'_>,
    ) -> RResult<WireLossAndGradient, WireError>;
    #[sabi(last_prefix_field)]
    fn backward_embed(
        &self,
        ids: RSlice<'_, u32>,
        gradient: TensorView<'_>,
    ) -> RResult<(), WireError>;
}

/// The training methods of a language model, without its type.
trait LanguageModelTraining: Send + Sync {
    fn training(&self) -> TrainableObject;
    fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, PluginError>;
    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError>;
}

impl<M: TrainableLanguageModel> LanguageModelTraining for Arc<M> {
    fn training(&self) -> TrainableObject {
        TrainableObject::new(Self::clone(self))
    }

    fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, PluginError> {
        M::forward_backward(self, texts, what, ready)
    }

    fn backward_embed(&self, ids: &[u32], gradient: &TensorView<'_>) -> Result<(), PluginError> {
        M::backward_embed(self, ids, gradient)
    }
}

struct Adapter<M: LanguageModel> {
    info: Result<LanguageModelInfo, PluginError>,
    /// Dropped before the model.
    sessions: Sessions<M::Session>,
    training: Option<Guarded<Box<dyn LanguageModelTraining>>>,
    model: Guarded<Arc<M>>,
}

impl<M: LanguageModel> Adapter<M> {
    fn training(&self) -> Result<&dyn LanguageModelTraining, PluginError> {
        match &self.training {
            Some(training) => Ok(&**training.get()?),
            None => Err(untrainable()),
        }
    }
}

impl<M: LanguageModel> LanguageModelAbi for Adapter<M> {
    fn info(&self) -> Wire<RString> {
        answer("info", || {
            text::write(self.info.as_ref().map_err(Clone::clone)?)
        })
    }

    fn embed(&self, ids: RSlice<'_, u32>) -> Wire<TensorBuf> {
        answer("embed", || self.model.get()?.embed(ids.as_slice()))
    }

    fn open(&self) -> Wire<SessionId> {
        answer("open", || {
            Ok(self.sessions.insert(self.model.get()?.open()?))
        })
    }

    fn close(&self, session: SessionId) {
        self.sessions.close(session);
    }

    fn prefill(
        &self,
        call: Call,
        session: SessionId,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> Wire<TensorBuf> {
        answer("prefill", || {
            let model = self.model.get()?;
            self.sessions.with(session, |state| {
                call.serve(|| model.prefill(state, &embeds, logits))
            })
        })
    }

    fn decode(
        &self,
        call: Call,
        sessions: RSlice<'_, SessionId>,
        tokens: RSlice<'_, u32>,
    ) -> Wire<TensorBuf> {
        answer("decode", || {
            let (ids, tokens) = (sessions.as_slice(), tokens.as_slice());
            if ids.len() != tokens.len() {
                return Err(PluginError::invalid(format!(
                    "expected one token for each session, found {} tokens for {} sessions",
                    tokens.len(),
                    ids.len()
                )));
            }
            let model = self.model.get()?;
            self.sessions
                .with_all(ids, |states| call.serve(|| model.decode(states, tokens)))
        })
    }

    fn fork(&self, session: SessionId) -> Wire<SessionId> {
        answer("fork", || {
            let model = self.model.get()?;
            let copy = self.sessions.with(session, |state| model.fork(state))?;
            Ok(self.sessions.insert(copy))
        })
    }

    fn truncate(&self, session: SessionId, length: usize) -> Wire<()> {
        answer("truncate", || {
            let model = self.model.get()?;
            self.sessions
                .with(session, |state| model.truncate(state, length))
        })
    }

    fn training(&self) -> Wire<TrainableObject> {
        answer("training", || Ok(self.training()?.training()))
    }

    fn forward_backward(
        &self,
        call: Call,
        embeds: TensorView<'_>,
        mask: TensorView<'_>,
        labels: TensorView<'_>,
        what: Backward,
        mut ready: WireReady<'_>,
    ) -> Wire<WireLossAndGradient> {
        answer("forward_backward", || {
            let model = self.training()?;
            let texts = TrainingTexts::new(embeds, mask, labels);
            let result =
                call.serve(|| model.forward_backward(&texts, what, &mut tell_ready(&mut ready)))?;
            Ok(WireLossAndGradient {
                loss_sum: result.loss_sum,
                tokens: result.tokens,
                gradient: result.gradient,
            })
        })
    }

    fn backward_embed(&self, ids: RSlice<'_, u32>, gradient: TensorView<'_>) -> Wire<()> {
        answer("backward_embed", || {
            self.training()?.backward_embed(ids.as_slice(), &gradient)
        })
    }
}

/// A language model behind the ABI. `load_llm` returns it, and the host calls it.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct LanguageModelObject(LanguageModelAbi_TO<'static, RBox<()>>);

impl LanguageModelObject {
    /// Wraps a language model for the host.
    pub fn new<M: LanguageModel>(model: M) -> Self {
        Self::wrap(Guarded::new(Arc::new(model)), None)
    }

    /// Wraps a language model that can be trained.
    pub fn trainable<M: TrainableLanguageModel>(model: M) -> Self {
        let model = Arc::new(model);
        let training: Box<dyn LanguageModelTraining> = Box::new(Arc::clone(&model));
        Self::wrap(Guarded::new(model), Some(Guarded::new(training)))
    }

    fn wrap<M: LanguageModel>(
        model: Guarded<Arc<M>>,
        training: Option<Guarded<Box<dyn LanguageModelTraining>>>,
    ) -> Self {
        // `info` is called here, inside the guard of `load_llm`. If it panics, the models are dropped guarded.
        let info = model.get().map(|model| model.info());
        let adapter = Adapter {
            info,
            sessions: Sessions::new(["session", "open"]),
            training,
            model,
        };
        Self(LanguageModelAbi_TO::from_value(adapter, TD_Opaque))
    }

    /// See [`LanguageModel::info`].
    ///
    /// # Errors
    ///
    /// When this version cannot read the description.
    pub fn info(&self) -> Result<LanguageModelInfo, PluginError> {
        text::received(self.0.info())
    }

    /// See [`LanguageModel::embed`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::embed`], and [`crate::ErrorKind::PANIC`], which every method here may return.
    pub fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        receive(self.0.embed(ids.into()))
    }

    /// See [`LanguageModel::open`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::open`].
    pub fn open(&self) -> Result<SessionId, PluginError> {
        receive(self.0.open())
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
        call: Call,
        session: SessionId,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError> {
        receive(self.0.prefill(call, session, embeds, logits))
    }

    /// See [`LanguageModel::decode`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::decode`].
    pub fn decode(
        &self,
        call: Call,
        sessions: &[SessionId],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError> {
        receive(self.0.decode(call, sessions.into(), tokens.into()))
    }

    /// See [`LanguageModel::fork`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::fork`].
    pub fn fork(&self, session: SessionId) -> Result<SessionId, PluginError> {
        receive(self.0.fork(session))
    }

    /// See [`LanguageModel::truncate`].
    ///
    /// # Errors
    ///
    /// As for [`LanguageModel::truncate`].
    pub fn truncate(&self, session: SessionId, length: usize) -> Result<(), PluginError> {
        receive(self.0.truncate(session, length))
    }

    /// Returns the parameters, for training.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::UNSUPPORTED`] when the model cannot be trained. The methods below return the
    /// same error.
    pub fn training(&self) -> Result<TrainableObject, PluginError> {
        receive(self.0.training())
    }

    /// See [`TrainableLanguageModel::forward_backward`].
    ///
    /// # Errors
    ///
    /// As for [`TrainableLanguageModel::forward_backward`].
    pub fn forward_backward(
        &self,
        call: Call,
        texts: &TrainingTexts<'_>,
        what: Backward,
        on_ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, PluginError> {
        let mut closure = HostClosure(on_ready);
        let TrainingTexts {
            embeds,
            mask,
            labels,
        } = *texts;
        let ready = ready(&mut closure);
        let result = self
            .0
            .forward_backward(call, embeds, mask, labels, what, ready);
        let result = receive(result)?;
        Ok(LossAndGradient::new(
            result.loss_sum,
            result.tokens,
            result.gradient,
        ))
    }

    /// See [`TrainableLanguageModel::backward_embed`].
    ///
    /// # Errors
    ///
    /// As for [`TrainableLanguageModel::backward_embed`].
    pub fn backward_embed(&self, ids: &[u32], gradient: TensorView<'_>) -> Result<(), PluginError> {
        receive(self.0.backward_embed(ids.into(), gradient))
    }
}
