//! The families of encoders: which one an id belongs to, its description, and its network.

use super::{hiera::Hiera, languagebind::LanguageBind, network::Network, vit::Vit, vivit::Vivit};
use crate::{
    failure::Result,
    model::Model,
    placement::Placement,
    weights::{Scope, load},
};
use merv_architectures::{dinov2, hiera, languagebind, siglip, timm, variants, vivit};
use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, PluginError, Provided, feature};

const FEATURES: &[&str] = &[feature::TRAIN, feature::CANCEL, feature::DEVICE_TENSORS];

const SIGLIP: [Provided; siglip::VARIANTS.len()] = variants::provided(&siglip::VARIANTS, FEATURES);
const DINOV2: [Provided; dinov2::VARIANTS.len()] = variants::provided(&dinov2::VARIANTS, FEATURES);
const LANGUAGEBIND: [Provided; languagebind::VARIANTS.len()] =
    variants::provided(&languagebind::VARIANTS, FEATURES);
const VIVIT: [Provided; vivit::VARIANTS.len()] = variants::provided(&vivit::VARIANTS, FEATURES);
const HIERA: [Provided; hiera::VARIANTS.len()] = variants::provided(&hiera::VARIANTS, FEATURES);

/// The encoders of all families.
pub const PROVIDED: [&[Provided]; 5] = [&SIGLIP, &DINOV2, &LANGUAGEBIND, &VIVIT, &HIERA];

/// A family of encoders.
#[derive(Clone, Copy)]
pub enum Family {
    Siglip,
    DinoV2,
    LanguageBind,
    Vivit,
    Hiera,
}

/// In the order of [`PROVIDED`].
const FAMILIES: [Family; 5] = [
    Family::Siglip,
    Family::DinoV2,
    Family::LanguageBind,
    Family::Vivit,
    Family::Hiera,
];

impl Family {
    /// Returns the family of an encoder.
    pub fn of(id: &str) -> Result<Self, PluginError> {
        if id == siglip::WITHOUT_CLASS_TOKEN {
            return Ok(Self::Siglip);
        }
        let has_id = |(_, ids): &(Self, &[Provided])| ids.iter().any(|known| known.id() == id);
        let found = FAMILIES.into_iter().zip(PROVIDED).find(has_id);
        found.map(|(family, _)| family).ok_or_else(|| {
            let known: Vec<_> = PROVIDED
                .iter()
                .flat_map(|ids| *ids)
                .map(Provided::id)
                .collect();
            PluginError::invalid(format!(
                "expected one of the encoders {}; found `{id}`",
                known.join(", ")
            ))
        })
    }

    /// Describes the encoder that is requested.
    pub fn describe(self, request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        let placement = Placement::of(&request.model)?;
        let info = match self {
            Self::Siglip => siglip::describe(request)?.1,
            Self::DinoV2 => dinov2::describe(request)?.1,
            Self::LanguageBind => languagebind::describe(request)?.1,
            Self::Vivit => vivit::describe(request)?.1,
            Self::Hiera => hiera::describe(request)?.1,
        };
        Ok(placed(info, placement))
    }

    /// Loads the encoder that is requested.
    pub fn load(self, request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        Ok(match self {
            Self::Siglip => {
                let ((config, features), info) = siglip::describe(request)?;
                let unused = timm::unused(&config, features, &[]);
                let image_size = info.image_size() as usize;
                model(request, info, &unused, |scope| {
                    Vit::new(&config, features, image_size, scope)
                })?
            }
            Self::DinoV2 => {
                let ((config, features), info) = dinov2::describe(request)?;
                let unused = timm::unused(&config, features, dinov2::UNUSED);
                let image_size = info.image_size() as usize;
                model(request, info, &unused, |scope| {
                    Vit::new(&config, features, image_size, scope)
                })?
            }
            Self::LanguageBind => {
                let ((config, choice), info) = languagebind::describe(request)?;
                let unused = languagebind::unused(&config);
                model(request, info, &unused, |scope| {
                    LanguageBind::new(&config, choice, scope)
                })?
            }
            Self::Vivit => {
                let ((config, choice), info) = vivit::describe(request)?;
                model(request, info, vivit::UNUSED, |scope| {
                    Vivit::new(config, choice, scope)
                })?
            }
            Self::Hiera => {
                let (config, info) = hiera::describe(request)?;
                model(request, info, &hiera::unused(), |scope| {
                    Hiera::new(&config, scope)
                })?
            }
        })
    }
}

fn placed(info: EncoderInfo, placement: Placement) -> EncoderInfo {
    info.device(placement.device)
        .dtype(placement.precision.dtype())
}

/// Loads the network of a described encoder.
fn model<N: Network>(
    request: &EncoderRequest,
    info: EncoderInfo,
    unused: &[impl AsRef<str>],
    build: impl FnOnce(&Scope<'_>) -> Result<N>,
) -> Result<EncoderObject> {
    let placement = Placement::of(&request.model)?;
    let (network, learned) = load(&request.model.weights, unused, placement, build)?;
    let model = Model::new(placed(info, placement), network, learned);
    Ok(EncoderObject::trainable(model))
}
