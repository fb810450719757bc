//! Answering: texts that grow.

use super::{
    cache::{LayerCache, Session},
    network::Llama,
};
use crate::{
    failure::Result,
    layers::attend,
    model::Model,
    tensor::{given, input, size},
};
use merv_architectures::llama::{check_embeds, check_id, check_room, check_truncation};
use merv_plugin_api::{
    Call, LanguageModel, LanguageModelInfo, LogitsAt, PluginError, TensorBuf, TensorView,
};
use tch::{Kind, Tensor, no_grad_guard};

/// The number of sessions that are decoded together. Products of this many rows, no more and no fewer, treat every row in the
/// same way, so that the logits of a session do not depend on the other sessions.
const DECODED_TOGETHER: usize = 8;

impl Llama {
    /// Checks ids of tokens, and takes them to the device.
    pub fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        ids.iter().try_for_each(|&id| check_id(id, &self.config))?;
        let ids: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        Ok(Tensor::f_from_slice(&ids)?.f_to(self.embeddings.device())?)
    }

    /// Runs the new positions of a session, `[1, new, width]`, through all layers → the same, before the final norm. The
    /// session grows by them, or does not change if there is an error.
    fn append(&self, x: Tensor, session: &mut Session) -> Result<Tensor> {
        let new = x.size3()?.1;
        let start = size(session.length);
        check_room(
            session.length,
            usize::try_from(new).unwrap_or(0),
            &self.config,
        )?;
        let positions: Vec<i64> = (start..start + new).collect();
        let rotation = self.rope.at(&positions)?;
        // A single position reads everything.
        let mask = match new {
            1 => None,
            _ => Some(causal(new, start, x.device())?),
        };
        session.make_layers(self.layers.len());
        let mut x = x;
        for (layer, cache) in self.layers.iter().zip(&mut session.layers) {
            Call::current().check()?;
            x = layer.forward(&x, |[q, k, v]| {
                let (q, k) = (rotation.apply(&q)?, rotation.apply(&k)?);
                let (k, v) = cache.append(start, &k.f_get(0)?, &v.f_get(0)?)?;
                attend(&q, &k.f_unsqueeze(0)?, &v.f_unsqueeze(0)?, mask.as_ref())
            })?;
        }
        session.length += usize::try_from(new).unwrap_or(0);
        Ok(x)
    }

    /// Decodes one token of each session together, at most [`DECODED_TOGETHER`] → `[sessions, vocab_size]`. The caches of the
    /// sessions grow, but not their lengths.
    fn decode_together(&self, sessions: &mut [&mut Session], ids: &Tensor) -> Result<Tensor> {
        let count = size(sessions.len());
        let lengths: Vec<i64> = sessions
            .iter()
            .map(|session| size(session.length))
            .collect();
        let rotation = self.rope.at(&lengths)?;
        let x = self.embed(ids)?;
        let padding = size(DECODED_TOGETHER) - count;
        let mut x = x.f_constant_pad_nd([0, 0, 0, padding])?.f_unsqueeze(0)?;
        for session in sessions.iter_mut() {
            session.make_layers(self.layers.len());
        }
        for (index, layer) in self.layers.iter().enumerate() {
            Call::current().check()?;
            x = layer.forward(&x, |[q, k, v]| {
                // The sessions differ in length, so each attends by itself.
                let mut mixed = Vec::with_capacity(DECODED_TOGETHER);
                for (row, session) in (0..).zip(sessions.iter_mut()) {
                    let rotation = rotation.position(row)?;
                    let [q, k, v] = [
                        q.f_narrow(2, row, 1)?,
                        k.f_narrow(2, row, 1)?,
                        v.f_narrow(2, row, 1)?,
                    ];
                    let (q, k) = (rotation.apply(&q)?, rotation.apply(&k)?);
                    let start = size(session.length);
                    let cache = &mut session.layers[index];
                    let (k, v) = cache.append(start, &k.f_get(0)?, &v.f_get(0)?)?;
                    mixed.push(attend(&q, &k.f_unsqueeze(0)?, &v.f_unsqueeze(0)?, None)?);
                }
                Ok(Tensor::f_cat(&mixed, 2)?.f_constant_pad_nd([0, 0, 0, padding])?)
            })?;
        }
        let logits = self.logits(&self.normed(&x.f_squeeze_dim(0)?)?)?;
        Ok(logits.f_narrow(0, 0, count)?)
    }
}

impl Session {
    fn make_layers(&mut self, count: usize) {
        self.layers.resize_with(count, LayerCache::default);
    }
}

/// Which of `past + new` positions each of the last `new` may read.
pub fn causal(new: i64, past: i64, device: tch::Device) -> Result<Tensor> {
    let all = Tensor::f_ones([new, past + new], (Kind::Bool, device))?;
    Ok(all.f_tril(past)?)
}

impl LanguageModel for Model<LanguageModelInfo, Llama> {
    type Session = Session;

    fn info(&self) -> LanguageModelInfo {
        self.info.clone()
    }

    fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        let inner = self.read();
        let _guard = no_grad_guard();
        let ids = inner.network.ids(ids)?;
        Ok(given(&inner.network.embed(&ids)?)?)
    }

    fn open(&self) -> Result<Session, PluginError> {
        Ok(Session::default())
    }

    fn prefill(
        &self,
        session: &mut Session,
        embeds: &TensorView<'_>,
        logits: LogitsAt,
    ) -> Result<TensorBuf, PluginError> {
        let inner = self.read();
        let network = &inner.network;
        let length = check_embeds(embeds, &network.config)?;
        let rows = logits.rows(length)?;
        let _guard = no_grad_guard();
        let x = input(embeds, self.info.device)?;
        let mut computed = || -> Result<TensorBuf> {
            let before = session.length;
            let hidden = network.append(x.f_unsqueeze(0)?, session)?;
            let last = hidden
                .f_squeeze_dim(0)?
                .f_narrow(0, size(length - rows), size(rows))?;
            let logits = network
                .normed(&last)
                .and_then(|normed| network.logits(&normed));
            if logits.is_err() {
                session.length = before;
            }
            given(&logits?)
        };
        Ok(computed()?)
    }

    fn decode(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError> {
        let inner = self.read();
        let network = &inner.network;
        let _guard = no_grad_guard();
        let ids = network.ids(tokens)?;
        for session in sessions.iter() {
            check_room(session.length, 1, &network.config)?;
        }
        let mut computed = || -> Result<TensorBuf> {
            let (mut rows, mut first) = (Vec::new(), 0);
            for group in sessions.chunks_mut(DECODED_TOGETHER) {
                let ids = ids.f_narrow(0, first, size(group.len()))?;
                first += size(group.len());
                rows.push(network.decode_together(group, &ids)?);
            }
            given(&Tensor::f_cat(&rows, 0)?)
        };
        let logits = computed()?;
        for session in sessions {
            session.length += 1;
        }
        Ok(logits)
    }

    fn fork(&self, session: &Session) -> Result<Session, PluginError> {
        Ok(session.fork())
    }

    fn truncate(&self, session: &mut Session, length: usize) -> Result<(), PluginError> {
        check_truncation(session.length, length)?;
        session.length = length;
        Ok(())
    }
}
