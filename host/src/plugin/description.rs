//! Checks of what a plugin says about its models, before the host multiplies and allocates with it.

use crate::{disk::tensor_names::check_names, transform};
use merv_checkpoint::published::mixer_name;
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
/// `states_bytes` is whether the manifest states that it takes clips of bytes.
pub(super) fn plausible_encoder(
    info: &EncoderInfo,
    request: &EncoderRequest,
    states_bytes: bool,
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
        if takes_bytes && !states_bytes {
            return Err(PluginError::new(
                ErrorKind::INTERNAL,
                "it takes clips of bytes, but its manifest does not state the feature `u8-clips`",
            ));
        }
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

/// Refuses parameters that a checkpoint could not contain under their names.
fn storable(parameters: &[ParameterInfo]) -> Result<(), PluginError> {
    let names = parameters.iter().map(|parameter| parameter.name.as_str());
    if let Err(error) = check_names(names.clone()) {
        let message = format!("it describes parameters that cannot be stored: {error}");
        return Err(PluginError::new(ErrorKind::INTERNAL, message));
    }
    let renamed = |name: &&str| mixer_name(name).as_deref() != Some(name);
    match names.into_iter().find(renamed) {
        None => Ok(()),
        Some(name) => Err(PluginError::new(
            ErrorKind::INTERNAL,
            format!(
                "it describes a parameter `{name}`, whose name has a meaning of its own in MERV's checkpoints; expected \
                 a name that does not begin with `model.`, `optimizer.` or `lr_scheduler.`"
            ),
        )),
    }
}

/// Refuses a loaded mixer whose trained parameters are not the described ones.
pub(crate) fn same_parameters(
    described: &[ParameterInfo],
    found: &[ParameterInfo],
) -> Result<(), PluginError> {
    let list = |parameters: &[ParameterInfo]| {
        let shown = parameters
            .iter()
            .map(|info| format!("`{}` {:?}", info.name, info.shape));
        shown.collect::<Vec<_>>().join(", ")
    };
    same("parameters", list(described), list(found))
}

/// Refuses the description of a mixer that is impossible.
pub(super) fn plausible_mixer(info: &MixerInfo) -> Result<(), PluginError> {
    storable(&info.parameters)?;
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
    let dtypes = |info: &EncoderInfo| format!("{:?}", info.clip_dtypes);
    same("dtypes of clips", dtypes(described), dtypes(loaded))?;
    let options = |info: &EncoderInfo| format!("{:?}", info.options);
    same("options", options(described), options(loaded))?;
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
    same("device", described.device, loaded.device)?;
    let options = |info: &LanguageModelInfo| format!("{:?}", info.options);
    same("options", options(described), options(loaded))
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

#[cfg(test)]
mod tests {
    use super::*;
    use merv_plugin_api::{Device, ModelSource, PreprocessSpec};

    fn request() -> EncoderRequest {
        EncoderRequest::new(ModelSource::new("e", Device::CPU), 4)
    }

    fn encoder() -> EncoderInfo {
        EncoderInfo::new(8, 4, [4, 9], PreprocessSpec::new(32))
    }

    fn of_bytes() -> EncoderInfo {
        let mut info = encoder();
        info.clip_dtypes = vec![DType::U8];
        info
    }

    #[test]
    fn parameters_that_cannot_be_stored_are_refused() {
        let mixer = |names: &[&str]| {
            let infos = names.iter();
            let info = infos.fold(MixerInfo::new(1), |info, name| info.parameter(name, &[2]));
            plausible_mixer(&info)
        };
        assert!(mixer(&["projectors.0.w", "feature_fusion.x", "models.x"]).is_ok());
        for (names, words) in [
            (&["a", "b", "a"][..], "two tensors are named `a`"),
            (&["__metadata__"], "reserve"),
            (
                &["model.projectors.0.w"],
                "`model.projectors.0.w`, whose name",
            ),
            (&["model.adapter.x"], "a meaning of its own"),
            (&["model.llm_backbone.llm.x"], "a meaning of its own"),
            (&["optimizer.w"], "a meaning of its own"),
            (&["lr_scheduler.x"], "a meaning of its own"),
        ] {
            let error = mixer(names).unwrap_err();
            assert!(error.message.contains(words), "{error}");
        }
        let huge = MixerInfo::new(1).parameter("w", &[1 << 40, 1 << 40]);
        assert_eq!(huge.parameters[0].elements(), usize::MAX);
        let error = plausible_mixer(&huge).unwrap_err();
        assert!(error.message.contains("impossible mixer"), "{error}");
    }

    #[test]
    fn a_mixer_trains_the_parameters_that_it_described() {
        let two = [ParameterInfo::new("a", [2]), ParameterInfo::new("b", [3])];
        assert!(same_parameters(&two, &two.clone()).is_ok());
        for other in [
            vec![two[0].clone()],
            vec![two[1].clone(), two[0].clone()],
            vec![two[0].clone(), ParameterInfo::new("b", [1, 3])],
            vec![],
        ] {
            let error = same_parameters(&two, &other).unwrap_err();
            assert!(
                error.message.contains("expected `a` [2], `b` [3]"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_loaded_encoder_has_the_options_and_dtypes_that_were_described() {
        let described = encoder().option("gain", 2);
        assert!(same_encoder(&described, &described.clone()).is_ok());
        let error = same_encoder(&described, &encoder().option("gain", 3)).unwrap_err();
        assert!(
            error.message.contains("the options of the loaded model"),
            "{error}"
        );
        let error = same_encoder(&encoder(), &of_bytes()).unwrap_err();
        assert!(error.message.contains("dtypes of clips"), "{error}");
    }

    #[test]
    fn clips_of_bytes_are_stated_in_the_manifest() {
        let info = of_bytes();
        assert!(plausible_encoder(&info, &request(), true).is_ok());
        let error = plausible_encoder(&info, &request(), false).unwrap_err();
        assert!(error.message.contains("feature `u8-clips`"), "{error}");
    }
}
