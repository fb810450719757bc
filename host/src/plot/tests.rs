use super::*;
use std::fs;
use tempfile::{TempDir, tempdir};

fn run(lines: &str) -> TempDir {
    let folder = tempdir().unwrap();
    fs::write(folder.path().join("metrics.jsonl"), lines).unwrap();
    folder
}

fn line(step: u64) -> String {
    let loss = 5.0 / (1.0 + step as f64 / 20.0);
    let validation = if step.is_multiple_of(25) {
        format!(",\"validation_loss\":{}", loss * 1.1)
    } else {
        String::new()
    };
    format!(
        "{{\"step\":{step},\"epoch\":0.1,\"loss\":{loss},\"learning_rate\":{},\"gradient_norm\":{},\
         \"tokens\":10,\"tokens_per_second\":{},\"examples\":4,\"seconds\":1.5,\"data_wait\":0.0,\
         \"mixer_weights\":{{\"dinov2\":0.4,\"siglip\":0.6}}{validation}}}\n",
        1e-4 * step as f64 / 100.0,
        1.0 + (step as f64).sin() / 2.0,
        900 + step % 7,
    )
}

fn lines(count: u64) -> String {
    (0..count).map(line).collect()
}

fn both(folder: &TempDir) -> Vec<Picture> {
    [("c.svg", PictureFormat::Svg), ("c.png", PictureFormat::Png)]
        .map(|(name, format)| Picture {
            path: folder.path().join(name),
            format,
        })
        .to_vec()
}

#[test]
fn pictures_contain_all_curves() {
    let run = run(&lines(100));
    assert_eq!(plot(run.path(), &both(&run)).unwrap(), None);
    let svg = fs::read_to_string(run.path().join("c.svg")).unwrap();
    for word in [
        "loss",
        "validation",
        "learning rate",
        "gradient norm",
        "tokens per second",
        "dinov2",
        "siglip",
    ] {
        assert!(svg.contains(&format!(">{word}</text>")), "{word}");
    }
    // Loss and validation, three single curves, two encoders.
    assert_eq!(svg.matches("stroke-width=\"1.6\"").count(), 7);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
    let png = image::open(run.path().join("c.png")).unwrap().to_rgb8();
    assert_eq!((png.width(), png.height()), (2240, 1880));
    // The loss in the colour of the first curve, on white.
    let blue = png.pixels().filter(|pixel| pixel.0 == [0, 90, 170]).count();
    assert!(blue > 1000, "{blue}");
    assert_eq!(png.get_pixel(3, 3).0, [255; 3]);
}

#[test]
fn a_truncated_last_line_is_skipped_and_an_invalid_line_is_an_error() {
    let mut text = lines(10);
    text.truncate(text.len() - 20);
    let cut = run(&text);
    let skipped = plot(cut.path(), &both(&cut)).unwrap().unwrap();
    assert!(skipped.cut_line);
    let (panels, _) = read_panels(&cut.path().join("metrics.jsonl")).unwrap();
    assert_eq!(panels[0].curves[0].points.len(), 9);

    for bad in [
        "{\"step\":\n",
        "not JSON\n",
        "{\"loss\":1}\n",
        "{\"step\":-1}\n",
    ] {
        let run = run(&(lines(3) + bad + &lines(2)));
        let error = plot(run.path(), &both(&run)).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, line 4"), "{error}");
        assert!(!run.path().join("c.svg").exists());
    }
    let error = plot(run("").path(), &[]).unwrap_err().to_string();
    assert!(error.contains("no metrics yet"), "{error}");
    assert!(matches!(
        plot(Path::new("no/such"), &[]),
        Err(PlotError::Read { .. })
    ));
}

#[test]
fn of_two_lines_of_one_step_the_first_is_drawn() {
    let run = run(&(lines(10) + &lines(12)));
    let (panels, skipped) = read_panels(&run.path().join("metrics.jsonl")).unwrap();
    assert_eq!(panels[0].curves[0].points.len(), 12);
    assert_eq!(skipped.unwrap().repeated, 10);
}

#[test]
fn unusual_runs_are_drawn_too() {
    for text in [
        "{\"step\":1,\"loss\":2.5}\n",
        "{\"step\":0,\"loss\":0}\n\n{\"step\":1,\"loss\":0}\n",
        "{\"step\":1,\"loss\":1e300}\n{\"step\":18446744073709551615,\"loss\":-1e300}\n",
        "{\"step\":1,\"loss\":1e-320}\n{\"step\":2,\"loss\":3e-320}\n",
        "{\"step\":1,\"loss\":null,\"learning_rate\":1e-9}\n{\"step\":2,\"learning_rate\":2e-9}\n",
        "{\"step\":5,\"loss\":1,\"mixer_weights\":{\"a<b>&\\u0007\":0.5}}\n",
    ] {
        let run = run(text);
        plot(run.path(), &both(&run)).unwrap();
        let svg = fs::read_to_string(run.path().join("c.svg")).unwrap();
        assert!(
            !svg.contains("NaN") && !svg.contains("inf"),
            "{text}: {svg}"
        );
        assert!(!svg.contains("a<b"));
        image::open(run.path().join("c.png")).unwrap();
    }
}

#[test]
fn long_runs_keep_their_peaks() {
    let mut text = lines(20_000);
    text += "{\"step\":20000,\"loss\":77.5}\n";
    let run = run(&text);
    plot(run.path(), &both(&run)).unwrap();
    let svg = fs::read_to_string(run.path().join("c.svg")).unwrap();
    assert!(svg.len() < 400_000, "{}", svg.len());
    assert!(
        svg.contains(">80</text>"),
        "the axis does not reach the peak"
    );
}
