//! Compatibility of ABI versions: a plugin built for an older minor version can still be loaded. The plugin `older` was
//! built for version 1.0, which had no training. `next_api` is the next minor version of the ABI, for which the plugins
//! of this build are the older ones.

use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::check_layout_compatibility,
    library::{AbiHeaderRef, LibHeader},
    std_types::RString,
};
use merv_host::plugin::Library;
use merv_next_api::{NO_SOUND, PluginModuleRef};
use merv_plugin_api::{Device, EncoderRequest, ErrorKind, ModelSource, ROOT_SYMBOL, TensorView};
use merv_tests::artifacts;

/// The header of a library, which stays loaded.
fn header(target: &str) -> &'static LibHeader {
    // SAFETY: the workspace's own cdylib, whose initialisers do nothing.
    let library = unsafe { libloading::Library::new(artifacts().library(target)) }.unwrap();
    let library = Box::leak(Box::new(library));
    // SAFETY: the contract says that the symbol is a `LibHeader`, and `upgrade` checks it.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()) }.unwrap();
    header.upgrade().unwrap()
}

/// The module as a host of the next minor version sees it. The host's types must include everything that the plugin
/// needs, so the plugin's types are the interface and the host's the implementation.
fn module(header: &LibHeader) -> Result<PluginModuleRef, String> {
    let plugin = header.layout().ok_or("no layout")?;
    check_layout_compatibility(plugin, PluginModuleRef::LAYOUT).map_err(|e| e.to_string())?;
    // SAFETY: the layouts were compared, and the host checks for each field that the plugin may lack before it uses
    // the field.
    unsafe { header.unchecked_layout::<PluginModuleRef>() }.map_err(|e| e.to_string())
}

#[test]
fn an_older_plugin_works_with_defaults_for_new_functions() {
    let module = module(header("test_plugin_faulty")).unwrap();
    assert!(
        module.listen().is_none(),
        "the older plugin does not have this function"
    );

    let request = request("fine", 1);
    let info = module.describe_encoder()(&request).into_result().unwrap();
    let encoder = module.load_encoder()(&request).into_result().unwrap().0;
    assert_eq!(encoder.info(), info);

    let side = info.image_size as usize;
    let (clip, shape) = (vec![0.25; 3 * side * side], [1, 1, 3, side, side]);
    let view = TensorView::new(&clip, &shape).unwrap();
    let features = encoder.encode(view).into_result().unwrap();
    assert!(features.view().f32s().unwrap().iter().all(|&x| x == 0.25));

    let error = encoder.encode_sound(view).into_result().unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (ErrorKind::Unsupported, NO_SOUND)
    );
}

fn request(id: &str, num_frames: u32) -> EncoderRequest {
    EncoderRequest {
        model: ModelSource {
            id: RString::from(id),
            weights: vec![].into(),
            config: None.into(),
            device: Device::CPU,
            dtype: None.into(),
        },
        num_frames,
        image_size: None.into(),
    }
}

#[test]
fn a_plugin_of_version_1_0_works_but_cannot_be_trained() {
    let library = Library::open(artifacts().library("test_plugin_older"), 1).unwrap();
    assert_eq!(library.manifest().api_version, "1.0.0");
    let encoder = library.load_encoder(&request("first-pixel", 2)).unwrap();
    let clip: Vec<f32> = (0..24).map(|i| i as f32).collect();
    let view = TensorView::new(&clip, &[1, 2, 3, 2, 2]).unwrap();
    let features = encoder.encode(view).unwrap();
    assert_eq!(features.view().f32s().unwrap(), [0.0, 12.0]);

    let refused = [
        encoder.training().err().unwrap(),
        encoder.forward_train(view).err().unwrap(),
    ];
    for error in refused {
        assert_eq!(error.failure.kind, ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(
            text.contains("older") && text.contains("cannot be trained"),
            "{text}"
        );
    }
}

#[test]
fn the_real_plugins_can_be_loaded_by_the_next_version() {
    for target in [
        "merv_siglip",
        "merv_dinov2",
        "merv_languagebind",
        "merv_vivit",
        "merv_llama2",
    ] {
        if let Err(error) = module(header(target)) {
            panic!("{target}: {error}");
        }
    }
}

#[test]
fn different_fields_are_refused_in_this_direction_too() {
    let error = module(header("test_plugin_wrong_layout")).err().unwrap();
    assert!(error.contains("describe_encoder"), "{error}");
}

/// The reason for the direction of the check: abi_stable itself takes the host as the interface, and refuses every
/// library that has fewer fields than the host.
#[test]
fn the_check_of_abi_stable_refuses_older_plugins() {
    let error = header("test_plugin_faulty")
        .check_layout::<PluginModuleRef>()
        .err()
        .unwrap();
    assert!(error.to_string().contains("too many fields"), "{error}");
}
