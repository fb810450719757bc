//! Cached features of the real encoders. They are returned as they were computed, a cached clip is not decoded, and a
//! change of anything that they depend on is noticed.

use merv_host::{
    LoadOptions, Observer, Stage, VidLm, VideoOptions, Visual,
    features::{FeatureCache, StoreDtype},
};
use merv_tests::{Run, Tiny, artifacts, edit, fixture, small_clip};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};
use tempfile::{TempDir, tempdir};

fn load(tiny: &Tiny) -> VidLm {
    let options = LoadOptions {
        plugin_folders: vec![artifacts().host.parent().unwrap().to_owned()],
        ..LoadOptions::default()
    };
    VidLm::load_with(tiny.registry(), &options, &mut ()).unwrap()
}

/// Counts decoded and encoded clips.
#[derive(Debug, Default, PartialEq, Eq)]
struct Work {
    decoded: usize,
    encoded: usize,
}

impl Observer for Work {
    fn progress(&mut self, stage: Stage, _: &str, _: usize, _: usize) {
        match stage {
            Stage::Decode => self.decoded += 1,
            Stage::Encode => self.encoded += 1,
            _ => {}
        }
    }
}

fn see(
    model: &VidLm,
    clip: &Path,
    options: &VideoOptions,
    cache: Option<&FeatureCache>,
) -> (Visual, Work) {
    let mut work = Work::default();
    let visual = model.see_cached(clip, options, cache, &mut work).unwrap();
    (visual, work)
}

fn values(visual: &Visual) -> Vec<Vec<f32>> {
    let tensors = visual.features.iter().chain([&visual.mixed.fused]);
    tensors
        .map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap())
        .collect()
}

const ALL: Work = Work {
    decoded: 1,
    encoded: 4,
};
const NOTHING: Work = Work {
    decoded: 0,
    encoded: 0,
};

#[test]
fn cached_features_are_those_computed_and_need_no_decoding() {
    let tiny = Tiny::new();
    let model = load(&tiny);
    let whole = VideoOptions::default();
    let fresh = values(&see(&model, &small_clip(), &whole, None).0);
    for (dtype, allowed) in [(StoreDtype::F32, 0.0), (StoreDtype::F16, 2f32.powi(-11))] {
        let folder = tempdir().unwrap();
        let cache = FeatureCache::open(folder.path(), dtype).unwrap();
        let (first, work) = see(&model, &small_clip(), &whole, Some(&cache));
        assert_eq!(work, ALL);
        cache.flush().unwrap();
        let (second, work) = see(&model, &small_clip(), &whole, Some(&cache));
        assert_eq!(work, NOTHING);
        assert!(!second.timings.contains_key(&Stage::Decode));
        assert_eq!(
            values(&first),
            values(&second),
            "{dtype}: the cache does not change the features"
        );
        let encoders = fresh.len() - 1;
        for (found, exact) in values(&second).iter().zip(&fresh).take(encoders) {
            for (found, exact) in found.iter().zip(exact) {
                // Below the smallest normal f16, the spacing is 2⁻²⁴.
                let step = allowed * exact.abs().max(2f32.powi(-14));
                assert!(
                    (found - exact).abs() <= step,
                    "{dtype}: {found}, expected {exact}"
                );
            }
        }
        if dtype == StoreDtype::F32 {
            assert_eq!(
                values(&second),
                fresh,
                "the features and the fused tokens are identical"
            );
        }

        // A copy of the clip has the same features.
        let copy = folder.path().join("copy.mp4");
        fs::copy(small_clip(), &copy).unwrap();
        assert_eq!(see(&model, &copy, &whole, Some(&cache)).1, NOTHING);
        // Another time window does not.
        let window = VideoOptions {
            end: Some(0.5),
            ..VideoOptions::default()
        };
        assert_eq!(see(&model, &small_clip(), &window, Some(&cache)).1, ALL);
        assert_eq!(see(&model, &small_clip(), &window, Some(&cache)).1, NOTHING);
        // A dump contains only what was computed.
        let dump = folder.path().join("dump.safetensors");
        let options = merv_host::GenerateOptions {
            dump: Some(dump.clone()),
            ..merv_host::GenerateOptions::default()
        };
        model.answer(&second, "What?", &options, &mut ()).unwrap();
        let names = merv_tests::read(&dump);
        assert!(names.names().all(|name| !name.starts_with("clip.")));
    }
}

/// A folder with two clips, a broken file, and training data that mention these and a missing file.
struct Data {
    folder: TempDir,
    tiny: Tiny,
}

impl Data {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let data = Self {
            folder,
            tiny: Tiny::new(),
        };
        fs::create_dir(data.path("videos")).unwrap();
        fs::copy(small_clip(), data.path("videos/a.mp4")).unwrap();
        fs::copy(fixture("video/odd_size.mp4"), data.path("videos/b.mp4")).unwrap();
        fs::write(data.path("videos/broken.mp4"), "no video").unwrap();
        let talk = json!([{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]);
        let names = [
            "videos/a.mp4",
            "videos/b.mp4",
            "videos/a.mp4",
            "videos/broken.mp4",
            "gone.mp4",
        ];
        let mut examples: Vec<Value> = names
            .iter()
            .enumerate()
            .map(|(id, name)| json!({"id": id.to_string(), "video": name, "conversations": talk}))
            .collect();
        let text = json!([{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]);
        examples.push(json!({"id": "text", "conversations": text}));
        fs::write(data.path("train.json"), json!(examples).to_string()).unwrap();
        data
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn encode(&self) -> Run {
        let run = self
            .tiny
            .run()
            .arg("encode")
            .arg("--data")
            .arg(self.path("train.json"));
        run.arg("--out").arg(self.path("features")).arg("--json")
    }

    /// Runs `encode`, and returns the numbers of encoded, cached and broken clips.
    #[track_caller]
    fn counts(&self) -> [u64; 3] {
        let run = self.encode().finish().succeeded();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(report["clips"], 4);
        let broken = report["broken"].as_array().unwrap().len() as u64;
        let count = |name: &str| report[name].as_u64().unwrap();
        [count("encoded"), count("cached"), broken]
    }
}

#[test]
fn encode_fills_the_cache_once_and_again_after_a_change() {
    let data = Data::new();
    let first = data.encode().finish().succeeded();
    for name in ["broken.mp4", "gone.mp4"] {
        assert!(first.stderr.contains(name), "{first}");
        assert!(first.stdout.contains(name), "{first}");
    }
    assert_eq!(data.counts(), [0, 2, 2]);

    // The library then does not decode the clip.
    let model = load(&data.tiny);
    let cache = FeatureCache::open(data.path("features"), StoreDtype::F16).unwrap();
    let options = VideoOptions::default();
    assert_eq!(
        see(&model, &data.path("videos/a.mp4"), &options, Some(&cache)).1,
        NOTHING
    );

    // A changed weight of one encoder.
    edit(&data.tiny.path("siglip/model.safetensors"), |tensors| {
        let last = tensors.values_mut().next_back().unwrap();
        last.bytes[0] ^= 1;
    });
    assert_eq!(data.counts(), [2, 0, 2]);
    assert_eq!(data.counts(), [0, 2, 2]);
    let model = load(&data.tiny);
    let work = see(&model, &data.path("videos/b.mp4"), &options, Some(&cache)).1;
    assert_eq!(work, NOTHING);

    // A changed resize strategy.
    data.tiny
        .replace("registry.toml", "resize-naive", "letterbox");
    assert_eq!(data.counts(), [2, 0, 2]);

    // A changed clip under the same name.
    fs::copy(data.path("videos/a.mp4"), data.path("videos/b.mp4")).unwrap();
    assert_eq!(
        data.counts(),
        [0, 2, 2],
        "the features are those of the other clip"
    );
}

#[test]
fn only_the_encoder_that_changed_runs_again() {
    let tiny = Tiny::new();
    let folder = tempdir().unwrap();
    let options = VideoOptions::default();
    let cache = FeatureCache::open(folder.path(), StoreDtype::F32).unwrap();
    see(&load(&tiny), &small_clip(), &options, Some(&cache));
    edit(&tiny.path("dinov2/model.safetensors"), |tensors| {
        tensors.values_mut().next().unwrap().bytes[0] ^= 1;
    });
    let model = load(&tiny);
    let (mixed, work) = see(&model, &small_clip(), &options, Some(&cache));
    assert_eq!((work.decoded, work.encoded), (1, 1));
    let (fresh, _) = see(&model, &small_clip(), &options, None);
    assert_eq!(values(&mixed), values(&fresh));
}

#[test]
fn concurrent_processes_may_share_a_cache() {
    let data = Data::new();
    let encoded: Vec<u64> = thread::scope(|scope| {
        let runs: Vec<_> = (0..3).map(|_| scope.spawn(|| data.counts()[0])).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(encoded.iter().sum::<u64>(), 2, "{encoded:?} of two clips");
    assert_eq!(data.counts(), [0, 2, 2]);
    let shards = fs::read_dir(data.path("features/shards")).unwrap();
    for shard in shards {
        let path = shard.unwrap().path();
        assert!(
            path.extension().is_some_and(|end| end == "safetensors"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_truncated_shard_is_reported_and_recomputed() {
    let data = Data::new();
    data.counts();
    let shard = fs::read_dir(data.path("features/shards"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let run = data.encode().finish().succeeded();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(
        (&report["encoded"], &report["cached"]),
        (&json!(2), &json!(0))
    );
    assert!(run.stderr.contains(shard.to_str().unwrap()), "{run}");
}

#[test]
fn mistakes_are_reported() {
    let data = Data::new();
    let run = |arguments: &[&str]| {
        let run = data.tiny.run().arg("encode").args(arguments);
        run.arg("--out").arg(data.path("features")).finish()
    };
    run(&[]).failed(2, &["--data", "--video"]);
    run(&["--data", "no/such.json"]).failed(1, &["no/such.json"]);
    let bad = data.path("bad.json");
    for (content, words) in [
        ("3", ["bad.json", "a JSON list of examples"]),
        (r#"{"id": 1}"#, ["bad.json, line 1 is skipped", "no clips"]),
        (
            r#"[{"video": 7}]"#,
            ["bad.json, example 1 is skipped: `video` is `7`", "no clips"],
        ),
    ] {
        fs::write(&bad, content).unwrap();
        run(&["--data", bad.to_str().unwrap()]).failed(1, &words);
    }
    let empty = tempdir().unwrap();
    run(&["--videos", empty.path().to_str().unwrap()]).failed(1, &["no clips"]);
    run(&["--video", "no/such.mp4"]).failed(1, &["the only clip cannot be read", "no/such.mp4"]);
    fs::write(data.path("file"), "").unwrap();
    let out = data.path("file");
    let run = data
        .tiny
        .run()
        .args(["encode", "--video", "assets/bigbuckbunny.mp4", "--out"]);
    run.arg(&out)
        .finish()
        .failed(1, &["the feature cache cannot use", "file"]);
}
