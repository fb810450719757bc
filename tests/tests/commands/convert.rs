//! `merv-host convert` on files that cannot be converted.

use merv_tests::{Run, fixture};
use std::fs;
use tempfile::TempDir;

#[test]
fn a_checkpoint_without_tensors_is_refused() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.safetensors");
    fs::write(
        &empty,
        [8u64.to_le_bytes().as_slice(), b"{}      "].concat(),
    )
    .unwrap();
    let run = Run::new().arg("convert").arg(&empty).arg("--out");
    let found = run.arg(folder.path().join("out")).finish();
    let words = [
        empty.display().to_string(),
        "does not contain tensors".to_owned(),
    ];
    found.failed(1, &words);
}

#[test]
fn a_tensor_named_metadata_is_refused() {
    let folder = TempDir::new().unwrap();
    let input = folder.path().join("views.pt");
    let mut bytes = fs::read(fixture("checkpoint/views.legacy.pt")).unwrap();
    let name = b"every_second";
    let at = bytes.windows(name.len()).position(|window| window == name);
    bytes[at.unwrap()..][..name.len()].copy_from_slice(b"__metadata__");
    fs::write(&input, bytes).unwrap();
    let out = folder.path().join("out");
    let run = Run::new().arg("convert").arg(&input).arg("--out").arg(&out);
    let words = ["views.pt", "a tensor is named `__metadata__`", "rename it"];
    run.finish().failed(1, &words);
    assert!(!out.exists());
}
