//! Captions of scenes, and questions about them.

use super::{
    random::{Deck, RandomSource},
    scene::{Colour, Direction, Scene, Shape, Size, Speed, Sprite, Story},
};
use crate::eval::protocol;
use std::collections::HashMap;

/// The maximum number of options of a question.
const OPTIONS: usize = 4;

const NUMBERS: [&str; 5] = ["one", "two", "three", "four", "five"];

/// The kind of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Colour,
    Shape,
    Size,
    Count,
    Direction,
    Speed,
    Appearing,
    Order,
    Camera,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Colour => "colour",
            Self::Shape => "shape",
            Self::Size => "size",
            Self::Count => "count",
            Self::Direction => "direction",
            Self::Speed => "speed",
            Self::Appearing => "appearing",
            Self::Order => "order",
            Self::Camera => "camera",
        }
    }
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub kind: Kind,
    pub text: String,
    pub answer: String,
    /// The options, including the answer, in random order.
    pub options: Vec<String>,
}

impl Question {
    /// Returns the index of the correct option.
    pub fn answer_id(&self) -> usize {
        let found = self
            .options
            .iter()
            .position(|option| *option == self.answer);
        found.unwrap_or_default()
    }

    /// Returns the question with its options, word for word as in the prompt of the evaluation.
    pub fn multiple_choice(&self) -> String {
        protocol::multiple_choice(&self.text, &self.options, self.options.len())
    }
}

/// Returns a description of a clip in one or two sentences.
pub fn caption(scene: &Scene) -> String {
    let over = scene.background.pattern.phrase();
    let name = |index: usize| {
        scene
            .sprites
            .get(index)
            .map(Sprite::name)
            .unwrap_or_default()
    };
    let happens = match scene.story {
        Story::Moves {
            direction,
            size,
            speed,
        } => format!(
            "A {} {} moves {} {} over {over}.",
            size.name(),
            name(0),
            match speed {
                Speed::Slow => "slowly",
                Speed::Fast => "fast",
            },
            direction.name(),
        ),
        Story::Counts(1) => format!("There is one {} on {over}.", name(0)),
        Story::Counts(count) => format!(
            "There are {} {} on {over}.",
            NUMBERS[count - 1],
            plural(&name(0))
        ),
        Story::Appears => format!(
            "{} is on {over}, then {} appears.",
            upper(&a(&name(1))),
            a(&name(0))
        ),
        Story::AppearInOrder => format!(
            "First {} appears on {over}, then {}.",
            a(&name(0)),
            a(&name(1))
        ),
        Story::Turns(first, second) => format!(
            "{} moves {}, then {} over {over}.",
            upper(&a(&name(0))),
            first.name(),
            second.name()
        ),
    };
    match scene.camera {
        Some(_) => format!("{happens} The camera moves."),
        None => happens,
    }
}

/// Writes questions. The positions of the correct answers are evenly distributed.
pub(super) struct QuestionWriter {
    random: RandomSource,
    /// The positions of the correct options, by kind and number of options.
    places: HashMap<(Kind, usize), Deck<usize>>,
}

impl QuestionWriter {
    pub fn new(seed: u64, stream: u64) -> Self {
        Self {
            random: RandomSource::new(seed, stream),
            places: HashMap::new(),
        }
    }

    /// Returns all questions about a scene, in random order.
    pub fn questions(&mut self, scene: &Scene) -> Vec<Question> {
        let mut questions = Vec::new();
        let mut ask = |kind, text: &str, answer: &str, others: Vec<String>| {
            questions.push(self.question(kind, text, answer, others));
        };
        let [first, ..] = scene.sprites.as_slice() else {
            return questions;
        };
        let colours = || names(Colour::ALL.map(Colour::name));
        let shapes = || names(Shape::ALL.map(Shape::name));
        match scene.story {
            Story::Moves {
                direction,
                size,
                speed,
            } => {
                ask(
                    Kind::Colour,
                    "What colour is the shape that moves?",
                    first.colour.name(),
                    colours(),
                );
                ask(
                    Kind::Shape,
                    "Which shape moves?",
                    first.shape.name(),
                    shapes(),
                );
                let sizes = names(Size::ALL.map(Size::name));
                ask(
                    Kind::Size,
                    "Is the shape small or large?",
                    size.name(),
                    sizes,
                );
                let ways = names(Direction::ALL.map(Direction::name));
                ask(
                    Kind::Direction,
                    "Where does the shape move?",
                    direction.name(),
                    ways,
                );
                let speeds = names(Speed::ALL.map(Speed::name));
                ask(
                    Kind::Speed,
                    "Is the shape slow or fast?",
                    speed.name(),
                    speeds,
                );
            }
            Story::Counts(count) => {
                let numbers = names(NUMBERS);
                ask(
                    Kind::Count,
                    "How many shapes are there?",
                    NUMBERS[count - 1],
                    numbers,
                );
                ask(
                    Kind::Colour,
                    "What colour is each shape?",
                    first.colour.name(),
                    colours(),
                );
                ask(
                    Kind::Shape,
                    "Which shape is there?",
                    first.shape.name(),
                    shapes(),
                );
            }
            Story::Appears => {
                let old = scene.sprites.get(1).unwrap_or(first);
                // Plausible wrong answers: the other shape, and mixtures of both.
                let mixed =
                    |colour: Colour, shape: Shape| format!("{} {}", colour.name(), shape.name());
                let others = vec![
                    old.name(),
                    mixed(first.colour, old.shape),
                    mixed(old.colour, first.shape),
                    first.name(),
                ];
                ask(
                    Kind::Appearing,
                    "What appears in the clip?",
                    &first.name(),
                    others,
                );
            }
            Story::AppearInOrder => {
                let second = scene.sprites.get(1).unwrap_or(first);
                let both = vec![first.name(), second.name()];
                ask(
                    Kind::Order,
                    "What appears first?",
                    &first.name(),
                    both.clone(),
                );
                ask(Kind::Order, "What appears last?", &second.name(), both);
            }
            Story::Turns(one, two) => {
                let way =
                    |one: Direction, two: Direction| format!("{}, then {}", one.name(), two.name());
                let back = |direction| match direction {
                    Direction::Left => Direction::Right,
                    Direction::Right => Direction::Left,
                    Direction::Up => Direction::Down,
                    Direction::Down => Direction::Up,
                };
                let others = vec![
                    way(one, two),
                    way(two, one),
                    way(back(one), two),
                    way(one, back(two)),
                ];
                ask(
                    Kind::Order,
                    "Which way does the shape move?",
                    &way(one, two),
                    others,
                );
                ask(
                    Kind::Colour,
                    "What colour is the shape that moves?",
                    first.colour.name(),
                    colours(),
                );
                ask(
                    Kind::Shape,
                    "Which shape moves?",
                    first.shape.name(),
                    shapes(),
                );
            }
        }
        if scene.background.pattern.has_texture() {
            let answer = scene.camera.map_or("still", |_| "moving");
            let both = names(["still", "moving"]);
            ask(Kind::Camera, "Is the camera still or moving?", answer, both);
        }
        self.random.shuffle(&mut questions);
        questions
    }

    /// Returns a question with at most [`OPTIONS`] of `candidates` as options, including the answer. A counting question
    /// keeps all numbers, in order.
    fn question(
        &mut self,
        kind: Kind,
        text: &str,
        answer: &str,
        candidates: Vec<String>,
    ) -> Question {
        let candidates = candidates.into_iter();
        let mut others: Vec<String> = candidates.filter(|other| other != answer).collect();
        let options = if kind == Kind::Count {
            names(NUMBERS)
        } else {
            self.random.shuffle(&mut others);
            others.truncate(OPTIONS - 1);
            let count = others.len() + 1;
            let places = self.places.entry((kind, count));
            let places = places.or_insert_with(|| Deck::new(0..count));
            others.insert(places.deal(&mut self.random), answer.to_owned());
            others
        };
        Question {
            kind,
            text: text.to_owned(),
            answer: answer.to_owned(),
            options,
        }
    }

    /// Returns at most `count` of the questions, in random order.
    pub fn some<'q>(&mut self, questions: &'q [Question], count: usize) -> Vec<&'q Question> {
        let mut chosen: Vec<&Question> = questions.iter().collect();
        self.random.shuffle(&mut chosen);
        chosen.truncate(count);
        chosen
    }
}

fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

fn a(name: &str) -> String {
    let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {name}")
}

fn plural(name: &str) -> String {
    let end = if name.ends_with("ss") { "es" } else { "s" };
    format!("{name}{end}")
}

fn upper(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
