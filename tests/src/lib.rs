//! Helpers for the tests: the binary and the plugins of the build under test, runs of the binary, fixtures and
//! tolerances, local servers, and copies of a toy model that a test may change.

mod artifacts;
mod benchmark;
mod close;
pub mod edit_gguf;
mod hub;
mod judge;
mod models;
mod pages;
mod run;
mod tensors;
mod tiny;
mod training;

pub use artifacts::{artifacts, library_file, model_library, torch_plugin};
pub use benchmark::{Benchmark, json_lines, tiny_model, tiny_options};
pub use close::{LEAST_COSINE, TOLERANCE, assert_aligned, assert_close, cosine};
pub use hub::{COMMIT, Fault, FileKind, HubRequest, HubServer, TOKEN};
pub use judge::{JudgeFault, JudgeServer};
pub use models::{load_encoder, load_llm, model_source};
pub use pages::Page;
pub use run::{Finished, Run, ask_about, assert_all_fail, assert_cases};
pub use tensors::{Dtype, Stored, Tensor, Tensors, edit, read, write_f32};
pub use tiny::{Tiny, plugin_folder};
pub use training::{TrainingRun, tiny_with_one_encoder};

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The root folder of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
}

/// The path of a file or folder in `tests/fixtures`.
pub fn fixture(path: &str) -> PathBuf {
    root().join("tests/fixtures").join(path)
}

/// The clip that ships with the repository.
pub fn clip() -> PathBuf {
    root().join("assets/bigbuckbunny.mp4")
}

/// A clip of 96 × 54 pixels, which is quick to decode.
pub fn small_clip() -> PathBuf {
    fixture("video/bframes.mp4")
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The SHA-256 of `bytes` in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
