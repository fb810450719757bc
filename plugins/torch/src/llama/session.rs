//! Answering: texts that grow.

use super::network::{Cache, Llama};
use crate::{
    failure::{Failure, Result},
    model::Model,
    tensor::{copied_as, given, size},
};
use merv_plugin_api::{
    LanguageModel, LanguageModelInfo, LogitsAt, PluginError, TensorBuf, TensorView,
};
use tch::{Device, Kind, Tensor, no_grad};

/// The state of one text.
pub struct Session {
    length: usize,
    /// One for each layer, or none while the session is empty.
    caches: Vec<Cache>,
}

impl Model<LanguageModelInfo, Llama> {
    /// Checks ids of tokens, and returns them as a tensor.
    pub fn check_ids(&self, ids: &[u32]) -> Result<Tensor> {
        let vocab = self.info.vocab_size;
        if let Some(id) = ids.iter().find(|&&id| id >= vocab) {
            let message = format!("expected ids of tokens below {vocab}, found {id}");
            return Err(PluginError::invalid(message).into());
        }
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Ok(Tensor::f_from_slice(&ids)?)
    }

    fn check_room(&self, session: &Session, more: usize) -> Result<(), PluginError> {
        let limit = self.info.context_length as usize;
        match session.length + more <= limit {
            true => Ok(()),
            false => Err(PluginError::invalid(format!(
                "the session has {} positions, and {more} more exceed the context length of {limit}",
                session.length
            ))),
        }
    }

    fn prefilled(
        &self,
        session: &mut Session,
        embeds: &TensorView<'_>,
        at: LogitsAt,
    ) -> Result<Tensor> {
        let length = embeds.shape().first().copied().unwrap_or_default();
        let embeds = copied_as("embeddings", embeds, &[length, self.info.width as usize])?;
        let rows = at.rows(length)?;
        self.check_room(session, length)?;
        if length == 0 {
            return Ok(Tensor::f_zeros(
                [0, i64::from(self.info.vocab_size)],
                (Kind::Float, Device::Cpu),
            )?);
        }
        let inner = self.lock();
        no_grad(|| {
            let network = &inner.0;
            let (hidden, caches) = network.append(&embeds, &session.caches, session.length)?;
            let last = hidden
                .f_squeeze_dim(0)?
                .f_narrow(0, size(length - rows), size(rows))?;
            let logits = network.head.forward(&last)?;
            *session = Session {
                length: session.length + length,
                caches,
            };
            Ok(logits)
        })
    }

    fn decoded(&self, sessions: &mut [&mut Session], tokens: &[u32]) -> Result<Tensor> {
        let ids = self.check_ids(tokens)?;
        sessions
            .iter()
            .try_for_each(|session| self.check_room(session, 1))?;
        let inner = self.lock();
        no_grad(|| {
            let network = &inner.0;
            let embeds = network.embeddings.f_index_select(0, &ids)?;
            let (mut rows, mut next) = (Vec::new(), Vec::new());
            for (index, session) in sessions.iter().enumerate() {
                let embed = embeds.f_narrow(0, size(index), 1)?;
                let (hidden, caches) = network.append(&embed, &session.caches, session.length)?;
                rows.push(hidden.f_squeeze_dim(0)?);
                next.push(caches);
            }
            let logits = network.head.forward(&Tensor::f_cat(&rows, 0)?)?;
            for (session, caches) in sessions.iter_mut().zip(next) {
                session.length += 1;
                session.caches = caches;
            }
            Ok(logits)
        })
    }
}

impl LanguageModel for Model<LanguageModelInfo, Llama> {
    type Session = Session;

    fn info(&self) -> LanguageModelInfo {
        self.info.clone()
    }

    fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        let ids = self.check_ids(ids)?;
        let inner = self.lock();
        let rows = no_grad(|| inner.0.embeddings.f_index_select(0, &ids));
        Ok(given(&rows.map_err(Failure::from)?)?)
    }

    fn open(&self) -> Result<Session, PluginError> {
        Ok(Session {
            length: 0,
            caches: Vec::new(),
        })
    }

    fn prefill(
        &self,
        session: &mut Session,
        embeds: &TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError> {
        Ok(given(&self.prefilled(session, embeds, logits)?)?)
    }

    fn decode(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError> {
        Ok(given(&self.decoded(sessions, tokens)?)?)
    }

    fn fork(&self, session: &Session) -> Result<Session, PluginError> {
        let caches = session.caches.iter();
        Ok(Session {
            length: session.length,
            caches: caches
                .map(|(k, v)| (k.shallow_clone(), v.shallow_clone()))
                .collect(),
        })
    }

    fn truncate(&self, session: &mut Session, length: usize) -> Result<(), PluginError> {
        if length > session.length {
            let known = session.length;
            let message = format!("the session has {known} positions, fewer than {length}");
            return Err(PluginError::invalid(message));
        }
        let shorter = |tensor: &Tensor| tensor.f_narrow(2, 0, size(length));
        let caches = session
            .caches
            .iter()
            .map(|(k, v)| Ok((shorter(k)?, shorter(v)?)));
        let caches = caches.collect::<Result<_>>()?;
        *session = Session { length, caches };
        Ok(())
    }
}
