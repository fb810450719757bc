//! `make bench`: measures speed, and prints ratios with their spread. It does not pass or fail.
//!
//! If `$MERV_PYTHON` (by default `python3`) has PyTorch, SigLIP-B/16 runs alternately in both, with the same weights
//! and number of threads.

use merv_host::plugin::{Encoder, Library, PluginPath};
use merv_plugin_api::{Clips, DType, EncoderRequest, TensorView};
use merv_tests::{load_encoder, model_source};
use safetensors::{Dtype, tensor::TensorView as FileTensor};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// Rounds, in each of which both implementations are timed.
const ROUNDS: usize = 4;

/// Timed runs of each implementation in a round.
const RUNS: usize = 3;

/// The number of frames of the clip.
const FRAMES: usize = 16;

/// The sizes of SigLIP-B/16 at 224 pixels.
const WIDTH: usize = 768;
const DEPTH: usize = 12;
const PATCH: usize = 16;
const SIZE: usize = 224;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    println!("threads: {threads}");
    for dtype in [DType::F32, DType::BF16] {
        siglip(threads, dtype)?;
    }
    println!("\npeak resident memory: {}", resident("self")?);
    tiny()
}

/// Times SigLIP-B/16 on one clip with weights in f32: ours in the real plugin, PyTorch's in timm, which converts its
/// weights beforehand.
fn siglip(threads: usize, dtype: DType) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let weights = folder.path().join("model.safetensors");
    write_siglip(&weights)?;
    let plugin = PluginPath::from_env(&[]).find("siglip")?;
    let mut model = model_source("siglip-vit-b16-224px-all-no-cls", &weights, None);
    model.dtype = Some(dtype);
    let request = EncoderRequest::new(model, FRAMES as u32);
    let encoder = load_encoder(&*Library::open(&plugin, threads)?, &request)?;
    let clip: Vec<f32> = Numbers(3).take(FRAMES * 3 * SIZE * SIZE).collect();
    run(&encoder, &clip)?;
    let gigaflops = 2.0 * encoder.info().macs_per_clip as f64 / 1e9;
    let python = std::env::var("MERV_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut ratios = Vec::new();
    println!("\nSigLIP-B/16, {FRAMES} frames, {dtype}, {gigaflops:.0} GFLOP per clip");
    for round in 1..=ROUNDS {
        let mut seconds = Vec::new();
        for _ in 0..RUNS {
            seconds.push(run(&encoder, &clip)?);
        }
        let ours = median(&mut seconds);
        print!(
            "  round {round}: merv {ours:.3} s ({:.0} GFLOP/s)",
            gigaflops / ours
        );
        match torch(&python, &weights, threads, dtype)? {
            Some(theirs) => {
                println!(", PyTorch {theirs:.3} s, ratio {:.3}", ours / theirs);
                ratios.push(ours / theirs);
            }
            None => println!(", PyTorch is not installed for `{python}`"),
        }
    }
    if !ratios.is_empty() {
        let (low, high) = spread(&ratios);
        println!(
            "  time relative to PyTorch: {:.3} ({low:.3} to {high:.3})",
            median(&mut ratios)
        );
    }
    Ok(())
}

fn run(encoder: &Encoder, clip: &[f32]) -> Result<f64> {
    let shape = [1, FRAMES, 3, SIZE, SIZE];
    let view = TensorView::new(clip, &shape).map_err(|error| error.to_string())?;
    let started = Instant::now();
    encoder.encode(&Clips::new(view))?;
    Ok(started.elapsed().as_secs_f64())
}

/// The median of PyTorch's runs; `None` if PyTorch is not installed.
fn torch(python: &str, weights: &Path, threads: usize, dtype: DType) -> Result<Option<f64>> {
    let has_torch = Command::new(python)
        .args(["-c", "import torch, timm"])
        .output();
    if !has_torch.is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/bench_torch.py");
    let output = Command::new(python)
        .arg(script)
        .args([
            "--dtype",
            &dtype.to_string(),
            "--threads",
            &threads.to_string(),
            "--runs",
            &RUNS.to_string(),
            "--weights",
        ])
        .arg(weights)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(Some(
        report["median_s"]
            .as_f64()
            .ok_or("PyTorch's script did not print median_s")?,
    ))
}

/// Times the toy model from the start of the process to the end of its answer.
fn tiny() -> Result<()> {
    let program = std::env::current_exe()?.with_file_name("merv-host");
    let video: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../assets/bigbuckbunny.mp4"]
        .iter()
        .collect();
    let registry: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fixtures/lively/registry.toml"]
        .iter()
        .collect();
    let mut seconds = Vec::new();
    let mut last = serde_json::Value::Null;
    for _ in 0..2 * ROUNDS {
        let started = Instant::now();
        let output = Command::new(&program)
            .arg("--registry")
            .arg(&registry)
            .args([
                "generate",
                "--json",
                "--max-new-tokens",
                "32",
                "--prompt",
                "What happens?",
            ])
            .arg("--video")
            .arg(&video)
            .output()?;
        seconds.push(started.elapsed().as_secs_f64());
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        last = serde_json::from_slice(&output.stdout)?;
    }
    let (low, high) = spread(&seconds);
    println!("\nthe toy model, 132 frames of 1280x720, 32 tokens, from start to finish");
    println!("  {:.3} s ({low:.3} to {high:.3})", median(&mut seconds));
    println!("  times of the stages in the last run: {}", last["timings"]);
    println!(
        "  peak resident memory: {:.0} MB",
        last["peak_resident_bytes"].as_f64().unwrap_or(0.0) / 1e6
    );
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn spread(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| {
        (low.min(v), high.max(v))
    })
}

/// The peak resident memory of a process, as Linux reports it.
fn resident(process: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.map_or("unknown".to_owned(), |value| value.trim().to_owned()))
}

/// Uniform numbers in ±1 that are the same on every machine.
struct Numbers(u32);

impl Iterator for Numbers {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0)
    }
}

/// Writes random weights for SigLIP-B/16 under timm's names, including the pooling head.
fn write_siglip(path: &Path) -> Result<()> {
    let d = WIDTH;
    let tokens = (SIZE / PATCH).pow(2);
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("patch_embed.proj.weight".into(), vec![d, 3, PATCH, PATCH]),
        ("patch_embed.proj.bias".into(), vec![d]),
        ("pos_embed".into(), vec![1, tokens, d]),
    ];
    let mut layer = |name: String, outputs: usize, inputs: usize| {
        shapes.push((format!("{name}.weight"), vec![outputs, inputs]));
        shapes.push((format!("{name}.bias"), vec![outputs]));
    };
    for block in 0..DEPTH {
        layer(format!("blocks.{block}.attn.qkv"), 3 * d, d);
        layer(format!("blocks.{block}.attn.proj"), d, d);
        layer(format!("blocks.{block}.mlp.fc1"), 4 * d, d);
        layer(format!("blocks.{block}.mlp.fc2"), d, 4 * d);
    }
    layer("attn_pool.q".into(), d, d);
    layer("attn_pool.kv".into(), 2 * d, d);
    layer("attn_pool.proj".into(), d, d);
    layer("attn_pool.mlp.fc1".into(), 4 * d, d);
    layer("attn_pool.mlp.fc2".into(), d, 4 * d);
    shapes.push(("attn_pool.latent".into(), vec![1, 1, d]));
    let norms = (0..DEPTH).flat_map(|b| [format!("blocks.{b}.norm1"), format!("blocks.{b}.norm2")]);
    for norm in norms.chain(["norm".into(), "attn_pool.norm".into()]) {
        shapes.push((format!("{norm}.weight"), vec![d]));
        shapes.push((format!("{norm}.bias"), vec![d]));
    }
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .zip(1..)
        .map(|((name, shape), seed)| {
            let count = shape.iter().product();
            let bytes = Numbers(seed)
                .take(count)
                .flat_map(|v| (v * 0.03).to_le_bytes())
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views = data
        .iter()
        .map(|(name, shape, bytes)| Ok((name, FileTensor::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>>>()?;
    Ok(safetensors::serialize_to_file(views, None, path)?)
}
