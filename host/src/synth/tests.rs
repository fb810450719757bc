use super::{
    FRAMES, FRAMES_PER_SECOND, Split,
    movie::ClipCodec,
    paint::paint,
    scene::{Colour, Direction, Scene, Shape, Sprite, Story},
    scene_generator::SceneGenerator,
    words::{Kind, Question, QuestionWriter, caption},
};
use crate::video::{self, ReadLimits, RgbFrame, Selection};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    sync::Arc,
};

const SIDE: usize = 64;

fn scenes(seed: u64, split: Split, count: usize) -> Vec<Scene> {
    let mut generator = SceneGenerator::new(seed, split);
    (0..count).map(|_| generator.scene()).collect()
}

fn time(frame: usize) -> f32 {
    frame as f32 / (FRAMES - 1) as f32
}

#[test]
fn a_seed_gives_the_same_scenes_for_any_number_of_clips() {
    let many = scenes(3, Split::Train, 200);
    assert_eq!(scenes(3, Split::Train, 50), many[..50]);
    assert_ne!(scenes(4, Split::Train, 50), many[..50]);
    assert_ne!(scenes(3, Split::HeldOut, 50), many[..50]);
    // Models were trained on these captions.
    assert_eq!(caption(&many[0]), GOLDEN[0]);
    assert_eq!(caption(&many[1]), GOLDEN[1]);
}

const GOLDEN: [&str; 2] = [
    "A large yellow triangle moves fast right over stripes. The camera moves.",
    "First a green square appears on clouds, then an orange cross.",
];

#[test]
fn no_combination_is_in_both_splits() {
    let [train, held_out] = [Split::Train, Split::HeldOut].map(|split| {
        let scenes = scenes(1, split, 4000);
        let mut parts: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        let mut whole = BTreeSet::new();
        for scene in &scenes {
            for (place, part) in scene.combination.split('/').enumerate() {
                parts.entry(place).or_default().insert(part.to_owned());
            }
            whole.insert(scene.combination.clone());
        }
        (whole, parts)
    });
    assert!(train.0.is_disjoint(&held_out.0));
    assert_eq!(train.1, held_out.1, "but every part is in both");
    assert!(train.0.len() > 3 * held_out.0.len());
    assert!(held_out.0.len() > 150, "{}", held_out.0.len());
    // A combination describes its scene.
    for scene in scenes(1, Split::HeldOut, 200) {
        let first = &scene.sprites[0];
        let named = format!("/{}/{}/", first.colour.name(), first.shape.name());
        assert!(scene.combination.contains(&named), "{scene:?}");
        if let Story::Moves { direction, .. } = scene.story {
            assert!(scene.combination.ends_with(direction.name()));
        }
    }
}

#[test]
fn answers_and_their_places_are_balanced() {
    for split in [Split::Train, Split::HeldOut] {
        let mut question_writer = QuestionWriter::new(1, 2);
        let mut answers: BTreeMap<(Kind, String), BTreeMap<String, usize>> = BTreeMap::new();
        let mut places: HashMap<(Kind, usize), Vec<usize>> = HashMap::new();
        for scene in scenes(1, split, 4000) {
            for question in question_writer.questions(&scene) {
                let Question { kind, options, .. } = &question;
                let distinct: BTreeSet<_> = options.iter().collect();
                assert_eq!(distinct.len(), options.len(), "{question:?}");
                assert!((2..=5).contains(&options.len()));
                let place = question.answer_id();
                assert_eq!(options[place], question.answer);
                let counts = places.entry((*kind, options.len()));
                counts.or_insert_with(|| vec![0; options.len()])[place] += 1;
                let counts = answers.entry((*kind, question.text.clone())).or_default();
                *counts.entry(question.answer).or_default() += 1;
            }
        }
        let balanced = |counts: Vec<usize>, allowed: f64, what: &dyn std::fmt::Debug| {
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(
                *least > 0 && *most as f64 <= allowed * *least as f64,
                "{split:?} {what:?}: {counts:?}"
            );
        };
        let kinds: BTreeSet<Kind> = answers.keys().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds.len(), 9, "every kind is asked");
        for ((kind, text), counts) in answers {
            // Answers about appearing shapes are too many to be balanced: all pairs of colour and shape.
            let few = !matches!(kind, Kind::Appearing) && !text.contains("appears");
            if few {
                balanced(counts.into_values().collect(), 1.5, &(kind, text));
            }
        }
        for (kind, counts) in places {
            balanced(counts, 1.3, &kind);
        }
    }
}

#[test]
fn captions_describe_the_scene() {
    let mut question_writer = QuestionWriter::new(1, 2);
    for scene in scenes(5, Split::Train, 300) {
        let caption = caption(&scene);
        assert!(
            caption.ends_with('.') && caption.starts_with(char::is_uppercase),
            "{caption}"
        );
        for sprite in &scene.sprites {
            assert!(caption.contains(&sprite.name()), "{caption}");
        }
        assert_eq!(caption.contains("camera moves"), scene.camera.is_some());
        for question in question_writer.questions(&scene) {
            match question.kind {
                Kind::Direction | Kind::Size | Kind::Colour | Kind::Shape | Kind::Count => {
                    assert!(caption.contains(&question.answer), "{caption} {question:?}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn multiple_choice_questions_are_written_as_in_the_evaluation() {
    let question = Question {
        kind: Kind::Camera,
        text: "Is the camera still or moving?".into(),
        answer: "moving".into(),
        options: vec!["still".into(), "moving".into()],
    };
    assert_eq!(
        question.multiple_choice(),
        "Is the camera still or moving? Select the correct answer from the following options. Write your \
         answer as only one of A, B and nothing else.\n\n    A. still\nB. moving"
    );
}

/// Returns the pixels of a picture that have a colour, within the tolerance of lossy coding.
fn of_colour(picture: &[u8], side: usize, colour: Colour) -> Vec<[f32; 2]> {
    let pixels = picture.chunks_exact(3).enumerate();
    let near = pixels.filter(|(_, pixel)| {
        let off = pixel
            .iter()
            .zip(colour.rgb())
            .map(|(&a, b)| i32::from(a).abs_diff(b.into()));
        off.max().unwrap() <= 40
    });
    near.map(|(at, _)| [at % side, at / side].map(|part| (part as f32 + 0.5) / side as f32))
        .collect()
}

/// Returns the centre of the bounding box of some pixels.
fn middle(pixels: &[[f32; 2]]) -> [f32; 2] {
    [0, 1].map(|axis| {
        let parts = || pixels.iter().map(|pixel| pixel[axis]);
        (parts().fold(f32::INFINITY, f32::min) + parts().fold(0.0, f32::max)) / 2.0
    })
}

fn decoded(codec: ClipCodec, scene: &Scene, side: usize) -> Vec<Arc<RgbFrame>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let pictures = (0..FRAMES).map(|frame| paint(scene, time(frame), side));
    codec
        .write(&path, side, FRAMES_PER_SECOND as i32, pictures)
        .unwrap();
    let frames = video::read(&path, &Selection::new(FRAMES), &ReadLimits::default()).unwrap();
    assert_eq!(frames.total_frames, FRAMES);
    assert_eq!(frames.indices, (0..FRAMES).collect::<Vec<_>>());
    assert!((frames.fps - FRAMES_PER_SECOND as f64).abs() < 1e-6);
    frames.frames
}

#[test]
fn decoded_clips_show_each_shape_at_its_time_and_position() {
    let mut checked = 0;
    let codec = ClipCodec::choose().unwrap();
    for scene in scenes(2, Split::Train, 60) {
        let frames = decoded(codec, &scene, SIDE);
        let counted = matches!(scene.story, Story::Counts(_));
        for (frame, picture) in frames.iter().enumerate() {
            assert_eq!((picture.width, picture.height), (SIDE, SIDE));
            for sprite in &scene.sprites {
                let pixels = of_colour(&picture.data, SIDE, sprite.colour);
                if sprite.appears > time(frame) {
                    assert!(pixels.len() < 3, "{} is early in {scene:?}", sprite.name());
                    continue;
                }
                assert!(
                    pixels.len() > 20,
                    "frame {frame}: no {} in {scene:?}",
                    sprite.name()
                );
                if counted {
                    continue;
                }
                let (found, expected) = (middle(&pixels), visible_middle(sprite, time(frame)));
                let off = (found[0] - expected[0]).hypot(found[1] - expected[1]);
                assert!(
                    off < 0.04,
                    "frame {frame}: {found:?}, not {expected:?}: {scene:?}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 1000);
}

#[test]
fn without_libx264_clips_are_mpeg_4() {
    let codec = ClipCodec::mpeg4().unwrap();
    assert_eq!(codec.name(), "mpeg4");
    for scene in scenes(6, Split::Train, 8) {
        let frames = decoded(codec, &scene, SIDE);
        for sprite in &scene.sprites {
            let pixels = of_colour(&frames[FRAMES - 1].data, SIDE, sprite.colour);
            assert!(pixels.len() > 20, "no {} in {scene:?}", sprite.name());
        }
    }
}

/// Returns the centre of the bounding box of a shape. Triangles and stars extend farther up than down.
fn visible_middle(sprite: &Sprite, time: f32) -> [f32; 2] {
    let [x, y] = sprite.position(time);
    let down = match sprite.shape {
        Shape::Triangle => -0.25,
        Shape::Star => (0.81 - 1.0) / 2.0,
        _ => 0.0,
    };
    [x, y + down * sprite.radius]
}

#[test]
fn every_shape_is_completely_visible_in_every_picture() {
    for split in [Split::Train, Split::HeldOut] {
        for scene in scenes(9, split, 500) {
            for frame in 0..FRAMES {
                for (index, sprite) in scene.sprites.iter().enumerate() {
                    let [x, y] = sprite.position(time(frame));
                    for part in [x, y] {
                        assert!(
                            part - sprite.radius >= 0.0 && part + sprite.radius <= 1.0,
                            "{scene:?}"
                        );
                    }
                    for other in &scene.sprites[..index] {
                        let [ox, oy] = other.position(time(frame));
                        let apart = (x - ox).abs().max((y - oy).abs());
                        assert!(apart >= sprite.radius + other.radius, "{scene:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn shapes_move_as_their_story_says() {
    let mut speeds = BTreeMap::new();
    for scene in scenes(9, Split::Train, 300) {
        let sprite = &scene.sprites[0];
        let (from, to) = (sprite.position(0.0), sprite.position(1.0));
        let way = [to[0] - from[0], to[1] - from[1]];
        let along = |direction: Direction| {
            let step = direction.step();
            way[0] * step[0] + way[1] * step[1]
        };
        match scene.story {
            Story::Moves {
                direction, speed, ..
            } => {
                assert!(along(direction) > 0.1);
                assert!((along(direction) - way[0].hypot(way[1])).abs() < 1e-6);
                speeds.insert(speed.name(), along(direction));
                let pan = scene.camera.map(Direction::is_horizontal);
                assert_ne!(
                    pan,
                    Some(direction.is_horizontal()),
                    "the camera moves along the shape"
                );
            }
            Story::Turns(first, second) => {
                let half = sprite.position(0.5);
                let step = first.step();
                let legs = [
                    half[0] - from[0] - 0.4 * step[0],
                    half[1] - from[1] - 0.4 * step[1],
                ];
                assert!(legs[0].hypot(legs[1]) < 1e-5, "first {}", first.name());
                assert!(along(second) > 0.3);
            }
            _ => assert_eq!(from, to),
        }
    }
    assert!(speeds["fast"] > 2.0 * speeds["slow"]);
}

#[test]
fn a_moving_camera_moves_only_the_background() {
    let moving = scenes(2, Split::Train, 200)
        .into_iter()
        .filter(|scene| scene.camera.is_some() && matches!(scene.story, Story::Counts(_)));
    for scene in moving.take(4) {
        let still = Scene {
            camera: None,
            ..scene.clone()
        };
        let (first, last) = (paint(&scene, 0.0, SIDE), paint(&scene, 1.0, SIDE));
        assert_eq!(first, paint(&still, 1.0, SIDE));
        let changed = first
            .chunks_exact(3)
            .zip(last.chunks_exact(3))
            .filter(|(a, b)| a != b);
        assert!(changed.count() > SIDE * SIDE / 4, "{scene:?}");
        let colour = scene.sprites[0].colour;
        let pixels = of_colour(&first, SIDE, colour);
        assert!(pixels.len().abs_diff(of_colour(&last, SIDE, colour).len()) < pixels.len() / 4);
    }
}

#[test]
fn the_same_pictures_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let scene = &scenes(1, Split::Train, 1)[0];
    let codec = ClipCodec::choose().unwrap();
    let files = ["a.mp4", "b.mp4"].map(|name| {
        let path = folder.path().join(name);
        let pictures = (0..FRAMES).map(|frame| paint(scene, time(frame), 96));
        codec
            .write(&path, 96, FRAMES_PER_SECOND as i32, pictures)
            .unwrap();
        fs::read(path).unwrap()
    });
    assert!(files[0].len() > 1000);
    assert_eq!(files[0], files[1]);
}
