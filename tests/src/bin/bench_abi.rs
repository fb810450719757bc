//! `make bench-abi`: what a call through the plugin boundary costs, and whether a clip is copied on the way. It prints
//! medians with their spread, next to the same work without the boundary, and does not pass or fail.

use merv_host::plugin::{Cancellation, Encoder, Library};
use merv_plugin_api::{Clips, Device, EncoderRequest, ModelSource, TensorBuf, TensorView};
use merv_tests::{artifacts, load_encoder};
use std::{error::Error, hint::black_box, time::Instant};

const ROUNDS: usize = 9;
const CALLS: usize = 20_000;

/// The frames of the large clip, of 2 × 2 pixels: 192 MiB of `f32`.
const MANY_FRAMES: usize = 4 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let library = Library::open(artifacts().library("test_plugin_snapshot_2_0"), 1)?;
    let small = encoder(&library, 1)?;
    let pixels = vec![0.5f32; 12];
    let shape = [1, 1, 3, 2, 2];
    let clips = Clips::new(TensorView::new(&pixels, &shape).map_err(|error| error.message)?);
    let calls = |body: &dyn Fn()| {
        times(|| (0..CALLS).for_each(|_| body())).map(|seconds| seconds / CALLS as f64 * 1e6)
    };
    show(
        "a call of `encode`, in µs",
        calls(&|| drop(small.encode(&clips))),
    );
    let cancellation = Cancellation::new();
    show(
        "the same, where it could be cancelled, in µs",
        calls(&|| drop(cancellation.scope(|| small.encode(&clips)))),
    );
    show(
        "the same work without the boundary, in µs",
        calls(&|| drop(direct(&clips))),
    );

    let large = encoder(&library, MANY_FRAMES)?;
    let mut pixels = vec![0.5f32; 12 * MANY_FRAMES];
    let shape = [1, MANY_FRAMES, 3, 2, 2];
    let copied = times(|| drop(black_box(pixels.clone())));
    let view = TensorView::new(&pixels, &shape).map_err(|error| error.message)?;
    let through = times(|| drop(large.encode(&Clips::new(view))));
    let without = times(|| drop(direct(&Clips::new(view))));
    show(
        "192 MiB through the boundary, in ms",
        through.map(|s| s * 1e3),
    );
    show(
        "the same work without the boundary, in ms",
        without.map(|s| s * 1e3),
    );
    show("a copy of the clip alone, in ms", copied.map(|s| s * 1e3));
    pixels.clear();
    Ok(())
}

fn encoder(library: &Library, frames: usize) -> Result<Encoder, Box<dyn Error>> {
    let model = ModelSource::new("first-pixel-2.0.0", Device::CPU);
    let request = EncoderRequest::new(model, u32::try_from(frames)?);
    Ok(load_encoder(library, &request)?)
}

/// What the encoder of the plugin computes: the first value of each frame.
fn direct(clips: &Clips<'_>) -> Option<TensorBuf> {
    let [batch, frames, channels, height, width] = clips.pixels.dims::<5>().ok()?;
    let all = clips.pixels.f32s().ok()?;
    let all = all.chunks_exact(channels * height * width);
    let first = all.filter_map(|frame| frame.first().copied()).collect();
    TensorBuf::from_vec::<f32>(first, &[batch, frames, 1]).ok()
}

/// The seconds of `body` in each round, in ascending order.
fn times(body: impl Fn()) -> [f64; ROUNDS] {
    body();
    let mut seconds = [0.0; ROUNDS].map(|_: f64| {
        let started = Instant::now();
        body();
        started.elapsed().as_secs_f64()
    });
    seconds.sort_by(f64::total_cmp);
    seconds
}

fn show(what: &str, values: [f64; ROUNDS]) {
    let (low, median, high) = (values[0], values[ROUNDS / 2], values[ROUNDS - 1]);
    println!("{what}: {median:.3} ({low:.3} to {high:.3})");
}
