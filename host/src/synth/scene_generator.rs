//! Generates scenes. All choices are evenly distributed, and no combination occurs in both splits.

use super::{
    Split,
    random::{Deck, RandomSource},
    scene::{Background, Colour, Direction, Pattern, Scene, Shape, Size, Speed, Sprite, Story},
};

/// The maximum number of shapes to count.
const MOST: usize = 5;

/// One in five combinations is held out: those for which the sum of the indices of the parts is a multiple of five.
/// So every part, and every pair of parts, of a held-out combination occurs in training, but not all three together.
const HELD_OUT: usize = 5;

/// The length of each leg of a turning shape.
const LEG: f32 = 0.4;

/// The kinds of stories.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Moves,
    Counts,
    Appears,
    AppearInOrder,
    Turns,
}

/// The kinds of stories, with their relative frequencies.
const KINDS: [Kind; 10] = [
    Kind::Moves,
    Kind::Moves,
    Kind::Moves,
    Kind::Counts,
    Kind::Counts,
    Kind::Appears,
    Kind::AppearInOrder,
    Kind::AppearInOrder,
    Kind::Turns,
    Kind::Turns,
];

/// A colour, a shape, and the index of a third part.
type Combination = (Colour, Shape, usize);

/// Generates scenes, one after another. A scene does not depend on how many follow.
pub(super) struct SceneGenerator {
    random: RandomSource,
    kinds: Deck<Kind>,
    moves: Deck<Combination>,
    counts: Deck<Combination>,
    appears: Deck<Combination>,
    in_order: Deck<Combination>,
    turns: Deck<Combination>,
    sizes: Deck<Size>,
    speeds: Deck<Speed>,
    patterns: Deck<Pattern>,
    /// Whether the camera moves, and in which of two directions.
    cameras: Deck<(bool, bool)>,
}

impl SceneGenerator {
    pub fn new(seed: u64, split: Split) -> Self {
        let deck = |third: usize| Deck::new(combinations(third, split));
        Self {
            random: RandomSource::new(seed, split as u64),
            kinds: Deck::new(KINDS),
            moves: deck(Direction::ALL.len()),
            counts: deck(MOST),
            appears: deck(Colour::ALL.len()),
            in_order: deck(Colour::ALL.len()),
            turns: deck(Direction::ALL.len()),
            sizes: Deck::new(Size::ALL),
            speeds: Deck::new(Speed::ALL),
            patterns: Deck::new(Pattern::ALL),
            cameras: Deck::new([(false, false), (false, true), (true, false), (true, true)]),
        }
    }

    pub fn scene(&mut self) -> Scene {
        let kind = self.kinds.deal(&mut self.random);
        let (name, (colour, shape, third), story, sprites) = match kind {
            Kind::Moves => self.moves(),
            Kind::Counts => self.counts(),
            Kind::Appears => self.appears(),
            Kind::AppearInOrder => self.in_order(),
            Kind::Turns => self.turns(),
        };
        let third = match kind {
            Kind::Moves | Kind::Turns => Direction::ALL[third].name().to_owned(),
            Kind::Counts => (third + 1).to_string(),
            Kind::Appears | Kind::AppearInOrder => Colour::ALL[third].name().to_owned(),
        };
        let background = self.background();
        let camera = self.camera(story, background.pattern);
        Scene {
            story,
            sprites,
            background,
            camera,
            combination: format!("{name}/{}/{}/{third}", colour.name(), shape.name()),
        }
    }

    fn moves(&mut self) -> (&'static str, Combination, Story, Vec<Sprite>) {
        let random = &mut self.random;
        let combination = self.moves.deal(random);
        let (colour, shape, third) = combination;
        let direction = Direction::ALL[third];
        let (size, speed) = (self.sizes.deal(random), self.speeds.deal(random));
        let steps = vec![scaled(direction, speed.travel())];
        let sprite = placed(random, colour, shape, size.radius(), steps);
        let story = Story::Moves {
            direction,
            size,
            speed,
        };
        ("moves", combination, story, vec![sprite])
    }

    fn turns(&mut self) -> (&'static str, Combination, Story, Vec<Sprite>) {
        let random = &mut self.random;
        let combination = self.turns.deal(random);
        let (colour, shape, third) = combination;
        let first = Direction::ALL[third];
        let across: Vec<_> = Direction::ALL
            .into_iter()
            .filter(|direction| direction.is_horizontal() != first.is_horizontal())
            .collect();
        let second = across[random.below(across.len())];
        let steps = vec![scaled(first, LEG), scaled(second, LEG)];
        let sprite = placed(random, colour, shape, Size::Small.radius(), steps);
        (
            "turns",
            combination,
            Story::Turns(first, second),
            vec![sprite],
        )
    }

    fn counts(&mut self) -> (&'static str, Combination, Story, Vec<Sprite>) {
        let combination = self.counts.deal(&mut self.random);
        let (colour, shape, third) = combination;
        let cells = self.cells(3);
        let sprites = cells.into_iter().take(third + 1);
        let sprites = sprites.map(|start| still(colour, shape, Size::Small.radius(), start, 0.0));
        let sprites = sprites.collect();
        ("counts", combination, Story::Counts(third + 1), sprites)
    }

    fn appears(&mut self) -> (&'static str, Combination, Story, Vec<Sprite>) {
        let combination = self.appears.deal(&mut self.random);
        let when = self.random.between(0.3, 0.65);
        let [old, new] = self.pair(combination, [0.0, when]);
        ("appears", combination, Story::Appears, vec![new, old])
    }

    fn in_order(&mut self) -> (&'static str, Combination, Story, Vec<Sprite>) {
        let combination = self.in_order.deal(&mut self.random);
        let first = self.random.between(0.15, 0.3);
        let second = self.random.between(0.5, 0.7);
        let [second, first] = self.pair(combination, [second, first]);
        let sprites = vec![first, second];
        (
            "appear-in-order",
            combination,
            Story::AppearInOrder,
            sprites,
        )
    }

    /// Returns two shapes in different places: one with the colour of the third part, and that of the combination.
    fn pair(&mut self, (colour, shape, third): Combination, appears: [f32; 2]) -> [Sprite; 2] {
        let cells = self.cells(2);
        let others: Vec<_> = Shape::ALL
            .into_iter()
            .filter(|&other| other != shape)
            .collect();
        let other = others[self.random.below(others.len())];
        let radius = [0; 2].map(|_| self.random.between(0.13, 0.19));
        [
            still(Colour::ALL[third], other, radius[0], cells[0], appears[0]),
            still(colour, shape, radius[1], cells[1], appears[1]),
        ]
    }

    /// Returns the centres of the cells of a grid, slightly shifted, in random order.
    fn cells(&mut self, side: usize) -> Vec<[f32; 2]> {
        let random = &mut self.random;
        let mut cells = Vec::new();
        for index in 0..side * side {
            let middle = |number: usize| (number as f32 + 0.5) / side as f32;
            let mut off = || random.between(-0.03, 0.03);
            cells.push([middle(index % side) + off(), middle(index / side) + off()]);
        }
        random.shuffle(&mut cells);
        cells
    }

    fn background(&mut self) -> Background {
        let pattern = self.patterns.deal(&mut self.random);
        let random = &mut self.random;
        let light = random.between(95.0, 140.0);
        let tint = [0; 3].map(|_| random.between(-14.0, 14.0));
        let contrast = random.between(28.0, 40.0);
        let contrast = if random.below(2) == 0 {
            contrast
        } else {
            -contrast
        };
        Background {
            pattern,
            colours: [light, light + contrast].map(|light| tint.map(|tint| light + tint)),
            phase: [0; 2].map(|_| random.between(0.0, 1.0)),
            seed: random.bits(),
        }
    }

    /// Returns the direction of the camera. It is perpendicular to the movement of the shape, so that the direction of
    /// the shape remains unambiguous.
    fn camera(&mut self, story: Story, pattern: Pattern) -> Option<Direction> {
        if !pattern.has_texture() {
            return None;
        }
        let (moves, first) = self.cameras.deal(&mut self.random);
        let across = match story {
            Story::Moves { direction, .. } => !direction.is_horizontal(),
            _ => self.random.below(2) == 0,
        };
        let ways = match across {
            true => [Direction::Left, Direction::Right],
            false => [Direction::Up, Direction::Down],
        };
        moves.then(|| ways[usize::from(first)])
    }
}

/// Returns all combinations of a split. The indices of the third parts are below `third`. A third part that is a colour
/// differs from the colour of the combination.
fn combinations(third: usize, split: Split) -> Vec<Combination> {
    let mut found = Vec::new();
    for (a, colour) in Colour::ALL.into_iter().enumerate() {
        for (b, shape) in Shape::ALL.into_iter().enumerate() {
            for c in 0..third {
                let held_out = (a + b + c) % HELD_OUT == 0;
                let clashes = third == Colour::ALL.len() && a == c;
                if held_out == (split == Split::HeldOut) && !clashes {
                    found.push((colour, shape, c));
                }
            }
        }
    }
    found
}

fn scaled(direction: Direction, length: f32) -> [f32; 2] {
    direction.step().map(|step| step * length)
}

fn still(colour: Colour, shape: Shape, radius: f32, start: [f32; 2], appears: f32) -> Sprite {
    Sprite {
        colour,
        shape,
        radius,
        start,
        moves: Vec::new(),
        appears,
    }
}

/// Returns a shape whose whole path is inside the picture.
fn placed(
    random: &mut RandomSource,
    colour: Colour,
    shape: Shape,
    radius: f32,
    moves: Vec<[f32; 2]>,
) -> Sprite {
    let start = [0, 1].map(|axis| {
        let (mut at, mut least, mut most) = (0f32, 0f32, 0f32);
        for step in &moves {
            at += step[axis];
            least = least.min(at);
            most = most.max(at);
        }
        let margin = radius + 0.015;
        random.between(margin - least, 1.0 - margin - most)
    });
    Sprite {
        moves,
        ..still(colour, shape, radius, start, 0.0)
    }
}
