//! The description of a clip. Lengths are fractions of the side of the picture, times are fractions of the clip.

/// The colours of shapes. All of them contrast with every background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Colour {
    Red,
    Green,
    Blue,
    Yellow,
    Purple,
    Orange,
    White,
    Black,
}

impl Colour {
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Green,
        Self::Blue,
        Self::Yellow,
        Self::Purple,
        Self::Orange,
        Self::White,
        Self::Black,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Orange => "orange",
            Self::White => "white",
            Self::Black => "black",
        }
    }

    pub const fn rgb(self) -> [u8; 3] {
        match self {
            Self::Red => [210, 30, 35],
            Self::Green => [30, 160, 50],
            Self::Blue => [40, 65, 225],
            Self::Yellow => [245, 225, 40],
            Self::Purple => [150, 35, 190],
            Self::Orange => [250, 130, 10],
            Self::White => [250, 250, 250],
            Self::Black => [12, 12, 12],
        }
    }
}

/// The shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Ring,
}

impl Shape {
    pub const ALL: [Self; 6] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Cross,
        Self::Ring,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Cross => "cross",
            Self::Ring => "ring",
        }
    }
}

/// The direction of a movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Left,
    Right,
    Up,
    Down,
}

impl Direction {
    pub const ALL: [Self; 4] = [Self::Left, Self::Right, Self::Up, Self::Down];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    /// Returns a step of length 1 in this direction. Down is positive, as for pixel rows.
    pub const fn step(self) -> [f32; 2] {
        match self {
            Self::Left => [-1.0, 0.0],
            Self::Right => [1.0, 0.0],
            Self::Up => [0.0, -1.0],
            Self::Down => [0.0, 1.0],
        }
    }

    /// Returns whether the direction is left or right.
    pub const fn is_horizontal(self) -> bool {
        matches!(self, Self::Left | Self::Right)
    }
}

/// The size of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Small,
    Large,
}

impl Size {
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    /// Returns the distance from the centre to the farthest point.
    pub const fn radius(self) -> f32 {
        match self {
            Self::Small => 0.12,
            Self::Large => 0.21,
        }
    }
}

/// The speed of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    Slow,
    Fast,
}

impl Speed {
    pub const ALL: [Self; 2] = [Self::Slow, Self::Fast];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Fast => "fast",
        }
    }

    /// Returns the distance that a shape moves during the clip.
    pub const fn travel(self) -> f32 {
        match self {
            Self::Slow => 0.18,
            Self::Fast => 0.54,
        }
    }
}

/// The pattern of a background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    Plain,
    Gradient,
    Stripes,
    Checkerboard,
    Clouds,
}

impl Pattern {
    pub const ALL: [Self; 5] = [
        Self::Plain,
        Self::Gradient,
        Self::Stripes,
        Self::Checkerboard,
        Self::Clouds,
    ];

    /// Returns the phrase in captions.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Plain => "a plain background",
            Self::Gradient => "a gradient",
            Self::Stripes => "stripes",
            Self::Checkerboard => "a checkerboard",
            Self::Clouds => "clouds",
        }
    }

    /// Returns whether a camera movement is visible.
    pub const fn has_texture(self) -> bool {
        matches!(self, Self::Stripes | Self::Checkerboard | Self::Clouds)
    }
}

/// The background of a clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Background {
    pub pattern: Pattern,
    /// Two muted colours of medium brightness.
    pub colours: [[f32; 3]; 2],
    /// The phase of the pattern.
    pub phase: [f32; 2],
    /// The seed of the clouds.
    pub seed: u32,
}

/// A shape with its movement.
#[derive(Debug, Clone, PartialEq)]
pub struct Sprite {
    pub colour: Colour,
    pub shape: Shape,
    pub radius: f32,
    /// The centre at the start of the clip.
    pub start: [f32; 2],
    /// The movements, one after another. Each takes the same share of the clip.
    pub moves: Vec<[f32; 2]>,
    /// The time at which it appears; 0 for a shape that is visible from the start.
    pub appears: f32,
}

impl Sprite {
    /// Returns the centre at a time.
    pub fn position(&self, time: f32) -> [f32; 2] {
        let mut left = time * self.moves.len() as f32;
        let mut at = self.start;
        for step in &self.moves {
            let part = left.clamp(0.0, 1.0);
            at = [at[0] + step[0] * part, at[1] + step[1] * part];
            left -= part;
        }
        at
    }

    /// Returns the name in sentences, such as `red circle`.
    pub fn name(&self) -> String {
        format!("{} {}", self.colour.name(), self.shape.name())
    }
}

/// What happens in a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Story {
    /// One shape moves.
    Moves {
        direction: Direction,
        size: Size,
        speed: Speed,
    },
    /// This number of shapes of one kind.
    Counts(usize),
    /// A second shape appears next to the first.
    Appears,
    /// The first shape appears, then the second.
    AppearInOrder,
    /// One shape moves in one direction, then in another.
    Turns(Direction, Direction),
}

/// A clip.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    pub story: Story,
    pub sprites: Vec<Sprite>,
    pub background: Background,
    /// The direction of the camera movement, if any.
    pub camera: Option<Direction>,
    /// The combination, which occurs in one split only, such as `moves/red/circle/left`.
    pub combination: String,
}
