//! The tokens of each frame that become features, and their order.

/// The tokens of each frame that an encoder returns. MERV has variants of the same model that differ in this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameTokens {
    /// The patches of every frame.
    Patches,
    /// The class token of every frame, followed by its patches.
    All,
    /// The mean of all tokens of a frame.
    Mean,
    /// The class token of every frame, or the first token if there is no class token.
    Class,
    /// The class tokens of all frames, then the patches of all frames.
    ClassesFirst,
    /// The mean of the class tokens of all frames, then the patches of all frames.
    MeanClassFirst,
}

impl FrameTokens {
    /// Returns the number of time steps, and the number of features in each.
    ///
    /// If class tokens come before the patches of the first frame, the features cannot be divided into frames
    /// or arranged as a grid. They form one time step.
    pub fn shape(self, frames: usize, patches: usize) -> (u32, u32) {
        let (temporal, spatial) = match self {
            Self::Patches => (frames, patches),
            Self::All => (frames, 1 + patches),
            Self::Mean | Self::Class => (frames, 1),
            Self::ClassesFirst => (1, frames.saturating_mul(1 + patches)),
            Self::MeanClassFirst => (1, frames.saturating_mul(patches).saturating_add(1)),
        };
        let fits = |size| u32::try_from(size).unwrap_or(u32::MAX);
        (fits(temporal), fits(spatial))
    }
}
