//! Tensors on devices. The pretend device's memory cannot be read through pointers, and it counts what it is asked to do.

mod commands;
mod training;

use merv_host::plugin::{CallError, Copied, Copies, Encoder, LanguageModel, Library, PluginTensor};
use merv_plugin_api::{
    Call, Clips, DType, Device, DeviceKind, DeviceServiceObject, EncoderRequest, ErrorKind,
    LanguageModelRequest, LogitsAt, ModelSource, Stream, TensorView, TensorViewMut,
};
use merv_tests::{artifacts, chain};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const FIRST: Device = Device::new(DeviceKind::EXTENSION, 0);
const SECOND: Device = Device::new(DeviceKind::EXTENSION, 1);

/// Bytes of a clip of two frames, and of its features.
const CLIP: u64 = 2 * 3 * 64 * 64 * 4;
const FEATURES: u64 = 2 * 64 * 64 * 4;
/// Bytes of one row of embeddings, and of logits.
const ROW: u64 = 96 * 4;
const LOGITS: u64 = 1024 * 4;

/// The counts are those of the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn library(target: &str) -> Arc<Library> {
    Library::open(artifacts().library(target), 1).unwrap()
}

fn pretend() -> Arc<Library> {
    library("test_plugin_pretend_device")
}

fn encoder_of(
    library: &Library,
    id: &str,
    device: Device,
    options: &[(&str, &str)],
) -> Result<Encoder, CallError> {
    let mut source = ModelSource::new(id, device);
    let options = options.iter();
    source.options = options
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    let request = EncoderRequest::new(source, 2);
    let described = library.describe_encoder(&request)?;
    library.load_encoder(&request, &described)
}

fn encoder(device: Device) -> Encoder {
    encoder_of(&pretend(), "pretend-encoder", device, &[]).unwrap()
}

fn llm(device: Device) -> LanguageModel {
    let request = LanguageModelRequest::new(ModelSource::new("pretend-llm", device));
    let described = pretend().describe_llm(&request).unwrap();
    pretend().load_llm(&request, &described).unwrap()
}

fn try_encode(encoder: &Encoder) -> Result<PluginTensor, CallError> {
    let pixels: Vec<f32> = (0..CLIP / 4)
        .map(|i| (i * 7 % 255) as f32 / 255.0)
        .collect();
    let shape = [1, 2, 3, 64, 64];
    encoder.encode(&Clips::new(TensorView::new(&pixels, &shape).unwrap()))
}

fn encode(encoder: &Encoder) -> PluginTensor {
    try_encode(encoder).unwrap()
}

/// What the pretend device counted.
fn counted() -> BTreeMap<String, u64> {
    let devices = pretend().devices().service().unwrap().devices().unwrap();
    let pairs = devices[0].properties.iter();
    pairs
        .map(|(key, count)| (key.clone(), count.parse().unwrap()))
        .collect()
}

/// The copies of the host and the counts of the device during `body`. They must agree.
fn copies<T>(body: impl FnOnce() -> T) -> (T, [[u64; 2]; 3]) {
    let (before, counts) = (Copies::so_far(), counted());
    let result = body();
    let (after, later) = (Copies::so_far(), counted());
    let between =
        |before: Copied, after: Copied| [after.count - before.count, after.bytes - before.bytes];
    let host = [
        between(before.to_device, after.to_device),
        between(before.to_main, after.to_main),
        between(before.between_devices, after.between_devices),
    ];
    let more = |key: &str| later[key] - counts[key];
    let device = ["to_device", "to_main", "between"];
    let device = device.map(|key| [more(key), more(&format!("{key}_bytes"))]);
    assert_eq!(host, device, "the host and the device counted differently");
    assert_eq!(more("violations"), 0);
    (result, host)
}

const NONE: [u64; 2] = [0, 0];

/// Does the work that is left, so that a test begins with an idle device.
fn idle(service: &DeviceServiceObject) {
    service.synchronize_device(Call::ENDLESS, FIRST).unwrap();
}

#[test]
fn an_encoder_on_a_device_computes_what_it_does_on_the_cpu() {
    let _alone = alone();
    let (expected, made) = copies(|| encode(&encoder(Device::CPU)).f32s().unwrap().into_owned());
    assert_eq!(made, [NONE, NONE, NONE]);
    assert!(expected.iter().any(|&value| value != expected[0]));
    let on_device = encoder(FIRST);
    let (found, made) = copies(|| encode(&on_device).f32s().unwrap().into_owned());
    assert_eq!(found, expected);
    assert_eq!(made, [[1, CLIP], [1, FEATURES], NONE]);
    // An option that the description repeats has an effect.
    let doubled = encoder_of(&pretend(), "pretend-encoder", FIRST, &[("gain", "2")]).unwrap();
    let doubled = encode(&doubled).f32s().unwrap().into_owned();
    assert!(doubled.iter().zip(&expected).all(|(a, b)| *a == 2.0 * b));
}

#[test]
fn features_that_stay_on_a_device_are_not_touched() {
    let _alone = alone();
    let on_device = encoder(FIRST);
    let (features, made) = copies(|| encode(&on_device));
    assert_eq!(made, [[1, CLIP], NONE, NONE]);
    assert!(format!("{features:?}").contains("on ext:0) of plugin `pretend-device`"));
    let error = features.view().f32s().unwrap_err();
    assert!(error.message.contains("found one on ext:0"), "{error:?}");
    let (_, made) = copies(|| drop(features));
    assert_eq!(made, [NONE, NONE, NONE]);
}

#[test]
fn an_encoder_without_device_tensors_gets_main_memory() {
    let _alone = alone();
    let load = |device| encoder_of(&pretend(), "pretend-encoder-main", device, &[]).unwrap();
    assert_eq!(load(FIRST).info().device, FIRST);
    let (found, made) = copies(|| encode(&load(FIRST)));
    assert_eq!(made, [NONE, NONE, NONE]);
    let expected = encode(&encoder(Device::CPU));
    assert_eq!(
        found.view().f32s().unwrap(),
        expected.view().f32s().unwrap()
    );
}

#[test]
fn a_language_model_on_a_device_reads_its_own_embeddings_there() {
    let _alone = alone();
    let (on_cpu, on_device) = (llm(Device::CPU), llm(FIRST));
    let logits = |model: &LanguageModel| {
        let embeds = model.embed(&[5, 6, 7]).unwrap();
        let mut session = model.open().unwrap();
        let first = session.prefill(&embeds, LogitsAt::LAST).unwrap();
        let second = model.decode(&mut [&mut session], &[8]).unwrap();
        [first, second].map(|logits| logits.view().f32s().unwrap().to_vec())
    };
    let (expected, made) = copies(|| logits(&on_cpu));
    assert_eq!(made, [NONE, NONE, NONE]);
    let (found, made) = copies(|| logits(&on_device));
    assert_eq!(found, expected);
    assert_eq!(made, [NONE, [2, 2 * LOGITS], NONE]);
    // Embeddings of the host are copied to the device once.
    let rows = on_cpu.embed(&[5, 6, 7]).unwrap();
    let (_, made) = copies(|| {
        let mut session = on_device.open().unwrap();
        let nothing = session.prefill(rows.view(), LogitsAt::NONE).unwrap();
        assert_eq!(nothing.view().shape(), [0, 1024]);
    });
    assert_eq!(made, [[1, 3 * ROW], NONE, NONE]);
}

#[test]
fn a_model_in_main_memory_gets_a_copy_of_a_device_tensor() {
    let _alone = alone();
    let (on_cpu, on_device) = (llm(Device::CPU), llm(FIRST));
    let read = |embeds: &PluginTensor| {
        let logits = on_cpu
            .open()
            .unwrap()
            .prefill(embeds, LogitsAt::ALL)
            .unwrap();
        logits.view().f32s().unwrap().to_vec()
    };
    let expected = read(&on_cpu.embed(&[1, 2]).unwrap());
    let embeds = on_device.embed(&[1, 2]).unwrap();
    let (found, made) = copies(|| read(&embeds));
    assert_eq!(found, expected);
    assert_eq!(made, [NONE, [1, 2 * ROW], NONE]);
    // A bare view does not say which plugin can read it.
    let error = on_cpu
        .open()
        .unwrap()
        .prefill(embeds.view(), LogitsAt::ALL)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its own tensors are in main memory"),
        "{error}"
    );
}

#[test]
fn peers_exchange_tensors_directly() {
    let _alone = alone();
    let features = encode(&encoder(FIRST));
    let expected = features.f32s().unwrap().into_owned();
    let (moved, made) = copies(|| features.to_device(SECOND).unwrap());
    assert_eq!(made, [NONE, NONE, [1, FEATURES]]);
    assert!(format!("{moved:?}").contains("on ext:1"));
    assert_eq!(moved.f32s().unwrap(), expected);
    let devices = pretend().devices().service().unwrap().devices().unwrap();
    assert_eq!(devices[1].peers, [FIRST]);
    for elsewhere in [Device::new(DeviceKind::CUDA, 0), Device::CPU] {
        let error = features.to_device(elsewhere).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("plugin `pretend-device`"), "{text}");
        assert!(text.contains(&format!("copy to {elsewhere}")), "{text}");
    }
}

#[test]
fn a_full_device_is_reported_with_its_bytes() {
    let _alone = alone();
    let library = pretend();
    let devices = library.devices();
    let service = devices.service().unwrap();
    idle(service);
    let free = service.free_memory(SECOND).unwrap();
    assert_eq!(free, service.devices().unwrap()[1].total_memory);
    let half = service
        .allocate(SECOND, DType::U8, &[free as usize / 2])
        .unwrap();
    assert_eq!(service.free_memory(SECOND).unwrap(), free / 2);
    let values = vec![0.0f32; free as usize / 4];
    let shape = [values.len()];
    let values = TensorView::new(&values, &shape).unwrap();
    let error = devices.to_device(values, SECOND).unwrap_err();
    assert_eq!(error.failure.kind, ErrorKind::OUT_OF_MEMORY);
    let text = error.to_string();
    let expected = format!(
        "ext:1 has {} bytes free, and {free} bytes are needed",
        free / 2
    );
    assert!(text.contains(&expected), "{text}");
    drop(half);
    devices.to_device(values, SECOND).unwrap();
    assert_eq!(service.free_memory(SECOND).unwrap(), free);
}

#[test]
fn work_is_ordered_by_streams() {
    let _alone = alone();
    let library = pretend();
    let service = library.devices().service().unwrap();
    idle(service);
    let [one, two] = [(); 2].map(|()| encode(&encoder(FIRST)));
    let streams = [&one, &two].map(|tensor| tensor.view().stream());
    assert!(!streams.contains(&Stream::COMPLETE));
    assert_ne!(streams[0], streams[1]);
    // Reads the first features as if they were complete.
    let read = || {
        let view = one.view();
        let shape = view.shape().to_vec();
        // SAFETY: the device checks that the elements are complete.
        let claimed = unsafe {
            TensorView::from_raw(view.as_ptr(), DType::F32, FIRST, &shape, Stream::COMPLETE)
        };
        let mut values = vec![0.0f32; shape.iter().product()];
        let target = TensorViewMut::new(&mut values, &shape).unwrap();
        service
            .copy(Call::ENDLESS, claimed.unwrap(), target)
            .map(|()| values)
    };
    let violations = counted()["violations"];
    let error = read().unwrap_err();
    let expected = format!(
        "read on stream 0 before stream {} was finished",
        streams[0].0
    );
    assert!(error.message.contains(&expected), "{error}");
    assert_eq!(counted()["violations"], violations + 1);
    service.wait(FIRST, streams[1], streams[0]).unwrap();
    let error = service.wait(FIRST, streams[0], streams[1]).unwrap_err();
    assert!(error.message.contains("cannot wait"), "{error}");
    assert!(read().is_err());
    service
        .synchronize_stream(Call::ENDLESS, FIRST, streams[1])
        .unwrap();
    let expected = encode(&encoder(Device::CPU));
    assert_eq!(read().unwrap(), expected.view().f32s().unwrap());
    for stream in [Stream(u64::MAX), Stream(1 << 40)] {
        let error = service
            .synchronize_stream(Call::ENDLESS, FIRST, stream)
            .unwrap_err();
        assert!(error.message.contains("does not exist"), "{error}");
        assert!(service.wait(FIRST, streams[0], stream).is_err());
    }
}

#[test]
fn memory_is_freed_after_its_last_use() {
    let _alone = alone();
    let library = pretend();
    let service = library.devices().service().unwrap();
    idle(service);
    let live = || {
        let counts = counted();
        counts["allocations"] - counts["releases"]
    };
    let before = live();
    let violations = counted()["violations"];
    // The stream that writes the features is not finished when they are dropped.
    let features = encode(&encoder(FIRST));
    let stream = features.view().stream();
    drop(features);
    assert_eq!(live(), before + 1);
    // A buffer that is complete, but used on that stream.
    let mut buffer = service
        .allocate(FIRST, DType::U8, &[16])
        .unwrap()
        .into_tensor();
    buffer.used_on(stream);
    drop(buffer);
    assert_eq!(live(), before + 2);
    service
        .synchronize_stream(Call::ENDLESS, FIRST, stream)
        .unwrap();
    assert_eq!(live(), before);
    // A release that does not wait for the writes.
    let features = encode(&encoder(FIRST)).into_main().unwrap();
    drop(features);
    idle(service);
    assert_eq!((live(), counted()["violations"]), (before, violations));
}

#[test]
fn devices_that_do_not_exist_are_refused() {
    let third = Device::new(DeviceKind::EXTENSION, 2);
    let error = encoder_of(&pretend(), "pretend-encoder", third, &[])
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(
        text.contains("`device` is ext:2, which does not exist"),
        "{text}"
    );
    assert!(text.contains("ext:0 or ext:1"), "{text}");
    let library = pretend();
    let service = library.devices().service().unwrap();
    assert!(service.free_memory(third).is_err());
    assert!(service.allocate(third, DType::F32, &[1]).is_err());
    assert!(service.synchronize_device(Call::ENDLESS, third).is_err());
}

#[test]
fn device_tensors_without_a_service_are_a_bug_of_the_plugin() {
    let stray = library("test_plugin_stray_device");
    // It does not state the feature, and returns a device tensor nevertheless.
    let encoder = encoder_of(&stray, "stray-encoder", FIRST, &[]).unwrap();
    let text = chain(&try_encode(&encoder).unwrap_err());
    for part in [
        "plugin `stray-device` could not encode with `stray-encoder`",
        "a bug in the plugin",
        "`device-tensors`",
        "does not have a device service",
        "on ext:0",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // It states the feature, but cannot have the memory.
    let error = encoder_of(&stray, "stray-encoder-stated", FIRST, &[])
        .err()
        .unwrap();
    let text = chain(&error);
    for part in [
        "plugin `stray-device` could not load",
        "does not have a device service",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // On the CPU, it is an ordinary encoder that returns the wrong device.
    let encoder = encoder_of(&stray, "stray-encoder-stated", Device::CPU, &[]).unwrap();
    assert!(try_encode(&encoder).is_err());
}
