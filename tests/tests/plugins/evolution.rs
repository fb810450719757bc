//! The evolution rule: a plugin that was built against an older minor version keeps loading. The plugin
//! `older` is of version 1.0, before training; `next_api` is the ABI one minor version on, for which the
//! plugins of this build are the older ones.

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

/// The header of a library that stays loaded.
fn header(target: &str) -> &'static LibHeader {
    // SAFETY: the workspace's own cdylib, whose initialisers do nothing.
    let library = unsafe { libloading::Library::new(artifacts().library(target)) }.unwrap();
    let library = Box::leak(Box::new(library));
    // SAFETY: by the contract the symbol is a `LibHeader`, which `upgrade` checks.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_SYMBOL.as_bytes()) }.unwrap();
    header.upgrade().unwrap()
}

/// The module as a host one minor version on gets it: what the plugin needs must be part of what the
/// host knows, so the plugin's types are the interface and the host's the implementation.
fn module(header: &LibHeader) -> Result<PluginModuleRef, String> {
    let plugin = header.layout().ok_or("no layout")?;
    check_layout_compatibility(plugin, PluginModuleRef::LAYOUT).map_err(|e| e.to_string())?;
    // SAFETY: the layouts were compared, and every field that the plugin lacks is one that the host
    // asks for before it uses it.
    unsafe { header.unchecked_layout::<PluginModuleRef>() }.map_err(|e| e.to_string())
}

#[test]
fn an_older_plugin_works_and_what_it_lacks_has_a_default() {
    let module = module(header("test_plugin_faulty")).unwrap();
    assert!(
        module.listen().is_none(),
        "the older plugin has no such function"
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
fn a_plugin_of_version_1_0_works_and_cannot_be_trained() {
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
        assert_eq!(error.kind, ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(
            text.contains("older") && text.contains("cannot be trained"),
            "{text}"
        );
    }
}

#[test]
fn the_real_plugins_would_load_too() {
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
fn other_fields_are_refused_in_this_direction_too() {
    let error = module(header("test_plugin_wrong_layout")).err().unwrap();
    assert!(error.contains("describe_encoder"), "{error}");
}

/// Why the direction matters: abi_stable's own check has the host as the interface and refuses every
/// library that has fewer fields than the host knows.
#[test]
fn abi_stables_own_direction_refuses_older_plugins() {
    let error = header("test_plugin_faulty")
        .check_layout::<PluginModuleRef>()
        .err()
        .unwrap();
    assert!(error.to_string().contains("too many fields"), "{error}");
}
