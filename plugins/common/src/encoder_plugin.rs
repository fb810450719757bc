//! Plugins whose models are encoders.

use crate::{Result, request, threads};
use merv_plugin_api::{EncoderInfo, EncoderObject, EncoderRequest, HostServices, Manifest, Plugin};
use std::{marker::PhantomData, path::PathBuf};

/// What distinguishes one encoder plugin from another. [`EncoderPlugin`] supplies the rest.
pub trait EncoderFamily: 'static {
    /// What [`Self::load`] needs to know about a requested model.
    type Model;

    /// The name, version, licence and encoders of the plugin.
    const MANIFEST: Manifest;

    /// Describes the encoder that is requested. The weights need not be there. The dtype that it computes in is added to
    /// the description.
    ///
    /// # Errors
    ///
    /// When the id is unknown, the config file cannot be read, or the request does not fit the model.
    fn describe(request: &EncoderRequest) -> Result<(Self::Model, EncoderInfo)>;

    /// Loads the encoder that was described from the files of its weights.
    ///
    /// # Errors
    ///
    /// When the weights do not fit.
    fn load(model: Self::Model, info: EncoderInfo, weights: &[PathBuf]) -> Result<EncoderObject>;
}

/// The plugin of a family of encoders: `export_plugin!(EncoderPlugin<MyFamily>)`. It computes with candle on
/// the threads that the host allows.
pub struct EncoderPlugin<F>(PhantomData<F>);

impl<F: EncoderFamily> Plugin for EncoderPlugin<F> {
    const MANIFEST: Manifest = F::MANIFEST.backend("candle");

    fn init(host: &HostServices) -> Result<()> {
        threads::init(host)
    }

    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo> {
        Ok(described::<F>(request)?.1)
    }

    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject> {
        let (model, info) = described::<F>(request)?;
        F::load(model, info, &request.model.weights)
    }
}

/// Describes an encoder in the precision that is requested.
fn described<F: EncoderFamily>(request: &EncoderRequest) -> Result<(F::Model, EncoderInfo)> {
    let precision = request::precision(&request.model)?;
    let (model, info) = F::describe(request)?;
    Ok((model, info.dtype(precision.dtype())))
}
