//! `merv-host plot`: the curves of a training run as images.

use merv_tests::Run;
use std::{fs, path::Path};
use tempfile::tempdir;

fn metrics(folder: &Path) {
    let line = |step: u32| {
        format!(
            "{{\"step\":{step},\"loss\":{},\"learning_rate\":0.001,\"gradient_norm\":1,\"tokens_per_second\":5}}\n",
            3.0 / f64::from(step + 1)
        )
    };
    let lines: String = (0..40).map(line).collect();
    // The last line is incomplete, as while the run continues.
    fs::write(folder.join("metrics.jsonl"), lines + "{\"step\":4").unwrap();
}

#[test]
fn curves_are_written_to_the_requested_place() {
    let run = tempdir().unwrap();
    metrics(run.path());
    let plot = |out: Option<&Path>| {
        let run = Run::new().arg("plot").arg(run.path());
        out.into_iter()
            .fold(run, |run, out| run.arg("--out").arg(out))
            .finish()
    };
    let finished = plot(None).succeeded();
    assert!(finished.stderr.contains("last line"), "{finished}");
    for (file, beginning) in [("curves.svg", &b"<svg "[..]), ("curves.png", b"\x89PNG")] {
        assert!(finished.stdout.contains(file), "{finished}");
        assert!(
            fs::read(run.path().join(file))
                .unwrap()
                .starts_with(beginning)
        );
    }
    let other = tempdir().unwrap();
    plot(Some(&other.path().join("new"))).succeeded();
    assert!(other.path().join("new/curves.png").is_file());
    plot(Some(&other.path().join("only.svg"))).succeeded();
    assert!(other.path().join("only.svg").is_file());
    plot(Some(&other.path().join("only.jpg"))).failed(2, &["only.jpg", ".svg or .png"]);
}

#[test]
fn unusable_metrics_are_refused() {
    let run = tempdir().unwrap();
    let plot = || Run::new().arg("plot").arg(run.path()).finish();
    plot().failed(1, &["metrics.jsonl", "cannot be read"]);
    fs::write(run.path().join("metrics.jsonl"), "").unwrap();
    plot().failed(1, &["no metrics yet"]);
    fs::write(
        run.path().join("metrics.jsonl"),
        "{\"step\":1,\"loss\":2}\noops\n{\"step\":2}\n",
    )
    .unwrap();
    plot().failed(1, &["line 2"]);
}
