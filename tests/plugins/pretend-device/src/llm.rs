//! A language model: the logits of a position are the products of all tokens' embeddings with the sum of the embeddings
//! up to it.

use crate::{memory, present};
use merv_plugin_api::{
    Device, LanguageModel, LanguageModelInfo, LanguageModelRequest, LogitsAt, PluginError,
    TensorBuf, TensorView,
};

pub const ID: &str = "pretend-llm";

const WIDTH: usize = 96;
const VOCABULARY: usize = 1024;
const CONTEXT: usize = 1024;

pub fn describe(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
    let model = &request.model;
    if model.id != ID {
        return Err(PluginError::unsupported(format!(
            "no language model `{}`",
            model.id
        )));
    }
    Ok(
        LanguageModelInfo::new(WIDTH as u32, VOCABULARY as u32, CONTEXT as u32)
            .bos(Some(1))
            .eos(vec![2])
            .device(present(model.device)?)
            .cost(0, 0, (WIDTH * 4) as u64),
    )
}

pub struct Toy {
    info: LanguageModelInfo,
}

/// The embeddings that a session has read: `[length, WIDTH]`.
pub type Session = Vec<f32>;

impl Toy {
    pub fn load(request: &LanguageModelRequest) -> Result<Self, PluginError> {
        Ok(Self {
            info: describe(request)?,
        })
    }

    fn device(&self) -> Device {
        self.info.device
    }

    fn logits(&self, rows: Vec<f32>) -> Result<TensorBuf, PluginError> {
        let shape = [rows.len() / VOCABULARY, VOCABULARY];
        memory::result(rows, self.device(), &shape)
    }
}

/// The embedding of a token: numbers between -0.5 and 0.5 that look random.
fn embedding(id: u32) -> Result<impl Iterator<Item = f32>, PluginError> {
    if id as usize >= VOCABULARY {
        return Err(PluginError::invalid(format!(
            "token {id} is not below {VOCABULARY}"
        )));
    }
    let mixed = move |column: u32| (id * 97 + column * 31 + 7).wrapping_mul(2_654_435_761) >> 16;
    Ok((0..WIDTH as u32).map(move |column| mixed(column) as f32 / 65536.0 - 0.5))
}

/// The logits after the positions of `seen`.
fn logits_after(seen: &[f32]) -> Result<Vec<f32>, PluginError> {
    let mut sum = [0.0f32; WIDTH];
    for row in seen.chunks_exact(WIDTH) {
        sum.iter_mut()
            .zip(row)
            .for_each(|(sum, value)| *sum += value);
    }
    let product = |id| Ok(embedding(id)?.zip(sum).map(|(a, b)| a * b).sum());
    (0..VOCABULARY as u32).map(product).collect()
}

fn fits(length: usize) -> Result<(), PluginError> {
    match length <= CONTEXT {
        true => Ok(()),
        false => Err(PluginError::invalid(format!(
            "{length} positions do not fit into {CONTEXT}"
        ))),
    }
}

impl LanguageModel for Toy {
    type Session = Session;

    fn info(&self) -> LanguageModelInfo {
        self.info.clone()
    }

    fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        let mut rows = Vec::with_capacity(ids.len() * WIDTH);
        for &id in ids {
            rows.extend(embedding(id)?);
        }
        memory::result(rows, self.device(), &[ids.len(), WIDTH])
    }

    fn open(&self) -> Result<Session, PluginError> {
        Ok(Vec::new())
    }

    fn prefill(
        &self,
        session: &mut Session,
        embeds: &TensorView<'_>,
        at: LogitsAt,
    ) -> Result<TensorBuf, PluginError> {
        let [length, width] = embeds.dims::<2>()?;
        if width != WIDTH {
            return Err(PluginError::invalid(format!(
                "expected embeddings of width {WIDTH}, found {width}"
            )));
        }
        let before = session.len() / WIDTH;
        fits(before + length)?;
        let first = length - at.rows(length)?;
        session.extend(memory::input(embeds)?);
        let mut rows = Vec::new();
        for end in before + first + 1..=before + length {
            rows.extend(logits_after(&session[..end * WIDTH])?);
        }
        self.logits(rows)
    }

    fn decode(
        &self,
        sessions: &mut [&mut Session],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError> {
        sessions
            .iter()
            .try_for_each(|session| fits(session.len() / WIDTH + 1))?;
        let new = tokens
            .iter()
            .map(|&id| embedding(id))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rows = Vec::with_capacity(sessions.len() * VOCABULARY);
        for (session, row) in sessions.iter_mut().zip(new) {
            session.extend(row);
            rows.extend(logits_after(session)?);
        }
        self.logits(rows)
    }

    fn fork(&self, session: &Session) -> Result<Session, PluginError> {
        Ok(session.clone())
    }

    fn truncate(&self, session: &mut Session, length: usize) -> Result<(), PluginError> {
        if length > session.len() / WIDTH {
            return Err(PluginError::invalid("the session has fewer positions"));
        }
        session.truncate(length * WIDTH);
        Ok(())
    }
}
