//! Checks of what a plugin says about its models, before the host multiplies and allocates with it.

use crate::transform;
use merv_plugin_api::{
    DType, EncoderInfo, EncoderRequest, ErrorKind, LanguageModelInfo, MixerInfo, ParameterInfo,
    PluginError, ResizeDomain,
};
use std::fmt;

/// The maximum of each size in a plugin's description. The host multiplies the sizes and allocates memory
/// for them.
const MAX_SIZE: u32 = 1 << 24;

/// The maximum number of elements of a mixer's parameter.
const MAX_PARAMETER: usize = 1 << 36;

/// Refuses the description of an encoder that is impossible or does not match the request.
pub(super) fn plausible_encoder(
    info: &EncoderInfo,
    request: &EncoderRequest,
) -> Result<(), PluginError> {
    let sizes = [info.width, info.image_size(), info.temporal, info.spatial];
    if info.num_frames == request.num_frames
        && sizes.iter().all(|size| (1..=MAX_SIZE).contains(size))
        && info
            .temporal
            .checked_mul(info.spatial)
            .is_some_and(|tokens| tokens <= MAX_SIZE)
    {
        let takes_bytes = info.clip_dtypes.contains(&DType::U8);
        if takes_bytes && info.preprocess.domain != ResizeDomain::PILLOW_U8 {
            return Err(PluginError::new(
                ErrorKind::INTERNAL,
                "it takes clips of bytes, which need the resize domain pillow-u8",
            ));
        }
        return transform::check_spec(&info.preprocess)
            .map_err(|error| PluginError::new(ErrorKind::INTERNAL, error));
    }
    Err(PluginError::new(
        ErrorKind::INTERNAL,
        format!(
            "it describes an impossible encoder for {} frames: width {}, {} frames, images of {} pixels, \
             {} · {} features",
            request.num_frames,
            info.width,
            info.num_frames,
            info.image_size(),
            info.temporal,
            info.spatial
        ),
    ))
}

/// Refuses the description of a language model that is impossible.
pub(super) fn plausible_llm(info: &LanguageModelInfo) -> Result<(), PluginError> {
    let sizes = [info.width, info.vocab_size, info.context_length];
    if sizes.iter().all(|size| (1..=MAX_SIZE).contains(size)) {
        return Ok(());
    }
    let [width, vocabulary, context] = sizes;
    let message = format!(
        "it describes an impossible language model: width {width}, {vocabulary} tokens, a context of {context}"
    );
    Err(PluginError::new(ErrorKind::INTERNAL, message))
}

/// Refuses a loaded language model whose tokens that begin or end a text are outside of its vocabulary.
pub(super) fn knows_its_tokens(info: &LanguageModelInfo) -> Result<(), PluginError> {
    let mut tokens = info.bos.iter().chain(&info.eos);
    match tokens.find(|&&id| id >= info.vocab_size) {
        None => Ok(()),
        Some(id) => Err(PluginError::weights(format!(
            "its tokens that begin and end a text do not belong to its vocabulary: expected ids below {}, found {id}; \
             correct `bos_token_id` or `eos_token_id` in its config",
            info.vocab_size
        ))),
    }
}

/// Refuses the description of a mixer that is impossible.
pub(super) fn plausible_mixer(info: &MixerInfo) -> Result<(), PluginError> {
    let elements = |parameter: &ParameterInfo| {
        let mut sizes = parameter.shape.iter();
        sizes.try_fold(1usize, |product, &size| product.checked_mul(size))
    };
    let too_large = info
        .parameters
        .iter()
        .find(|&parameter| elements(parameter).is_none_or(|count| count > MAX_PARAMETER));
    let message = match (info.tokens, too_large) {
        (1..=MAX_SIZE, None) => return Ok(()),
        (_, Some(parameter)) => format!(
            "it describes an impossible mixer: the parameter `{}` of shape {:?}",
            parameter.name, parameter.shape
        ),
        (tokens, None) => format!("it describes an impossible mixer: {tokens} visual tokens"),
    };
    Err(PluginError::new(ErrorKind::INTERNAL, message))
}

/// Refuses a loaded encoder that is not the one that was planned with.
pub(super) fn same_encoder(
    described: &EncoderInfo,
    loaded: &EncoderInfo,
) -> Result<(), PluginError> {
    let sizes = |info: &EncoderInfo| {
        let EncoderInfo {
            width,
            num_frames,
            temporal,
            spatial,
            ..
        } = info;
        format!("width {width}, {num_frames} frames, {temporal} · {spatial} features")
    };
    same("sizes", sizes(described), sizes(loaded))?;
    same("dtype", described.dtype, loaded.dtype)?;
    same("device", described.device, loaded.device)?;
    let preprocess = |info: &EncoderInfo| format!("{:?}", info.preprocess);
    same("preprocessing", preprocess(described), preprocess(loaded))
}

/// Refuses a loaded language model that is not the one that was planned with. Its vocabulary may differ: only the weights
/// tell how many rows the table of embeddings has.
pub(super) fn same_llm(
    described: &LanguageModelInfo,
    loaded: &LanguageModelInfo,
) -> Result<(), PluginError> {
    same("width", described.width, loaded.width)?;
    let contexts = (described.context_length, loaded.context_length);
    same("context length", contexts.0, contexts.1)?;
    same("dtype", described.dtype, loaded.dtype)?;
    same("device", described.device, loaded.device)
}

/// Refuses a loaded mixer that is not the one that was planned with.
pub(super) fn same_mixer(described: &MixerInfo, loaded: &MixerInfo) -> Result<(), PluginError> {
    let text = |info: &MixerInfo| format!("{info:?}");
    same("description", text(described), text(loaded))
}

fn same<T: PartialEq + fmt::Display>(
    what: &str,
    described: T,
    loaded: T,
) -> Result<(), PluginError> {
    if described == loaded {
        return Ok(());
    }
    let message = format!(
        "a bug in the plugin: the {what} of the loaded model differs from its description; expected {described}, \
         found {loaded}"
    );
    Err(PluginError::new(ErrorKind::INTERNAL, message))
}
