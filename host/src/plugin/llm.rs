//! A loaded language model and its sessions.

use super::{CallError, Training};
use merv_plugin_api::{
    Backward, ErrorKind, LanguageModelInfo, LanguageModelObject, LogitsAt, LossAndGradient,
    PluginError, SessionId, TensorBuf, TensorView,
};

/// A language model of a plugin, and what it is called in messages.
pub struct LanguageModel {
    plugin: String,
    id: String,
    info: LanguageModelInfo,
    object: LanguageModelObject,
}

/// The memory of one text; closed when dropped.
pub struct Session<'m> {
    model: &'m LanguageModel,
    id: SessionId,
    length: usize,
}

impl LanguageModel {
    pub(super) fn new(plugin: &str, id: &str, object: LanguageModelObject) -> Self {
        Self {
            plugin: plugin.to_owned(),
            id: id.to_owned(),
            info: object.info(),
            object,
        }
    }

    /// What it is.
    pub fn info(&self) -> &LanguageModelInfo {
        &self.info
    }

    /// The embeddings of tokens: `[length]` → `[length, width]`.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn embed(&self, ids: &[u32]) -> Result<TensorBuf, CallError> {
        let shape = [ids.len(), self.info.width as usize];
        self.checked("embed tokens", &shape, self.object.embed(ids))
    }

    /// A session that has seen nothing.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
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

    /// Advances each session by one token: logits `[sessions, vocab_size]`.
    ///
    /// # Errors
    ///
    /// The plugin's answer; the sessions are then as they were.
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
        let logits = self.checked("decode", &shape, self.object.decode(&ids, tokens))?;
        sessions.iter_mut().for_each(|session| session.length += 1);
        Ok(logits)
    }

    /// The parameters, to train them.
    ///
    /// # Errors
    ///
    /// When the model cannot be trained.
    pub fn training(&self) -> Result<Training, CallError> {
        match self.object.training() {
            Ok(object) => Ok(Training::new(&self.plugin, &self.id, object)),
            Err(error) => Err(self.failed("train", error)),
        }
    }

    /// The summed loss of a batch of texts and its gradient by their embeddings; see
    /// [`TrainableLanguageModel::forward_backward`](merv_plugin_api::TrainableLanguageModel).
    ///
    /// # Shapes
    ///
    /// `embeds [batch, length, width]` of `f32`, `mask [batch, length]` of `u8`, `labels [batch, length]`
    /// of `i64` → a gradient `[batch, length, width]`, or `[0]` for [`Backward::LossOnly`]
    ///
    /// # Errors
    ///
    /// The plugin's answer, or that it broke its own promise about the shape.
    pub fn forward_backward(
        &self,
        embeds: TensorView<'_>,
        mask: TensorView<'_>,
        labels: TensorView<'_>,
        what: Backward,
    ) -> Result<LossAndGradient, CallError> {
        let doing = "compute the loss";
        let shape = match what {
            Backward::LossOnly => vec![0],
            Backward::Gradients => embeds.shape().to_vec(),
        };
        let answer = self.object.forward_backward(embeds, mask, labels, what);
        let answer = answer.map_err(|error| self.failed(doing, error))?;
        Ok(LossAndGradient {
            gradient: self.checked(doing, &shape, Ok(answer.gradient))?,
            ..answer
        })
    }

    /// Adds the gradient `[length, width]` of embeddings that [`Self::embed`] has looked up to that of the
    /// embedding table; nothing happens when the model is not trained.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn backward_embed(&self, ids: &[u32], gradient: TensorView<'_>) -> Result<(), CallError> {
        let answer = self.object.backward_embed(ids, gradient);
        answer.map_err(|error| self.failed("go back through the embedding", error))
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
                ErrorKind::Internal,
                format!(
                    "a fault of the plugin: it promised f32 {shape:?} and returned {:?}",
                    tensor.view()
                ),
            ))
        });
        checked.map_err(|error| self.failed(doing, error))
    }
}

impl<'m> Session<'m> {
    /// The model that it belongs to.
    pub fn model(&self) -> &'m LanguageModel {
        self.model
    }

    /// Positions seen.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has seen nothing.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes embeddings `[length, width]` in; logits `[0, 1 or length, vocab_size]` as asked.
    ///
    /// # Errors
    ///
    /// The plugin's answer; the session is then as it was.
    pub fn prefill(
        &mut self,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, CallError> {
        let length = embeds.shape().first().copied().unwrap_or_default();
        let rows = match logits {
            LogitsAt::None => 0,
            LogitsAt::Last => 1,
            LogitsAt::All => length,
        };
        let shape = [rows, self.model.info.vocab_size as usize];
        let answer = self.model.object.prefill(self.id, embeds, logits);
        let logits = self.model.checked("prefill", &shape, answer)?;
        self.length += length;
        Ok(logits)
    }

    /// A second session that has seen the same.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
    pub fn fork(&self) -> Result<Self, CallError> {
        let answer = self.model.object.fork(self.id);
        let id = answer.map_err(|error| self.model.failed("fork a session", error))?;
        Ok(Self {
            model: self.model,
            id,
            length: self.length,
        })
    }

    /// Forgets everything after the first `length` positions.
    ///
    /// # Errors
    ///
    /// The plugin's answer.
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
