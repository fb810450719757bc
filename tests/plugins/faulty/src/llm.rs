//! Language models that sum up their inputs, or fail in various ways.

use merv_plugin_api::{
    LanguageModel, LanguageModelInfo, LogitsAt, PluginError, TensorBuf, TensorView,
};

pub const IDS: [&str; 6] = [
    "fine-llm",
    "panics-in-prefill",
    "panics-in-decode",
    "panics-on-drop",
    "llm-of-no-width",
    "llm-of-other-tokens",
];

const WIDTH: usize = 96;
const VOCAB: usize = 1024;
const CONTEXT: usize = 1024;

pub fn info(id: &str) -> LanguageModelInfo {
    let width = if id == "llm-of-no-width" { 0 } else { WIDTH };
    let end = match id {
        "llm-of-other-tokens" => VOCAB as u32,
        _ => 2,
    };
    LanguageModelInfo::new(width as u32, VOCAB as u32, CONTEXT as u32)
        .bos(Some(1))
        .eos(vec![2, end])
        .cost(0, 0, 4)
}

/// A toy model. The first number of a token's embedding is its id, and the others are 0. After each position, the most
/// likely next token is the sum of all first numbers.
pub struct Toy {
    id: String,
}

/// A session: the first number of every position, and whether dropping it panics.
pub struct ToySession {
    numbers: Vec<f32>,
    explosive: bool,
}

impl Drop for ToySession {
    fn drop(&mut self) {
        if self.explosive {
            panic!("drop blew up, as requested");
        }
    }
}

impl Toy {
    pub fn new(id: &str) -> Self {
        Self { id: id.to_owned() }
    }

    fn explosive(&self) -> bool {
        self.id == "panics-on-drop"
    }

    fn session(&self, numbers: Vec<f32>) -> ToySession {
        ToySession {
            numbers,
            explosive: self.explosive(),
        }
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        if self.explosive() {
            panic!("drop blew up, as requested");
        }
    }
}

fn check_id(id: u32) -> Result<f32, PluginError> {
    if (id as usize) < VOCAB {
        return Ok(id as f32);
    }
    Err(PluginError::invalid(format!(
        "token {id} is not below {VOCAB}"
    )))
}

fn check_length(length: usize) -> Result<(), PluginError> {
    if length <= CONTEXT {
        return Ok(());
    }
    Err(PluginError::invalid(format!(
        "{length} positions do not fit into {CONTEXT}"
    )))
}

fn logits(seen: &[f32]) -> impl Iterator<Item = f32> {
    let likeliest = seen.iter().sum::<f32>().abs() as usize % VOCAB;
    (0..VOCAB).map(move |token| if token == likeliest { 1.0 } else { 0.0 })
}

impl LanguageModel for Toy {
    type Session = ToySession;

    fn info(&self) -> LanguageModelInfo {
        info(&self.id)
    }

    fn embed(&self, ids: &[u32]) -> Result<TensorBuf, PluginError> {
        let mut table = vec![0.0; ids.len() * WIDTH];
        for (row, &id) in table.chunks_exact_mut(WIDTH).zip(ids) {
            row[0] = check_id(id)?;
        }
        TensorBuf::from_vec(table, &[ids.len(), WIDTH])
    }

    fn open(&self) -> Result<ToySession, PluginError> {
        Ok(self.session(Vec::new()))
    }

    fn prefill(
        &self,
        session: &mut ToySession,
        embeds: &TensorView<'_>,
        at: LogitsAt,
    ) -> Result<TensorBuf, PluginError> {
        if self.id == "panics-in-prefill" {
            panic!("prefill blew up, as requested");
        }
        let [length, width] = embeds.dims::<2>()?;
        if width != WIDTH {
            return Err(PluginError::invalid(format!(
                "expected embeddings of width {WIDTH}, found {width}"
            )));
        }
        let before = session.numbers.len();
        check_length(before + length)?;
        session
            .numbers
            .extend(embeds.f32s()?.chunks_exact(WIDTH).map(|row| row[0]));
        let first = length - at.rows(length)?;
        let rows = before + first + 1..=before + length;
        let values = rows
            .flat_map(|end| logits(&session.numbers[..end]))
            .collect();
        TensorBuf::from_vec::<f32>(values, &[length - first, VOCAB])
    }

    fn decode(
        &self,
        sessions: &mut [&mut ToySession],
        tokens: &[u32],
    ) -> Result<TensorBuf, PluginError> {
        if self.id == "panics-in-decode" {
            panic!("decode blew up, as requested");
        }
        let numbers = tokens
            .iter()
            .map(|&id| check_id(id))
            .collect::<Result<Vec<_>, _>>()?;
        sessions
            .iter()
            .try_for_each(|session| check_length(session.numbers.len() + 1))?;
        let mut values = Vec::with_capacity(sessions.len() * VOCAB);
        for (session, number) in sessions.iter_mut().zip(numbers) {
            session.numbers.push(number);
            values.extend(logits(&session.numbers));
        }
        TensorBuf::from_vec::<f32>(values, &[sessions.len(), VOCAB])
    }

    fn fork(&self, session: &ToySession) -> Result<ToySession, PluginError> {
        Ok(self.session(session.numbers.clone()))
    }

    fn truncate(&self, session: &mut ToySession, length: usize) -> Result<(), PluginError> {
        if length > session.numbers.len() {
            return Err(PluginError::invalid("the session has fewer positions"));
        }
        session.numbers.truncate(length);
        Ok(())
    }
}
