//! Computes the clips of all encoders from one list of frames, without repeating work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use merv_plugin_api::{Interpolation, PreprocessSpec, ResizeDomain};

use super::geometry::axes;
use super::normalize::NormalizationTable;
use super::pixels::{FrameMut, PixelKind, Pixels};
use super::{ResizeStrategy, TransformError, resize, torch_resize};
use crate::video::RgbFrame;

/// Maximum size of a clip in pixels. A larger value is an error in a plugin.
const MAX_IMAGE_SIZE: u32 = 8192;

/// The frames of one video, preprocessed for one encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Clip {
    /// `[num_frames, 3, image_size, image_size]`
    pub data: Pixels,
    /// Number of frames.
    pub num_frames: usize,
    /// Height and width, in pixels.
    pub image_size: usize,
}

/// The clip that one encoder needs.
#[derive(Debug, Clone, Copy)]
pub struct ClipRequest<'a> {
    /// The preprocessing of its frames.
    pub spec: &'a PreprocessSpec,
    /// The number of frames it takes. It must divide the number of available frames.
    pub num_frames: usize,
    /// The form of its values.
    pub pixels: PixelKind,
}

/// Computes a clip for each request, on up to `threads` threads.
///
/// An encoder that takes `k` of `n` frames gets every `n / k`-th frame. Equal requests share one clip. Requests
/// that differ only in their normalisation share the resized frames. A frame that occurs several times in
/// `frames` (the same `Arc`) is computed once.
///
/// # Errors
/// When `frames` is empty, when the frame count of a request does not divide its length, when the number of bytes
/// of a frame does not match its size, or when a spec is invalid.
pub fn clips(
    frames: &[Arc<RgbFrame>],
    requests: &[ClipRequest<'_>],
    strategy: ResizeStrategy,
    threads: usize,
) -> Result<Vec<Arc<Clip>>, TransformError> {
    check(frames, requests)?;
    let distinct = DistinctFrames::of(frames);

    let mut plans: Vec<ClipPlan> = Vec::new();
    let plan_of: Vec<usize> = requests
        .iter()
        .map(|request| {
            let same = |plan: &ClipPlan| {
                plan.spec == *request.spec
                    && plan.num_frames == request.num_frames
                    && plan.pixels == request.pixels
            };
            plans.iter().position(same).unwrap_or_else(|| {
                plans.push(ClipPlan::new(request, strategy, frames.len(), &distinct));
                plans.len() - 1
            })
        })
        .collect();

    // First resize in bytes, which plans may share. Then compute the floats of each plan.
    let mut squares: HashMap<(ResizeKey, usize), OnceLock<Vec<u8>>> = HashMap::new();
    for plan in &plans {
        let Some(shape) = plan.shape else { continue };
        for &source in &plan.sources {
            squares.entry((shape, source)).or_default();
        }
    }
    in_parallel(
        squares.iter().collect(),
        threads,
        |((shape, source), square)| {
            square.get_or_init(|| shape.resize(&frames[distinct.first[*source]], strategy));
        },
    );

    let mut tasks = Vec::new();
    for plan in &mut plans {
        let (spec, sources, table) = (&plan.spec, &plan.sources, &plan.table);
        let shape = plan.shape;
        for (place, values) in plan.data.frames_mut(plan.frame_len).into_iter().enumerate() {
            let source = sources[place];
            if sources[..place].contains(&source) {
                continue;
            }
            tasks.push(FrameTask {
                spec,
                shape,
                source,
                table,
                values,
            });
        }
    }
    let square = |shape, source| {
        let square = squares.get(&(shape, source)).and_then(OnceLock::get);
        square.map_or(&[][..], Vec::as_slice)
    };
    in_parallel(tasks, threads, |task| match (task.shape, task.values) {
        (Some(shape), FrameMut::F32(values)) => {
            task.table.normalize(square(shape, task.source), values);
        }
        (Some(shape), FrameMut::U8(values)) => planes(square(shape, task.source), values),
        (None, FrameMut::F32(values)) => torch_resize::resize(
            &frames[distinct.first[task.source]],
            task.spec.image_size as usize,
            task.spec.short_side as usize,
            task.table,
            values,
        ),
        // Refused by `check`.
        (None, FrameMut::U8(_)) => {}
    });

    let finished: Vec<Arc<Clip>> = plans
        .into_iter()
        .map(|plan| Arc::new(plan.finish()))
        .collect();
    Ok(plan_of
        .into_iter()
        .map(|plan| finished[plan].clone())
        .collect())
}

fn check(frames: &[Arc<RgbFrame>], requests: &[ClipRequest<'_>]) -> Result<(), TransformError> {
    if frames.is_empty() {
        return Err(TransformError::NoFrames);
    }
    for (frame, picture) in frames.iter().enumerate() {
        let (width, height, bytes) = (picture.width, picture.height, picture.data.len());
        let expected = width
            .checked_mul(height)
            .and_then(|pixels| pixels.checked_mul(3));
        if bytes == 0 || expected != Some(bytes) {
            return Err(TransformError::BadFrame {
                frame,
                width,
                height,
                bytes,
            });
        }
    }
    for request in requests {
        let num_frames = request.num_frames;
        if num_frames == 0 || !frames.len().is_multiple_of(num_frames) {
            return Err(TransformError::FramesDoNotDivide {
                num_frames,
                frames: frames.len(),
            });
        }
        check_spec(request.spec)?;
        if request.pixels == PixelKind::U8 && request.spec.domain != ResizeDomain::PILLOW_U8 {
            return Err(TransformError::BadSpec {
                reason: "clips of bytes need the resize domain pillow-u8",
                spec: Box::new(request.spec.clone()),
            });
        }
    }
    Ok(())
}

/// Arranges pixels by channel.
///
/// # Shapes
/// `[height, width, 3]` → `[3, height, width]`
fn planes(pixels: &[u8], into: &mut [u8]) {
    let (pixels, _) = pixels.as_chunks::<3>();
    for (channel, values) in into.chunks_exact_mut(pixels.len().max(1)).enumerate() {
        let pairs = values.iter_mut().zip(pixels);
        pairs.for_each(|(value, pixel)| *value = pixel[channel]);
    }
}

/// Checks that frames can be preprocessed as a plugin describes.
///
/// # Errors
/// When a size or number is impossible, or this version does not know a choice.
pub fn check_spec(spec: &PreprocessSpec) -> Result<(), TransformError> {
    let bad = |reason| {
        Err(TransformError::BadSpec {
            reason,
            spec: Box::new(spec.clone()),
        })
    };
    if spec.image_size == 0 || spec.image_size > MAX_IMAGE_SIZE {
        return bad("`image_size` must be between 1 and 8192");
    }
    if spec.short_side < spec.image_size || spec.short_side > MAX_IMAGE_SIZE {
        return bad("`short_side` must be between `image_size` and 8192");
    }
    if !spec.mean.iter().all(|mean| mean.is_finite()) {
        return bad("`mean` must be finite");
    }
    if !spec.std.iter().all(|std| std.is_normal()) {
        return bad("`std` must be finite and not zero");
    }
    if ![Interpolation::BILINEAR, Interpolation::BICUBIC].contains(&spec.interpolation) {
        return bad("`interpolation` must be bilinear or bicubic");
    }
    if ![ResizeDomain::PILLOW_U8, ResizeDomain::TORCH_F32].contains(&spec.domain) {
        return bad("`domain` must be pillow-u8 or torch-f32");
    }
    if spec.domain == ResizeDomain::TORCH_F32 && spec.interpolation != Interpolation::BILINEAR {
        return bad("torch's resize on floats supports only the bilinear filter");
    }
    if !spec.extra.is_empty() {
        return bad("`extra` has steps that this version of merv-host does not know");
    }
    Ok(())
}

/// Groups frames that are the same `Arc`.
struct DistinctFrames {
    /// The index of the first occurrence of each distinct frame.
    first: Vec<usize>,
    /// The number of the distinct frame at each index.
    at: Vec<usize>,
}

impl DistinctFrames {
    fn of(frames: &[Arc<RgbFrame>]) -> Self {
        let mut number = HashMap::new();
        let mut first = Vec::new();
        let at = frames
            .iter()
            .enumerate()
            .map(|(place, frame)| {
                *number.entry(Arc::as_ptr(frame)).or_insert_with(|| {
                    first.push(place);
                    first.len() - 1
                })
            })
            .collect();
        Self { first, at }
    }
}

/// Everything that determines a resized frame, besides the frame itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct ResizeKey {
    image_size: usize,
    short_side: usize,
    interpolation: Interpolation,
    /// The colour of letterbox bars.
    fill: [u8; 3],
}

impl ResizeKey {
    fn new(spec: &PreprocessSpec, strategy: ResizeStrategy) -> Self {
        let image_size = spec.image_size as usize;
        // Fields that the strategy ignores must not make two keys differ.
        let naive = strategy == ResizeStrategy::ResizeNaive;
        let fill = |mean: f32| (f64::from(mean) * 255.0) as u8;
        Self {
            image_size,
            short_side: if naive {
                image_size
            } else {
                spec.short_side as usize
            },
            interpolation: spec.interpolation,
            fill: match strategy {
                ResizeStrategy::Letterbox => spec.mean.map(fill),
                _ => [0; 3],
            },
        }
    }

    /// Resizes a frame.
    ///
    /// # Shapes
    /// `[height, width, 3]` → `[image_size, image_size, 3]`
    fn resize(&self, frame: &RgbFrame, strategy: ResizeStrategy) -> Vec<u8> {
        let size = (frame.width, frame.height);
        let (columns, rows) = axes(strategy, size, self.image_size, self.short_side);
        resize::resize(frame, &columns, &rows, self.interpolation, self.fill)
    }
}

/// A clip to compute.
struct ClipPlan {
    spec: PreprocessSpec,
    num_frames: usize,
    pixels: PixelKind,
    /// `None` for a clip that is resized as floats.
    shape: Option<ResizeKey>,
    /// The number of the distinct frame at each index of the clip.
    sources: Vec<usize>,
    table: NormalizationTable,
    /// The number of values of one frame.
    frame_len: usize,
    data: Pixels,
}

impl ClipPlan {
    fn new(
        request: &ClipRequest<'_>,
        strategy: ResizeStrategy,
        frames: usize,
        distinct: &DistinctFrames,
    ) -> Self {
        let spec = request.spec.clone();
        let image_size = spec.image_size as usize;
        let frame_len = 3 * image_size * image_size;
        let every = frames / request.num_frames;
        Self {
            num_frames: request.num_frames,
            pixels: request.pixels,
            shape: (spec.domain == ResizeDomain::PILLOW_U8)
                .then(|| ResizeKey::new(&spec, strategy)),
            sources: distinct.at.iter().copied().step_by(every).collect(),
            table: NormalizationTable::new(spec.mean, spec.std),
            spec,
            frame_len,
            data: Pixels::zeros(request.pixels, request.num_frames * frame_len),
        }
    }

    /// Copies repeated frames to their other indices.
    fn finish(mut self) -> Clip {
        for (place, source) in self.sources.iter().enumerate() {
            let first = self
                .sources
                .iter()
                .position(|other| other == source)
                .unwrap_or(place);
            if first != place {
                self.data.copy_frame(first, place, self.frame_len);
            }
        }
        let image_size = self.spec.image_size as usize;
        Clip {
            data: self.data,
            num_frames: self.num_frames,
            image_size,
        }
    }
}

/// One frame of a clip to compute.
struct FrameTask<'a> {
    spec: &'a PreprocessSpec,
    shape: Option<ResizeKey>,
    source: usize,
    table: &'a NormalizationTable,
    values: FrameMut<'a>,
}

/// Calls `work` for every task, on this thread and up to `threads - 1` others.
fn in_parallel<T: Send>(tasks: Vec<T>, threads: usize, work: impl Fn(T) + Sync) {
    let helpers = threads.min(tasks.len()).saturating_sub(1);
    let queue = Mutex::new(tasks.into_iter());
    let run = || {
        loop {
            let task = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(task) = task else { break };
            work(task);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            // If no thread can be spawned, this thread does all the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, run);
        }
        run();
    });
}
