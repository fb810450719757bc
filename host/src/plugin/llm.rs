//! A loaded language model and its sessions.

use super::{CallError, Input, PluginTensor, Training, cancellation::RunningCall, device::Place};
use merv_plugin_api::{
    Backward, LanguageModelInfo, LanguageModelObject, LogitsAt, LossAndGradient, PluginError,
    ReadyGradients, SessionId, TensorBuf, TensorView, TrainingTexts,
};

/// A loaded language model with its names for messages.
pub struct LanguageModel {
    plugin: String,
    id: String,
    info: LanguageModelInfo,
    place: Place,
    object: LanguageModelObject,
}

/// The state of the model for one text. It is closed when it is dropped.
pub struct Session<'m> {
    model: &'m LanguageModel,
    id: SessionId,
    length: usize,
}

impl LanguageModel {
    pub(super) fn new(
        plugin: &str,
        id: &str,
        info: LanguageModelInfo,
        place: Place,
        object: LanguageModelObject,
    ) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            info,
            place,
            object,
        }
    }

    /// Returns the model's description.
    pub fn info(&self) -> &LanguageModelInfo {
        &self.info
    }

    /// Returns the embeddings of tokens: `[length]` → `[length, width]`. They stay where the model returns them.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn embed(&self, ids: &[u32]) -> Result<PluginTensor, CallError> {
        let shape = [ids.len(), self.info.width as usize];
        self.returned("embed tokens", &shape, self.object.embed(ids))
    }

    /// Opens an empty session.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn open(&self) -> Result<Session<'_>, CallError> {
        let id = self
            .object
            .open()
            .map_err(|error| self.failed("open a session", error))?;
        Ok(Session {
            model: self,
            id,
            length: 0,
        })
    }

    /// Advances each session by one token, and returns logits `[sessions, vocab_size]` in main memory.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error. The sessions are unchanged then.
    pub fn decode(
        &self,
        sessions: &mut [&mut Session<'_>],
        tokens: &[u32],
    ) -> Result<TensorBuf, CallError> {
        if sessions
            .iter()
            .any(|session| !std::ptr::eq(session.model, self))
        {
            let error = PluginError::invalid("a session belongs to another language model");
            return Err(self.failed("decode", error));
        }
        let ids: Vec<SessionId> = sessions.iter().map(|session| session.id).collect();
        let shape = [ids.len(), self.info.vocab_size as usize];
        let call = RunningCall::begin();
        let answer = self.object.decode(call.call(), &ids, tokens);
        let logits = self.returned("decode", &shape, answer)?;
        sessions.iter_mut().for_each(|session| session.length += 1);
        logits.into_main()
    }

    /// Returns the parameters for training.
    ///
    /// # Errors
    ///
    /// Returns an error if the model cannot be trained.
    pub fn training(&self) -> Result<Training, CallError> {
        match self.object.training() {
            Ok(object) => Ok(Training::new(&self.plugin, &self.id, object)),
            Err(error) => Err(self.failed("train", error)),
        }
    }

    /// Returns the summed loss of a batch of texts and its gradient with respect to their embeddings. See
    /// [`TrainableLanguageModel::forward_backward`](merv_plugin_api::TrainableLanguageModel).
    ///
    /// # Shapes
    ///
    /// A gradient `[batch, length, width]` in main memory, or `[0]` for [`Backward::LOSS_ONLY`]
    ///
    /// # Errors
    ///
    /// Returns the plugin's error, an error if the gradient does not have the expected shape, and any error of `ready`.
    pub fn forward_backward(
        &self,
        texts: &TrainingTexts<'_>,
        what: Backward,
        ready: &mut ReadyGradients<'_>,
    ) -> Result<LossAndGradient, CallError> {
        let doing = "compute the loss";
        let shape = match what {
            Backward::LOSS_ONLY => vec![0],
            _ => texts.embeds.shape().to_vec(),
        };
        let embeds = self.place.place(texts.embeds.into());
        let answer = embeds.and_then(|embeds| {
            let texts = TrainingTexts::new(embeds.view(), texts.mask, texts.labels);
            let call = RunningCall::begin();
            let object = &self.object;
            object.forward_backward(call.call(), &texts, what, ready)
        });
        let answer = answer.map_err(|error| self.failed(doing, error))?;
        let (loss_sum, tokens) = (answer.loss_sum, answer.tokens);
        let gradient = self.returned(doing, &shape, Ok(answer.gradient))?;
        Ok(LossAndGradient::new(
            loss_sum,
            tokens,
            gradient.into_main()?,
        ))
    }

    /// Accumulates the gradient `[length, width]` of embeddings from [`Self::embed`] in the gradient of the
    /// embedding table. Does nothing if the model is not trained.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn backward_embed(&self, ids: &[u32], gradient: TensorView<'_>) -> Result<(), CallError> {
        let gradient = self.place.place(Input::Host(gradient));
        let result = gradient.and_then(|gradient| self.object.backward_embed(ids, gradient.view()));
        result.map_err(|error| self.failed("run the backward pass of the embedding", error))
    }

    fn failed(&self, doing: &str, error: PluginError) -> CallError {
        CallError::new(&self.plugin, &format!("{doing} with `{}`", self.id), error)
    }

    fn returned(
        &self,
        doing: &str,
        shape: &[usize],
        answer: Result<TensorBuf, PluginError>,
    ) -> Result<PluginTensor, CallError> {
        let returned = answer.and_then(|tensor| self.place.returned(tensor, shape));
        returned.map_err(|error| self.failed(doing, error))
    }
}

impl<'m> Session<'m> {
    /// Returns the model that the session belongs to.
    pub fn model(&self) -> &'m LanguageModel {
        self.model
    }

    /// Returns the number of positions in the session.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns whether the session is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends embeddings `[length, width]`, and returns logits `[0, 1 or length, vocab_size]` in main memory, as requested.
    /// The embeddings are copied only if they are not where the model takes them.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error. The session is unchanged then.
    pub fn prefill<'a>(
        &mut self,
        embeds: impl Into<Input<'a>>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, CallError> {
        let (embeds, model) = (embeds.into(), self.model);
        let length = embeds.shape().first().copied().unwrap_or_default();
        let rows = logits.rows(length);
        let rows = rows.map_err(|error| model.failed("prefill", error))?;
        let shape = [rows, model.info.vocab_size as usize];
        let placed = model.place.place(embeds);
        let answer = placed.and_then(|embeds| {
            let (call, object) = (RunningCall::begin(), &model.object);
            object.prefill(call.call(), self.id, embeds.view(), logits)
        });
        let logits = model.returned("prefill", &shape, answer)?;
        self.length += length;
        logits.into_main()
    }

    /// Returns a copy of the session.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn fork(&self) -> Result<Self, CallError> {
        let answer = self.model.object.fork(self.id);
        let id = answer.map_err(|error| self.model.failed("fork a session", error))?;
        Ok(Self {
            model: self.model,
            id,
            length: self.length,
        })
    }

    /// Removes everything after the first `length` positions.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn truncate(&mut self, length: usize) -> Result<(), CallError> {
        let answer = self.model.object.truncate(self.id, length);
        answer.map_err(|error| self.model.failed("truncate a session", error))?;
        self.length = length;
        Ok(())
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.model.object.close(self.id);
    }
}
