use super::{shard, *};
use crate::{
    transform::ResizeStrategy,
    video::{Seconds, Selection},
};
use candle_core::{Device, Tensor};
use merv_plugin_api::{DType, EncoderInfo, Interpolation, PreprocessSpec, ResizeDomain};
use safetensors::{Dtype, tensor::TensorView};
use std::{
    fs::{self, File, FileTimes},
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};
use tempfile::{TempDir, tempdir};

fn identity(folder: &Path) -> EncoderIdentity {
    let weights = folder.join("weights");
    fs::write(&weights, "numbers").unwrap();
    EncoderIdentity {
        id: "dinov2".into(),
        plugin: "vit".into(),
        version: "1.2.3".into(),
        weights: vec![weights],
        config: None,
        info: EncoderInfo::new(
            3,
            8,
            [8, 4],
            PreprocessSpec::new(224)
                .interpolation(Interpolation::BICUBIC)
                .normalise([0.5; 3], [0.25; 3]),
        ),
        resize: ResizeStrategy::ResizeNaive,
    }
}

/// Returns the keys of an encoder for `count` clips.
fn keys(count: usize) -> Vec<ClipKey> {
    let folder = tempdir().unwrap();
    let digests = Digests::new(folder.path().join("digests"));
    let key = EncoderKey::new(&identity(folder.path()), &digests).unwrap();
    let video = digests.of(&folder.path().join("weights")).unwrap();
    (1..=count)
        .map(|n| key.clip(&video, &Selection::new(n)))
        .collect()
}

fn features(seed: usize) -> Tensor {
    let values: Vec<f32> = (0..12)
        .map(|i| ((seed * 12 + i) as f32).sin() * 9.0)
        .collect();
    Tensor::from_vec(values, (4, 3), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn shards(folder: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path().join("shards")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn stored_features_are_rounded_to_the_format() {
    for (dtype, allowed) in [
        (StoreDtype::F32, 0.0),
        (StoreDtype::F16, 2f32.powi(-11)),
        (StoreDtype::Bf16, 2f32.powi(-8)),
    ] {
        let folder = tempdir().unwrap();
        let cache = FeatureCache::open(folder.path(), dtype).unwrap();
        let key = &keys(1)[0];
        assert!(cache.get(key).is_none());
        let put = values(&cache.put(key, &features(7)).unwrap());
        for (found, exact) in put.iter().zip(values(&features(7))) {
            assert!(
                (found - exact).abs() <= allowed * exact.abs(),
                "{dtype}: {found} for {exact}"
            );
        }
        assert_eq!(
            values(&cache.get(key).unwrap()),
            put,
            "before the shard is written"
        );
        cache.flush().unwrap();
        assert_eq!(values(&cache.get(key).unwrap()), put, "after");
        drop(cache);
        let cache = FeatureCache::open(folder.path(), dtype).unwrap();
        assert_eq!(values(&cache.get(key).unwrap()), put, "in another process");
        assert_eq!(cache.get(key).unwrap().dims(), [4, 3]);
    }
}

#[test]
fn features_in_another_format_are_not_found() {
    let folder = tempdir().unwrap();
    let key = &keys(1)[0];
    let half = FeatureCache::open(folder.path(), StoreDtype::F16).unwrap();
    half.put(key, &features(0)).unwrap();
    half.flush().unwrap();
    let single = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    assert!(single.get(key).is_none());
    single.put(key, &features(0)).unwrap();
    single.flush().unwrap();
    assert_eq!(values(&single.get(key).unwrap()), values(&features(0)));
    assert_ne!(values(&half.get(key).unwrap()), values(&features(0)));
}

#[test]
fn values_that_are_too_large_are_refused() {
    let folder = tempdir().unwrap();
    let large = Tensor::from_vec(vec![1f32, -70_000.0, 3.0], (1, 3), &Device::Cpu).unwrap();
    let cache = FeatureCache::open(folder.path(), StoreDtype::F16).unwrap();
    let error = cache.put(&keys(1)[0], &large).unwrap_err().to_string();
    for word in ["-70000", "65504", "bf16"] {
        assert!(error.contains(word), "{error}");
    }
    assert!(cache.is_empty());
    let cache = FeatureCache::open(folder.path(), StoreDtype::Bf16).unwrap();
    cache.put(&keys(1)[0], &large).unwrap();
}

#[test]
fn many_writers_lose_nothing() {
    let folder = tempdir().unwrap();
    let keys = keys(64);
    thread::scope(|scope| {
        for writer in 0..4 {
            let (keys, folder) = (&keys, &folder);
            scope.spawn(move || {
                // Its own cache, like a separate process.
                let cache = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
                for (n, key) in keys.iter().enumerate().skip(writer * 8).take(40) {
                    cache.put(key, &features(n)).unwrap();
                    if n % 5 == 0 {
                        cache.flush().unwrap();
                    }
                    assert!(cache.get(key).is_some());
                }
            });
        }
    });
    let cache = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(
            values(&cache.get(key).unwrap()),
            values(&features(n)),
            "{n}"
        );
    }
    assert_eq!(cache.take_notices(), [""; 0]);
    assert!(
        shards(&folder)
            .iter()
            .all(|path| path.extension().unwrap() == "safetensors")
    );
}

#[test]
fn features_of_another_process_are_found() {
    let folder = tempdir().unwrap();
    let keys = keys(2);
    let reader = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    assert!(reader.get(&keys[0]).is_none());
    // The timestamp of the folder has the resolution of the kernel clock.
    thread::sleep(Duration::from_millis(20));
    let writer = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    writer.put(&keys[0], &features(0)).unwrap();
    writer.flush().unwrap();
    assert!(reader.contains(&keys[0]));
    assert_eq!(values(&reader.get(&keys[0]).unwrap()), values(&features(0)));
    assert!(!reader.contains(&keys[1]));
}

#[test]
fn a_damaged_shard_is_skipped_and_reported() {
    let whole = tempdir().unwrap();
    let keys = keys(2);
    let cache = FeatureCache::open(whole.path(), StoreDtype::F32).unwrap();
    for (n, key) in keys.iter().enumerate() {
        cache.put(key, &features(n)).unwrap();
        cache.flush().unwrap();
    }
    let found = shards(&whole);
    assert_eq!(found.len(), 2);
    let bytes = fs::read(&found[0]).unwrap();
    let mut wrong_header = bytes.clone();
    wrong_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    for damaged in [
        &bytes[..0],
        &bytes[..5],
        &bytes[..40],
        &bytes[..bytes.len() - 1],
        &wrong_header,
    ] {
        fs::write(&found[0], damaged).unwrap();
        let cache = FeatureCache::open(whole.path(), StoreDtype::F32).unwrap();
        let found_keys: Vec<bool> = keys.iter().map(|key| cache.get(key).is_some()).collect();
        assert_eq!(found_keys.iter().filter(|&&found| found).count(), 1);
        let notices = cache.take_notices();
        assert_eq!(notices.len(), 1, "{notices:?}");
        assert!(
            notices[0].contains(found[0].to_str().unwrap()),
            "{notices:?}"
        );
        // The features can be added again although the damaged shard is still there.
        let lost = found_keys.iter().position(|found| !found).unwrap();
        cache.put(&keys[lost], &features(lost)).unwrap();
        assert!(cache.get(&keys[lost]).is_some());
        drop(cache);
        let again = shards(&whole);
        fs::remove_file(again.iter().find(|path| !found.contains(path)).unwrap()).unwrap();
    }
}

#[test]
fn a_shard_that_shrinks_while_the_cache_is_open_is_reported() {
    let folder = tempdir().unwrap();
    let key = &keys(1)[0];
    let cache = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    cache.put(key, &features(0)).unwrap();
    cache.flush().unwrap();
    fs::write(&shards(&folder)[0], "").unwrap();
    assert!(cache.get(key).is_none());
    assert_eq!(cache.take_notices().len(), 1);
}

#[test]
fn a_header_whose_sizes_do_not_match_the_shapes_is_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    for header in [
        r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[8,0]}}"#,
    ] {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 8]);
        fs::write(&path, bytes).unwrap();
        assert!(shard::index(&path).is_err(), "{header}");
    }
}

#[test]
fn a_header_may_fill_the_file_but_not_exceed_it_or_the_limit() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    // The file is sparse behind `header`.
    let indexed = |length: u64, header: &str, size: u64| {
        let mut file = File::create(&path).unwrap();
        file.write_all(&length.to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.set_len(size).unwrap();
        shard::index(&path).map_err(|error| error.to_string())
    };
    assert!(indexed(2, "{}", 10).unwrap().locations.is_empty());
    let most = 100 << 20;
    for (length, size, word) in [
        (3, 10, "a header of 3 bytes in a file of 10"),
        (most, 8, "a header of 104857600 bytes in a file of 8"),
        (most + 1, most + 9, "a header of 104857601 bytes"),
        (most, most + 8, "cannot be read"),
    ] {
        let error = indexed(length, "{}", size).map(|_| ()).unwrap_err();
        assert!(error.contains(word), "{length} of {size}: {error}");
    }
}

#[test]
fn every_relevant_field_changes_the_key() {
    let folder = tempdir().unwrap();
    let digests = Digests::new(folder.path().join("digests"));
    let video = folder.path().join("video");
    fs::write(&video, "frames").unwrap();
    let plain = identity(folder.path());
    let selection = Selection::new(8);
    let key = |identity: &EncoderIdentity, selection: &Selection| {
        let video = digests.of(&video).unwrap();
        EncoderKey::new(identity, &digests)
            .unwrap()
            .clip(&video, selection)
    };
    let first = key(&plain, &selection);
    assert_eq!(first, key(&plain, &selection));
    assert!(first.as_str().starts_with("dinov2/"));

    let changes: [fn(&mut EncoderIdentity); 13] = [
        |it| it.id = "siglip".into(),
        |it| it.plugin = "other".into(),
        |it| it.version = "1.2.4".into(),
        |it| it.weights.push(it.weights[0].clone()),
        |it| it.config = Some(it.weights[0].clone()),
        |it| it.info.num_frames = 16,
        |it| it.info.dtype = DType::BF16,
        |it| it.info.preprocess.image_size = 192,
        |it| it.info.preprocess.interpolation = Interpolation::BILINEAR,
        |it| it.info.preprocess.domain = ResizeDomain::TORCH_F32,
        |it| it.info.preprocess.mean[1] = 0.501,
        |it| it.info.preprocess.std[2] = 0.251,
        |it| it.resize = ResizeStrategy::Letterbox,
    ];
    let mut seen = vec![first.clone()];
    for (index, change) in changes.iter().enumerate() {
        let mut other = plain.clone();
        change(&mut other);
        let other = key(&other, &selection);
        assert!(!seen.contains(&other), "change {index}");
        seen.push(other);
    }
    let windows: [fn(&mut Selection); 5] = [
        |it| it.num_frames = 16,
        |it| it.start = Some(1.0),
        |it| it.end = Some(1.0),
        |it| it.end_frame = Some(1),
        |it| it.folder_fps = Some(1.0),
    ];
    for (index, change) in windows.iter().enumerate() {
        let mut other = selection;
        change(&mut other);
        let other = key(&plain, &other);
        assert!(!seen.contains(&other), "window {index}");
        seen.push(other);
    }
    let later = |seconds| {
        let start = Some(1.0);
        key(
            &plain,
            &Selection {
                start,
                seconds,
                ..selection
            },
        )
    };
    assert_ne!(later(Seconds::Presentation), later(Seconds::AverageRate));
    let mut same = selection;
    same.seconds = Seconds::AverageRate;
    assert_eq!(
        key(&plain, &same),
        first,
        "the selection does not use seconds"
    );
    (same.start, same.end_frame) = (Some(f64::NAN), Some(-1));
    assert_eq!(key(&plain, &same), first, "these values are ignored");

    fs::write(&plain.weights[0], "Numbers").unwrap();
    assert_ne!(
        key(&plain, &selection),
        first,
        "different weights of the same size"
    );
    fs::write(&plain.weights[0], "numbers").unwrap();
    assert_eq!(key(&plain, &selection), first);
    fs::write(&video, "Frames").unwrap();
    assert_ne!(key(&plain, &selection), first, "another video");
}

#[test]
fn a_settled_file_is_read_once_even_by_another_process() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("weights");
    let kept = folder.path().join("digests");
    let long_ago = SystemTime::now() - Duration::from_secs(100);
    let write = |byte: u8, when: SystemTime| {
        fs::write(&path, vec![byte; 17 << 20]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_times(FileTimes::new().set_modified(when)).unwrap();
    };
    write(1, long_ago);
    let first = Digests::new(kept.clone()).of(&path).unwrap();
    // The change cannot be detected: the size and the time are the same.
    write(2, long_ago);
    assert_eq!(Digests::new(kept.clone()).of(&path).unwrap(), first);
    write(2, long_ago + Duration::from_secs(1));
    let second = Digests::new(kept.clone()).of(&path).unwrap();
    assert_ne!(second, first);
    // Modified too recently: the time is not reliable.
    let digests = Digests::new(kept);
    let now = SystemTime::now();
    write(3, now);
    let third = digests.of(&path).unwrap();
    write(4, now);
    assert_ne!(digests.of(&path).unwrap(), third);
}

#[test]
fn the_digest_of_a_folder_depends_on_its_files() {
    let folder = tempdir().unwrap();
    let digests = Digests::new(folder.path().join("digests"));
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).unwrap();
    fs::write(frames.join("1.png"), "a").unwrap();
    let one = digests.of(&frames).unwrap();
    fs::write(frames.join("2.png"), "b").unwrap();
    let two = digests.of(&frames).unwrap();
    assert_ne!(one, two);
    fs::write(frames.join("1.png"), "c").unwrap();
    assert_ne!(digests.of(&frames).unwrap(), two);
}

#[test]
fn features_are_counted_before_and_after_they_are_written() {
    let folder = tempdir().unwrap();
    let keys = keys(3);
    let cache = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    assert!(cache.is_empty());
    cache.put(&keys[0], &features(0)).unwrap();
    cache.put(&keys[1], &features(1)).unwrap();
    cache.flush().unwrap();
    cache.put(&keys[2], &features(2)).unwrap();
    assert_eq!(cache.len(), 3);
    assert!(!cache.is_empty());
}

#[test]
fn a_cache_is_opened_in_the_format_of_most_of_its_features() {
    // The number of features in each format, and the expected format.
    for (f16, bf16, f32, expected) in [
        (0, 3, 2, StoreDtype::Bf16),
        (1, 2, 3, StoreDtype::F32),
        (3, 1, 2, StoreDtype::F16),
        (2, 2, 0, StoreDtype::F16),
    ] {
        let folder = tempdir().unwrap();
        let keys = keys(3);
        for (dtype, count) in [
            (StoreDtype::F16, f16),
            (StoreDtype::Bf16, bf16),
            (StoreDtype::F32, f32),
        ] {
            let cache = FeatureCache::open(folder.path(), dtype).unwrap();
            for key in &keys[..count] {
                cache.put(key, &features(count)).unwrap();
            }
            cache.flush().unwrap();
        }
        let cache = FeatureCache::open_as_kept(folder.path()).unwrap();
        assert_eq!(
            cache.len(),
            f16.max(bf16).max(f32),
            "{expected} of {f16}, {bf16}, {f32}"
        );
        let put = values(&cache.get(&keys[0]).unwrap());
        let like = FeatureCache::open(folder.path(), expected).unwrap();
        assert_eq!(put, values(&like.get(&keys[0]).unwrap()));
        let notices = cache.take_notices();
        assert!(
            !notices
                .iter()
                .any(|notice| notice.contains("did not exist")),
            "{notices:?}"
        );
    }
}

#[test]
fn a_new_cache_is_reported() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("mistyped");
    let notices = FeatureCache::open_as_kept(&path).unwrap().take_notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("mistyped did not exist"), "{notices:?}");
}

#[test]
fn formats_have_the_names_that_settings_use() {
    for (name, dtype) in [
        ("f16", StoreDtype::F16),
        ("bf16", StoreDtype::Bf16),
        ("f32", StoreDtype::F32),
    ] {
        assert_eq!(name.parse(), Ok(dtype));
        assert_eq!(dtype.to_string(), name);
    }
    let error = "f64".parse::<StoreDtype>().unwrap_err();
    assert!(error.contains("`f64`"), "{error}");
}

#[test]
fn shards_shorter_than_their_header_are_skipped() {
    let folder = tempdir().unwrap();
    drop(FeatureCache::open(folder.path(), StoreDtype::F16).unwrap());
    let shards = folder.path().join("shards");
    fs::create_dir_all(&shards).unwrap();
    for length in [1000u64, 1 << 40, u64::MAX] {
        fs::write(shards.join("torn.safetensors"), length.to_le_bytes()).unwrap();
        let notices = FeatureCache::open(folder.path(), StoreDtype::F16)
            .unwrap()
            .take_notices();
        let expected = format!("a header of {length} bytes in a file of 8");
        assert!(
            notices.iter().any(|notice| notice.contains(&expected)),
            "{notices:?}"
        );
    }
}

#[test]
fn shards_of_earlier_versions_are_read_and_reported_once() {
    let folder = tempdir().unwrap();
    let keys = keys(2);
    drop(FeatureCache::open(folder.path(), StoreDtype::F32).unwrap());
    let shards = folder.path().join("shards");
    fs::create_dir_all(&shards).unwrap();
    for (n, key) in keys.iter().enumerate() {
        let bytes: Vec<u8> = values(&features(n))
            .into_iter()
            .flat_map(f32::to_le_bytes)
            .collect();
        let view = TensorView::new(Dtype::F32, vec![4, 3], &bytes).unwrap();
        let file = safetensors::serialize([(key.as_str(), view)], None).unwrap();
        fs::write(shards.join(format!("{n}.safetensors")), file).unwrap();
    }
    let cache = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(values(&cache.get(key).unwrap()), values(&features(n)));
    }
    let notices = cache.take_notices();
    let reported = notices
        .iter()
        .filter(|notice| notice.contains("without checksums"));
    assert_eq!(reported.count(), 1, "{notices:?}");
}

#[test]
fn claims_of_the_living_count_and_other_files_are_left_alone() {
    let folder = tempdir().unwrap();
    let keys = keys(2);
    let (a, b) = (&keys[..1], &keys[1..]);
    let claims = || claims::Claims::new(folder.path()).unwrap();
    let (mut first, mut second) = (claims(), claims());
    let stranger = folder.path().join("notes.txt");
    fs::write(&stranger, format!("{}\n", keys[1])).unwrap();
    let dead = folder.path().join("1-1.claims");
    fs::write(&dead, format!("{}\n", keys[1])).unwrap();
    assert!(first.claim(a).unwrap());
    assert!(first.claim(a).unwrap(), "its own claim");
    assert!(!dead.exists(), "its process has ended");
    assert!(!second.claim(&keys).unwrap());
    assert!(second.claim(b).unwrap());
    assert!(!first.claim(b).unwrap());
    drop(first);
    assert!(second.claim(a).unwrap());
    assert!(stranger.exists());
}

#[test]
fn digests_of_small_files_are_not_kept_on_the_disk() {
    let folder = tempdir().unwrap();
    let (path, kept) = (folder.path().join("a"), folder.path().join("digests"));
    let digests = Digests::new(kept.clone());
    let write = |text: &str, age| {
        fs::write(&path, text).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let when = SystemTime::now() - Duration::from_secs(age);
        file.set_times(FileTimes::new().set_modified(when)).unwrap();
        digests.of(&path).unwrap().to_string()
    };
    // FIPS 180-2, and sha256sum.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(write("abc", 100), abc);
    let other = write("abd", 99);
    assert_ne!(other, abc, "another time of change");
    assert_eq!(write("abc", 98), abc);
    assert!(!kept.exists());
}
