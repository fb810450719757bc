//! `make parity`: compares every encoder at its published size with the original PyTorch implementation
//! (`$MERV_PYTHON`). Weights are random, under the published names. Ours runs in the library that users load.
//!
//! Ours runs in `f32` and in `bf16`, PyTorch in `f32`. The program prints the largest error, the cosines of the tokens,
//! and the time and memory of both sides. It fails if an error is larger than rounding explains. Each side runs in a
//! separate process, so that its memory can be measured.
//!
//! Usage: `parity [ENCODER_ID…]`. Without ids, all encoders are compared.

use merv_host::plugin::{Library, PluginPath};
use merv_plugin_api::{Clips, DType, EncoderRequest, TensorView};
use merv_tests::{
    LEAST_COSINE, TOLERANCE, Tensor, cosine, load_encoder, model_source, read, write_f32,
};
use serde_json::{Value, json};
use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

/// The ids and plugins of the encoders, as in `tests/python/full_size.py`.
const ENCODERS: [(&str, &str); 5] = [
    ("siglip-vit-b16-224px-all-no-cls", "siglip"),
    ("vivit-google-b-all-no-cls-16frames", "vivit"),
    ("hiera-base-video", "hiera"),
    ("dinov2-video-all-tokens", "dinov2"),
    ("languagebind-video-noclass", "languagebind"),
];

/// The argument that makes this program run one encoder. Plugin, id, folder, threads and dtype follow.
const OURS: &str = "--ours";

/// The file that our side writes next to the reference.
const FOUND: &str = "found.safetensors";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [first, plugin, id, folder, threads, dtype] = arguments.as_slice()
        && first == OURS
    {
        let dtype = match dtype.as_str() {
            "bf16" => DType::BF16,
            _ => DType::F32,
        };
        let folder = Path::new(folder);
        println!("{}", ours(plugin, id, folder, threads.parse()?, dtype)?);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = arguments
        .iter()
        .find(|id| ENCODERS.iter().all(|(known, _)| known != id))
    {
        let known = ENCODERS.map(|(id, _)| id).join(", ");
        return Err(format!("expected ids among {known}; found `{unknown}`").into());
    }
    let threads = std::thread::available_parallelism()?.get();
    println!("threads: {threads}");
    let mut within_tolerance = true;
    for (id, plugin) in ENCODERS {
        if arguments.is_empty() || arguments.iter().any(|asked| asked == id) {
            within_tolerance &= compare(plugin, id, threads)?;
        }
    }
    Ok(if within_tolerance {
        ExitCode::SUCCESS
    } else {
        println!(
            "\nsome errors are above {TOLERANCE:.0e} of the output's scale in f32, or some cosines below {LEAST_COSINE} in \
             bf16: more than rounding explains"
        );
        ExitCode::FAILURE
    })
}

/// Runs both sides, prints how they compare, and returns whether they agree within the tolerances.
fn compare(plugin: &str, id: &str, threads: usize) -> Result<bool> {
    let folder = tempfile::Builder::new()
        .prefix("merv-parity-")
        .tempdir_in(target()?)?;
    let python = env::var("MERV_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/full_size.py");
    let theirs = report(
        Command::new(python)
            .arg(script)
            .arg(id)
            .arg(folder.path())
            .args(["--threads", &threads.to_string()]),
    )?;
    let expected = read(&folder.path().join("io.safetensors"));
    let expected = expected.get("features");
    println!("\n{id}: {:?}", expected.shape);
    print_side("PyTorch", &theirs);
    let mut within_tolerance = true;
    for dtype in [DType::F32, DType::BF16] {
        let ours = report(
            Command::new(env::current_exe()?)
                .args([OURS, plugin, id])
                .arg(folder.path())
                .args([&threads.to_string(), &dtype.to_string()]),
        )?;
        print_side(&format!("merv-host, {dtype}"), &ours);
        let found = read(&folder.path().join(FOUND));
        let found = found.get("features");
        if found.shape != expected.shape {
            return Err(format!(
                "{id}: the shape is {:?}, expected {:?}",
                found.shape, expected.shape
            )
            .into());
        }
        within_tolerance &= is_near(found, expected, dtype);
    }
    Ok(within_tolerance)
}

fn print_side(name: &str, side: &Value) {
    println!(
        "  {name:<15} {:6.2} s, {:5.0} MB resident",
        side["seconds"].as_f64().unwrap_or(f64::NAN),
        side["resident_bytes"].as_f64().unwrap_or(f64::NAN) / 1e6
    );
}

/// Prints how near the features are, and returns whether that is near enough for the dtype.
fn is_near(found: &Tensor, expected: &Tensor, dtype: DType) -> bool {
    let width = expected.shape.last().copied().unwrap_or(1);
    let largest =
        |values: &mut dyn Iterator<Item = f32>| values.fold(0f32, |most, x| most.max(x.abs()));
    let scale = largest(&mut expected.values.iter().copied());
    let pairs = found.values.iter().zip(&expected.values);
    // A maximum ignores NaN.
    let finite = found.values.iter().all(|x| x.is_finite()) && scale > 0.0;
    let error = largest(&mut pairs.map(|(a, b)| a - b)) / scale;
    let tokens = found
        .values
        .chunks_exact(width)
        .zip(expected.values.chunks_exact(width));
    let cosines: Vec<f64> = tokens.map(|(a, b)| cosine(a, b)).collect();
    let least = cosines.iter().copied().fold(f64::INFINITY, f64::min);
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    println!("    largest error {error:.2e} of the scale {scale:.3}");
    println!(
        "    cosine of a token: at least 1 - {:.1e}, on average 1 - {:.1e}",
        1.0 - least,
        1.0 - mean
    );
    finite
        && match dtype {
            DType::F32 => error <= TOLERANCE,
            _ => least >= LEAST_COSINE,
        }
}

/// Our side: encodes the clip twice, writes the features, and reports the second run.
fn ours(plugin: &str, id: &str, folder: &Path, threads: usize, dtype: DType) -> Result<Value> {
    let io = read(&folder.join("io.safetensors"));
    let clips = io.get("clips");
    let frames = clips.shape.get(1).copied().unwrap_or_default();
    let weights = folder.join("model.safetensors");
    // Without a config file, the published sizes apply.
    let mut model = model_source(id, &weights, None);
    model.dtype = Some(dtype);
    let request = EncoderRequest::new(model, frames as u32);
    let library = PluginPath::from_env(&[]).find(plugin)?;
    let encoder = load_encoder(&*Library::open(&library, threads)?, &request)?;
    let run = || -> Result<_> {
        let view = TensorView::new(&clips.values, &clips.shape).map_err(|e| e.to_string())?;
        Ok(encoder.encode(&Clips::new(view))?)
    };
    run()?;
    let started = Instant::now();
    let features = run()?;
    let seconds = started.elapsed().as_secs_f64();
    let view = features.view();
    let values = view.f32s().map_err(|error| error.to_string())?;
    write_f32(&folder.join(FOUND), "features", view.shape(), values);
    Ok(json!({
        "seconds": seconds,
        "resident_bytes": resident()?,
    }))
}

/// Runs a program and parses the JSON that it prints.
fn report(command: &mut Command) -> Result<Value> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?} failed:\n{said}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Cargo's target folder. The files take gigabytes, which `/tmp` may not have.
fn target() -> Result<PathBuf> {
    let exe = env::current_exe()?;
    let folder = exe
        .ancestors()
        .nth(2)
        .ok_or("the program is not in a target folder")?;
    Ok(folder.to_owned())
}

/// The peak resident memory of this process in bytes, as Linux reports it.
fn resident() -> Result<Option<u64>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.map(|kilobytes| kilobytes * 1024))
}
