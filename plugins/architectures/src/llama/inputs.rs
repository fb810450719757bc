//! The inputs of a language model, checked.

use super::config::Config;
use crate::Result;
use merv_plugin_api::{IGNORED_LABEL, PluginError, TensorView, TrainingTexts};

/// Checks that a token has a row in the embedding table.
///
/// # Errors
///
/// When it does not.
pub fn check_id(id: u32, config: &Config) -> Result<()> {
    match (id as usize) < config.vocab_size {
        true => Ok(()),
        false => Err(PluginError::invalid(format!(
            "expected token ids below {}, found {id}; check that the tokenizer belongs to the model",
            config.vocab_size
        ))),
    }
}

/// Checks that a session of `length` positions has room for `new` ones.
///
/// # Errors
///
/// When it does not.
pub fn check_room(length: usize, new: usize, config: &Config) -> Result<()> {
    let after = length + new;
    match after <= config.max_position_embeddings {
        true => Ok(()),
        false => Err(PluginError::invalid(format!(
            "the text would have {after} tokens, but the context length of the model is {}",
            config.max_position_embeddings
        ))),
    }
}

/// Checks embeddings `[length, width]`, and returns their number.
///
/// # Errors
///
/// When they have another shape, or there are none.
pub fn check_embeds(embeds: &TensorView<'_>, config: &Config) -> Result<usize> {
    let [length, width] = embeds.dims::<2>()?;
    match width == config.hidden_size && length > 0 {
        true => Ok(length),
        false => Err(PluginError::invalid(format!(
            "expected embeddings [length, {}], found {:?}",
            config.hidden_size,
            embeds.shape()
        ))),
    }
}

/// Checks that a session of `length` positions can be cut to `shorter`.
///
/// # Errors
///
/// When it is shorter already.
pub fn check_truncation(length: usize, shorter: usize) -> Result<()> {
    match shorter <= length {
        true => Ok(()),
        false => Err(PluginError::invalid(format!(
            "cannot truncate a session of {length} positions to {shorter}"
        ))),
    }
}

/// Checks the gradient of `ids` embeddings, `[ids, width]`.
///
/// # Errors
///
/// When it has another shape.
pub fn check_embeds_gradient(gradient: &TensorView<'_>, ids: usize, config: &Config) -> Result<()> {
    let width = config.hidden_size;
    match gradient.dims::<2>()? == [ids, width] {
        true => Ok(()),
        false => Err(PluginError::invalid(format!(
            "expected a gradient of shape [{ids}, {width}] for {ids} ids, found {:?}",
            gradient.shape()
        ))),
    }
}

/// Checks the shapes of texts, and returns their number and length.
///
/// # Errors
///
/// When shapes differ, or the texts are longer than the context of the model.
pub fn check_texts(texts: &TrainingTexts<'_>, config: &Config) -> Result<[usize; 2]> {
    let TrainingTexts {
        embeds,
        mask,
        labels,
        ..
    } = texts;
    let [batch, length, width] = embeds.dims::<3>()?;
    let fits = [batch, length] == mask.dims::<2>()? && [batch, length] == labels.dims::<2>()?;
    if !fits || width != config.hidden_size {
        return Err(PluginError::invalid(format!(
            "expected embeddings [batch, length, {}] with a mask and labels [batch, length], found \
             {:?}, {:?} and {:?}",
            config.hidden_size,
            embeds.shape(),
            mask.shape(),
            labels.shape()
        )));
    }
    if length > config.max_position_embeddings {
        return Err(PluginError::invalid(format!(
            "the texts have {length} tokens, but the context length of the model is {}",
            config.max_position_embeddings
        )));
    }
    Ok([batch, length])
}

/// Returns the label that `position` of a text predicts, if it counts.
///
/// # Errors
///
/// When the label is negative.
pub fn predicted(mask: &[u8], labels: &[i64], position: usize) -> Result<Option<u32>> {
    let Some(&label) = labels.get(position + 1) else {
        return Ok(None);
    };
    if mask[position] == 0 || mask[position + 1] == 0 || label == IGNORED_LABEL {
        return Ok(None);
    }
    let label = u32::try_from(label).map_err(|_| {
        PluginError::invalid(format!(
            "expected labels of at least 0, or {IGNORED_LABEL}, found {label}"
        ))
    })?;
    Ok(Some(label))
}

/// Checks that labels are tokens of the vocabulary.
///
/// # Errors
///
/// When one is not.
pub fn check_labels(labels: &[u32], vocabulary: usize) -> Result<()> {
    match labels.iter().find(|&&label| label as usize >= vocabulary) {
        None => Ok(()),
        Some(label) => Err(PluginError::invalid(format!(
            "expected labels below {vocabulary} or -100, found {label}; check that the tokenizer and the \
             model belong together"
        ))),
    }
}
