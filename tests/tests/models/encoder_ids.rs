//! The description of every encoder id without a config file and weights: the published sizes, and the shape of the
//! features that the mixer receives.

use merv_plugin_api::{Device, EncoderInfo, EncoderRequest, ModelSource, kind};
use merv_tests::{chain, model_library, torch_plugin};

/// Plugin, id and frames, then time steps, features per time step, and their width. The values are MERV's
/// (`spatial_resolution`, `temporal_resolution` and `embed_dim` in `merv/models/backbones/video/*`), except that features
/// which do not form a grid count as one time step.
const PUBLISHED: &[(&str, &str, u32, [u32; 3])] = &[
    ("siglip", "siglip-vit-b16-224px", 16, [16, 1, 768]),
    (
        "siglip",
        "siglip-vit-b16-224px-all-tokens",
        16,
        [16, 196, 768],
    ),
    (
        "siglip",
        "siglip-vit-b16-224px-all-no-cls",
        16,
        [16, 196, 768],
    ),
    ("siglip", "siglip-vit-b16-256px", 8, [8, 1, 768]),
    (
        "siglip",
        "siglip-vit-b16-256px-all-tokens",
        8,
        [8, 196, 768],
    ),
    ("siglip", "siglip-vit-b16-384px", 16, [16, 1, 768]),
    (
        "siglip",
        "siglip-vit-b16-384px-all-tokens",
        16,
        [16, 196, 768],
    ),
    ("siglip", "siglip-vit-so400m", 16, [16, 1, 1152]),
    (
        "siglip",
        "siglip-vit-so400m-all-tokens",
        16,
        [16, 256, 1152],
    ),
    ("siglip", "siglip-vit-so400m-384px", 16, [16, 1, 1152]),
    (
        "siglip",
        "siglip-vit-so400m-384px-all-tokens",
        16,
        [16, 256, 1152],
    ),
    ("dinov2", "dinov2-video", 16, [16, 1, 1024]),
    ("dinov2", "dinov2-video-all-tokens", 16, [16, 256, 1024]),
    (
        "dinov2",
        "dinov2-video-all-token-with-cls",
        16,
        [1, 16 * 257, 1024],
    ),
    (
        "dinov2",
        "dinov2-video-classemb-at-first",
        16,
        [1, 16 * 256 + 1, 1024],
    ),
    ("languagebind", "languagebind-video", 16, [16, 257, 1024]),
    (
        "languagebind",
        "languagebind-video-averagetoken",
        16,
        [16, 1, 1024],
    ),
    (
        "languagebind",
        "languagebind-video-classemb",
        8,
        [8, 1, 1024],
    ),
    (
        "languagebind",
        "languagebind-video-noclass",
        16,
        [16, 256, 1024],
    ),
    (
        "languagebind",
        "languagebind-video-classemb-at-first",
        16,
        [1, 16 * 256 + 1, 1024],
    ),
    ("vivit", "vivit-google-b-cls-token", 32, [1, 1, 768]),
    ("vivit", "vivit-google-b-all-tokens", 32, [1, 3137, 768]),
    ("vivit", "vivit-google-b-all-no-cls", 32, [8, 196, 768]),
    (
        "vivit",
        "vivit-google-b-all-no-cls-16frames",
        32,
        [16, 196, 768],
    ),
    (
        "vivit",
        "vivit-google-b-classemb-at-first-16frames",
        32,
        [1, 3137, 768],
    ),
    ("hiera", "hiera-base-video", 16, [8, 49, 768]),
    ("hiera", "hiera-base-plus-video", 32, [16, 49, 896]),
    ("hiera", "hiera-large-video", 16, [8, 49, 1152]),
];

/// The numbers of parameters that compute the features, counted in the original models.
const PARAMETERS: &[(&str, &str, u32, u64)] = &[
    ("siglip", "siglip-vit-b16-224px", 16, 92_884_224),
    ("siglip", "siglip-vit-b16-224px-all-tokens", 16, 78_707_712),
    ("siglip", "siglip-vit-so400m-384px", 16, 428_225_600),
    (
        "siglip",
        "siglip-vit-so400m-384px-all-tokens",
        16,
        397_745_440,
    ),
    ("dinov2", "dinov2-video", 16, 304_370_688),
    ("dinov2", "dinov2-video-all-tokens", 16, 291_770_368),
    ("vivit", "vivit-google-b-all-tokens", 32, 88_646_400),
    ("hiera", "hiera-base-video", 16, 50_783_424),
    ("hiera", "hiera-base-plus-video", 16, 69_031_648),
    ("hiera", "hiera-large-video", 16, 212_628_096),
    (
        "languagebind",
        "languagebind-video-noclass",
        16,
        387_380_224,
    ),
];

fn request(id: &str, num_frames: u32, image_size: Option<u32>) -> EncoderRequest {
    let mut request = EncoderRequest::new(ModelSource::new(id, Device::CPU), num_frames);
    request.image_size = image_size;
    request
}

fn describe(plugin: &str, id: &str, num_frames: u32, image_size: Option<u32>) -> EncoderInfo {
    model_library(plugin)
        .describe_encoder(&request(id, num_frames, image_size))
        .unwrap_or_else(|error| panic!("{id}: {}", chain(&error)))
}

#[test]
fn every_id_has_its_published_shape() {
    for &(plugin, id, num_frames, expected) in PUBLISHED {
        let info = describe(plugin, id, num_frames, None);
        assert_eq!([info.temporal, info.spatial, info.width], expected, "{id}");
        assert_eq!(
            (info.num_frames, info.image_size()),
            (num_frames, 224),
            "{id}"
        );
        assert!(info.macs_per_clip > info.parameters, "{id}: {info:?}");
    }
}

#[test]
fn manifests_list_exactly_these_ids() {
    for plugin in ["siglip", "dinov2", "languagebind", "vivit", "hiera"] {
        let library = model_library(plugin);
        // The plugin that computes with libtorch provides the encoders of all these plugins, and other models.
        let listed = library.manifest().provides.iter();
        let listed = listed.filter(|model| {
            let of_plugin = PUBLISHED
                .iter()
                .any(|row| (row.0, row.1) == (plugin, &*model.id));
            torch_plugin().is_none() || of_plugin
        });
        let listed: Vec<_> = listed
            .map(|model| {
                assert_eq!(model.kind, kind::ENCODER);
                assert!(
                    model.license.contains(" ("),
                    "{}: {}",
                    model.id,
                    model.license
                );
                model.id.as_str()
            })
            .collect();
        let published = PUBLISHED.iter().filter(|row| row.0 == plugin);
        assert_eq!(listed, published.map(|row| row.1).collect::<Vec<_>>());
    }
}

#[test]
fn parameter_counts_match_the_originals() {
    for &(plugin, id, num_frames, expected) in PARAMETERS {
        assert_eq!(
            describe(plugin, id, num_frames, None).parameters,
            expected,
            "{id}"
        );
    }
}

#[test]
fn only_some_encoders_accept_another_image_size() {
    for (plugin, id, size, spatial) in [
        ("siglip", "siglip-vit-b16-384px-all-tokens", 384, 576),
        ("siglip", "siglip-vit-so400m-384px-all-tokens", 384, 729),
        ("dinov2", "dinov2-video-all-tokens", 518, 37 * 37),
    ] {
        let info = describe(plugin, id, 16, Some(size));
        assert_eq!((info.spatial, info.image_size()), (spatial, size), "{id}");
        assert_eq!(info.preprocess.image_size, size, "{id}");
    }
    for (plugin, id, frames) in [
        ("languagebind", "languagebind-video-noclass", 16),
        ("vivit", "vivit-google-b-all-no-cls", 32),
        ("hiera", "hiera-base-video", 16),
    ] {
        let library = model_library(plugin);
        let error = library
            .describe_encoder(&request(id, frames, Some(256)))
            .expect_err(id);
        let message = chain(&error);
        assert!(
            message.contains("224") && message.contains("256"),
            "{message}"
        );
    }
}

#[test]
fn unknown_ids_are_refused_with_a_reason() {
    let refused = |plugin: &str, id: &str| {
        let library = model_library(plugin);
        let error = library
            .describe_encoder(&request(id, 16, None))
            .expect_err(id);
        chain(&error)
    };
    let message = refused("siglip", "siglip-vit-b16-224px-classemb-at-first");
    assert!(
        message.contains("SigLIP has none") && message.contains("siglip-vit-b16-224px-all-no-cls"),
        "{message}"
    );
    for plugin in ["siglip", "dinov2", "languagebind", "vivit", "hiera"] {
        let message = refused(plugin, "resnet50");
        let known = PUBLISHED.iter().find(|row| row.0 == plugin).unwrap().1;
        assert!(
            message.contains("found `resnet50`") && message.contains(known),
            "{message}"
        );
    }
}
