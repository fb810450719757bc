//! A loaded language model and its sessions.

use super::{CallError, Training, cancellation::RunningCall};
use merv_plugin_api::{
    Backward, ErrorKind, LanguageModelInfo, LanguageModelObject, LogitsAt, LossAndGradient,
    PluginError, ReadyGradients, SessionId, TensorBuf, TensorView, TrainingTexts,
};

/// A loaded language model with its names for messages.
pub struct LanguageModel {
    plugin: String,
    id: String,
    info: LanguageModelInfo,
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
        object: LanguageModelObject,
    ) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            info,
            object,
        }
    }

    /// Returns the model's description.
    pub fn info(&self) -> &LanguageModelInfo {
        &self.info
    }

    /// Returns the embeddings of tokens: `[length]` → `[length, width]`.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn embed(&self, ids: &[u32]) -> Result<TensorBuf, CallError> {
        let shape = [ids.len(), self.info.width as usize];
        self.checked("embed tokens", &shape, self.object.embed(ids))
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

    /// Advances each session by one token, and returns logits `[sessions, vocab_size]`.
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
        let logits = self.checked("decode", &shape, answer)?;
        sessions.iter_mut().for_each(|session| session.length += 1);
        Ok(logits)
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
    /// A gradient `[batch, length, width]`, or `[0]` for [`Backward::LOSS_ONLY`]
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
        let call = RunningCall::begin();
        let answer = self
            .object
            .forward_backward(call.call(), texts, what, ready);
        let answer = answer.map_err(|error| self.failed(doing, error))?;
        let (loss_sum, tokens) = (answer.loss_sum, answer.tokens);
        let gradient = self.checked(doing, &shape, Ok(answer.gradient))?;
        Ok(LossAndGradient::new(loss_sum, tokens, gradient))
    }

    /// Accumulates the gradient `[length, width]` of embeddings from [`Self::embed`] in the gradient of the
    /// embedding table. Does nothing if the model is not trained.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error.
    pub fn backward_embed(&self, ids: &[u32], gradient: TensorView<'_>) -> Result<(), CallError> {
        let result = self.object.backward_embed(ids, gradient);
        result.map_err(|error| self.failed("run the backward pass of the embedding", error))
    }

    fn failed(&self, doing: &str, error: PluginError) -> CallError {
        CallError::new(&self.plugin, &format!("{doing} with `{}`", self.id), error)
    }

    fn checked(
        &self,
        doing: &str,
        shape: &[usize],
        answer: Result<TensorBuf, PluginError>,
    ) -> Result<TensorBuf, CallError> {
        let checked = answer.and_then(|tensor| {
            if tensor.view().shape() == shape && tensor.view().f32s().is_ok() {
                return Ok(tensor);
            }
            Err(PluginError::new(
                ErrorKind::INTERNAL,
                format!(
                    "a bug in the plugin: expected f32 {shape:?}, but it returned {:?}",
                    tensor.view()
                ),
            ))
        });
        checked.map_err(|error| self.failed(doing, error))
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

    /// Appends embeddings `[length, width]`, and returns logits `[0, 1 or length, vocab_size]` as requested.
    ///
    /// # Errors
    ///
    /// Returns the plugin's error. The session is unchanged then.
    pub fn prefill(
        &mut self,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, CallError> {
        let length = embeds.shape().first().copied().unwrap_or_default();
        let rows = logits.rows(length);
        let rows = rows.map_err(|error| self.model.failed("prefill", error))?;
        let shape = [rows, self.model.info.vocab_size as usize];
        let (call, object) = (RunningCall::begin(), &self.model.object);
        let answer = object.prefill(call.call(), self.id, embeds, logits);
        let logits = self.model.checked("prefill", &shape, answer)?;
        self.length += length;
        Ok(logits)
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
