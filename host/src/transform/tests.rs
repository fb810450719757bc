//! Comparison with Pillow, torchvision and torch (`tests/python/make_transforms.py`).

use std::sync::Arc;

use merv_plugin_api::{Interpolation, PreprocessSpec, ResizeDomain};
use safetensors::{Dtype, SafeTensors};

use super::geometry::{Axis, axes, centre};
use super::pixels::{PixelKind, Pixels};
use super::{Clip, ClipRequest, ResizeStrategy, TransformError, clips, resize};
use crate::video::RgbFrame;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/transforms/");

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{FIXTURES}{name}.safetensors")).unwrap()
}

fn frame(tensors: &SafeTensors<'_>, name: &str) -> Arc<RgbFrame> {
    let tensor = tensors.tensor(name).unwrap();
    let (height, width) = (tensor.shape()[0], tensor.shape()[1]);
    Arc::new(RgbFrame {
        width,
        height,
        data: tensor.data().to_vec(),
    })
}

fn spec(name: &str) -> PreprocessSpec {
    let half = [0.5; 3];
    let (short_side, interpolation, domain, mean, std) = match name {
        "siglip" => (
            56,
            Interpolation::BICUBIC,
            ResizeDomain::PILLOW_U8,
            half,
            half,
        ),
        "dinov2" => (
            56,
            Interpolation::BICUBIC,
            ResizeDomain::PILLOW_U8,
            [0.485, 0.456, 0.406],
            [0.229, 0.224, 0.225],
        ),
        "vivit" => (
            64,
            Interpolation::BILINEAR,
            ResizeDomain::PILLOW_U8,
            half,
            half,
        ),
        "languagebind" => (
            56,
            Interpolation::BILINEAR,
            ResizeDomain::TORCH_F32,
            [0.48145466, 0.4578275, 0.40821073],
            [0.26862954, 0.261_302_6, 0.275_777_1],
        ),
        other => panic!("{other}"),
    };
    PreprocessSpec::new(56)
        .short_side(short_side)
        .interpolation(interpolation)
        .domain(domain)
        .normalise(mean, std)
}

fn request(spec: &PreprocessSpec, num_frames: usize) -> ClipRequest<'_> {
    ClipRequest {
        spec,
        num_frames,
        pixels: PixelKind::F32,
    }
}

/// The normalised values of a clip.
fn floats(clip: &Clip) -> &[f32] {
    match &clip.data {
        Pixels::F32(values) => values,
        Pixels::U8(_) => panic!("bytes"),
    }
}

fn one(frame: &Arc<RgbFrame>, spec: &PreprocessSpec, strategy: ResizeStrategy) -> Arc<Clip> {
    clips(
        std::slice::from_ref(frame),
        &[request(spec, 1)],
        strategy,
        1,
    )
    .unwrap()
    .remove(0)
}

#[test]
fn resizing_matches_pillow_byte_for_byte() {
    let (frames, outputs) = (read("frames"), read("outputs"));
    let frames = SafeTensors::deserialize(&frames).unwrap();
    let outputs = SafeTensors::deserialize(&outputs).unwrap();
    let mut compared = 0;
    for (key, tensor) in outputs.tensors() {
        let Some(key) = key.strip_prefix("u8|") else {
            continue;
        };
        let [name, filter, size] = key.split('|').collect::<Vec<_>>()[..] else {
            panic!("{key}")
        };
        let (height, width) = size.split_once('x').unwrap();
        let axis = |source: usize, scaled: &str| {
            let scaled: usize = scaled.parse().unwrap();
            Axis {
                source,
                bar: 0,
                scaled,
                kept: 0..scaled,
            }
        };
        let frame = frame(&frames, name);
        let (columns, rows) = (axis(frame.width, width), axis(frame.height, height));
        let filter = match filter {
            "bicubic" => Interpolation::BICUBIC,
            "bilinear" => Interpolation::BILINEAR,
            other => panic!("{other}"),
        };
        assert!(
            resize::resize(&frame, &columns, &rows, filter, [0; 3]) == tensor.data(),
            "{key}"
        );
        compared += 1;
    }
    assert!(compared >= 28, "{compared} resizes compared");
}

#[test]
fn clips_equal_torchvision_and_torch() {
    let (frames, outputs) = (read("frames"), read("outputs"));
    let frames = SafeTensors::deserialize(&frames).unwrap();
    let outputs = SafeTensors::deserialize(&outputs).unwrap();
    let mut compared = 0;
    for (key, tensor) in outputs.tensors() {
        if tensor.dtype() != Dtype::F32 {
            continue;
        }
        let [name, spec_name, strategy] = key.split('|').collect::<Vec<_>>()[..] else {
            panic!("{key}")
        };
        let clip = one(
            &frame(&frames, name),
            &spec(spec_name),
            strategy.parse().unwrap(),
        );
        let (expected, _) = tensor.data().as_chunks::<4>();
        let expected: Vec<f32> = expected
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect();
        assert_eq!(floats(&clip).len(), expected.len(), "{key}");
        let scale = expected
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        let off = floats(&clip)
            .iter()
            .zip(&expected)
            .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        // Pillow's results match exactly. torch uses another order of operations.
        let allowed = if spec_name == "languagebind" {
            2e-6 * scale
        } else {
            0.0
        };
        assert!(off <= allowed, "{key}: off by {off} at a scale of {scale}");
        compared += 1;
    }
    assert!(compared >= 30, "{compared} clips compared");
}

/// A frame of noise.
fn noise(width: usize, height: usize, seed: u32) -> Arc<RgbFrame> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let data = (0..width * height * 3)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    Arc::new(RgbFrame {
        width,
        height,
        data,
    })
}

#[test]
fn requests_share_work_and_threads_do_not_change_results() {
    let mut frames: Vec<_> = (0..8).map(|seed| noise(40, 30, seed)).collect();
    frames[5] = frames[4].clone();
    let specs = ["siglip", "dinov2", "vivit", "languagebind"].map(spec);
    let mut requests: Vec<_> = specs.iter().map(|spec| request(spec, 4)).collect();
    requests.push(request(&specs[2], 8));
    requests.push(request(&specs[0], 4));

    for strategy in ResizeStrategy::ALL {
        let alone = clips(&frames, &requests, strategy, 1).unwrap();
        assert_eq!(alone, clips(&frames, &requests, strategy, 3).unwrap());
        assert!(
            Arc::ptr_eq(&alone[0], &alone[5]),
            "equal requests share one clip"
        );
        let frame_len = 3 * 56 * 56;
        for (request, clip) in requests.iter().zip(&alone) {
            assert_eq!(floats(clip).len(), request.num_frames * frame_len);
            let every = frames.len() / request.num_frames;
            for (values, frame) in floats(clip)
                .chunks(frame_len)
                .zip(frames.iter().step_by(every))
            {
                assert!(
                    values == floats(&one(frame, request.spec, strategy)),
                    "{strategy}"
                );
            }
        }
    }
}

/// The normalised value of a byte is known, so bytes and floats can be compared exactly.
#[test]
fn bytes_are_the_pixels_before_normalisation() {
    let frames: Vec<_> = (0..4).map(|seed| noise(40, 30, seed)).collect();
    for name in ["siglip", "dinov2", "vivit"] {
        let spec = spec(name);
        let bytes = ClipRequest {
            pixels: PixelKind::U8,
            ..request(&spec, 2)
        };
        for strategy in ResizeStrategy::ALL {
            let both = clips(&frames, &[request(&spec, 2), bytes], strategy, 2).unwrap();
            let Pixels::U8(found) = &both[1].data else {
                panic!("floats")
            };
            let plane = 56 * 56;
            for (index, (byte, value)) in found.iter().zip(floats(&both[0])).enumerate() {
                let channel = index / plane % 3;
                let expected = (f32::from(*byte) / 255.0 - spec.mean[channel]) / spec.std[channel];
                assert_eq!(*value, expected, "{name}, {index}");
            }
            assert_eq!(found.len(), 2 * 3 * plane);
        }
    }
    let spec = spec("languagebind");
    let bytes = ClipRequest {
        pixels: PixelKind::U8,
        ..request(&spec, 2)
    };
    let refused = clips(&frames, &[bytes], ResizeStrategy::ResizeNaive, 1).unwrap_err();
    assert!(matches!(refused, TransformError::BadSpec { .. }));
}

#[test]
fn extreme_shapes_need_no_more_memory_than_the_crop() {
    for (width, height) in [(1, 1), (1, 7), (1, 60_000), (60_000, 1), (3, 20_000)] {
        let frame = noise(width, height, 5);
        for strategy in ResizeStrategy::ALL {
            for name in ["siglip", "vivit", "languagebind"] {
                let clip = one(&frame, &spec(name), strategy);
                assert_eq!(floats(&clip).len(), 3 * 56 * 56);
                assert!(floats(&clip).iter().all(|value| value.is_finite()));
            }
        }
    }
}

#[test]
fn halves_are_rounded_to_even() {
    assert_eq!(centre(57, 56), 0..56);
    assert_eq!(centre(59, 56), 2..58);
    assert_eq!(centre(61, 56), 2..58);
    assert_eq!(centre(63, 56), 4..60);
    assert_eq!(centre(56, 56), 0..56);
}

#[test]
fn a_letterbox_with_an_odd_difference_is_one_pixel_short_of_square() {
    let (columns, rows) = axes(ResizeStrategy::Letterbox, (97, 60), 56, 56);
    assert_eq!((columns.padded(), rows.padded()), (97, 96));
    assert_eq!((columns.scaled, rows.scaled), (56, 56));
    let (columns, rows) = axes(ResizeStrategy::Letterbox, (10, 5), 56, 56);
    assert_eq!(
        (columns.padded(), rows.padded(), columns.scaled),
        (10, 9, 62)
    );
    assert_eq!(columns.kept, 3..59);
}

#[test]
fn impossible_requests_are_errors() {
    let frames = vec![noise(8, 8, 1); 6];
    let good = spec("siglip");
    let request_clip = |spec: &PreprocessSpec, num_frames| {
        let request = request(spec, num_frames);
        clips(&frames, &[request], ResizeStrategy::ResizeNaive, 2).unwrap_err()
    };
    for num_frames in [0, 4, 12] {
        let expected = TransformError::FramesDoNotDivide {
            num_frames,
            frames: 6,
        };
        assert_eq!(request_clip(&good, num_frames), expected);
    }
    let bad = |change: fn(&mut PreprocessSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        matches!(request_clip(&spec, 6), TransformError::BadSpec { .. })
    };
    assert!(bad(|spec| spec.image_size = 0));
    assert!(bad(|spec| spec.image_size = u32::MAX));
    assert!(bad(|spec| spec.short_side = 55));
    assert!(bad(|spec| spec.std[1] = 0.0));
    assert!(bad(|spec| spec.mean[2] = f32::NAN));
    assert!(bad(|spec| spec.domain = ResizeDomain::TORCH_F32));
    assert!(bad(|spec| spec.domain = ResizeDomain::from_number(9)));
    assert!(bad(
        |spec| spec.interpolation = Interpolation::from_number(9)
    ));
    assert!(bad(|spec| {
        spec.extra.insert("rotate".into(), "90".into());
    }));

    let none = clips(&[], &[], ResizeStrategy::ResizeNaive, 1).unwrap_err();
    assert_eq!(none, TransformError::NoFrames);
    let short = Arc::new(RgbFrame {
        width: 2,
        height: 2,
        data: vec![0; 11],
    });
    let short = clips(&[short], &[], ResizeStrategy::ResizeNaive, 1).unwrap_err();
    assert!(matches!(short, TransformError::BadFrame { bytes: 11, .. }));
    let unknown = "resize_crop".parse::<ResizeStrategy>().unwrap_err();
    assert!(unknown.to_string().contains("`resize-crop`"));
}

#[test]
fn sizes_at_the_limit_are_accepted_and_larger_ones_refused() {
    let picture = Arc::new(RgbFrame {
        width: 1,
        height: 1,
        data: vec![0; 3],
    });
    let compute = |image_size, short_side, mean: f32, std: f32| {
        let mut spec = spec("siglip")
            .short_side(short_side)
            .normalise([mean; 3], [std; 3]);
        spec.image_size = image_size;
        let request = request(&spec, 1);
        clips(
            std::slice::from_ref(&picture),
            &[request],
            ResizeStrategy::ResizeNaive,
            1,
        )
        .map(|_| ())
    };
    compute(1, 1, 0.0, 1.0).unwrap();
    compute(8192, 8192, 0.0, 1.0).unwrap();
    for (image_size, short_side, mean, std, word) in [
        (0, 1, 0.0, 1.0, "image_size"),
        (8193, 8193, 0.0, 1.0, "image_size"),
        (2, 1, 0.0, 1.0, "short_side"),
        (1, 8193, 0.0, 1.0, "short_side"),
        (1, 1, f32::NAN, 1.0, "mean"),
        (1, 1, f32::INFINITY, 1.0, "mean"),
        (1, 1, 0.0, 0.0, "std"),
        (1, 1, 0.0, f32::NAN, "std"),
    ] {
        let error = compute(image_size, short_side, mean, std)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(word),
            "{image_size} {short_side} {mean} {std}: {error}"
        );
    }
}
