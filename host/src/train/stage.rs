//! The stages of training, and what each trains.

use merv_architectures::nearest::nearest;
use std::{fmt, str::FromStr};

/// A stage of training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrainingStage {
    /// Projectors and fusion, on captions.
    Align,
    /// Projectors, fusion and language model, on captions.
    FullAlign,
    /// Projectors, fusion and language model, on conversations.
    Finetune,
    /// The same as `finetune`, from a model that was already finetuned.
    SecondFinetune,
    /// The same as `finetune`, and also the encoders.
    FullFinetune,
}

/// The part of an example that is trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Only the last reply, as a caption of the image or video.
    Caption,
    /// The whole conversation, with the loss on the replies.
    Conversation,
}

impl TrainingStage {
    /// All stages.
    pub const ALL: [Self; 5] = [
        Self::Align,
        Self::FullAlign,
        Self::Finetune,
        Self::SecondFinetune,
        Self::FullFinetune,
    ];

    /// Returns the name in settings and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Align => "align",
            Self::FullAlign => "full-align",
            Self::Finetune => "finetune",
            Self::SecondFinetune => "second_finetune",
            Self::FullFinetune => "full-finetune",
        }
    }

    /// Returns whether the language model is trained. The mixer always is.
    pub fn trains_llm(self) -> bool {
        self != Self::Align
    }

    /// Returns whether the encoders are trained.
    pub fn trains_encoders(self) -> bool {
        self == Self::FullFinetune
    }

    /// Returns the part of an example that is trained on.
    pub fn task(self) -> Task {
        match self {
            Self::Align | Self::FullAlign => Task::Caption,
            Self::Finetune | Self::SecondFinetune | Self::FullFinetune => Task::Conversation,
        }
    }

    /// Returns whether, by default, a batch has examples of similar length. The lengths of conversations differ much
    /// more than those of captions.
    pub fn groups_by_length(self) -> bool {
        self.task() == Task::Conversation
    }
}

impl fmt::Display for TrainingStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for TrainingStage {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|stage| stage.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let near = nearest(name, &names).map(|near| format!("; did you mean `{near}`?"));
            format!(
                "expected one of {}{}",
                names.join(", "),
                near.unwrap_or_default()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        for stage in TrainingStage::ALL {
            assert_eq!(stage.name().parse(), Ok(stage));
        }
        let error = "fine-tune".parse::<TrainingStage>().unwrap_err();
        assert!(error.contains("did you mean `finetune`"), "{error}");
    }

    #[test]
    fn stages_train_the_same_parts_as_the_original() {
        use TrainingStage::*;
        // Each stage, whether it trains the language model and the encoders, and whether it uses conversations.
        for (stage, llm, encoders, conversations) in [
            (Align, false, false, false),
            (FullAlign, true, false, false),
            (Finetune, true, false, true),
            (SecondFinetune, true, false, true),
            (FullFinetune, true, true, true),
        ] {
            assert_eq!(stage.trains_llm(), llm, "{stage}");
            assert_eq!(stage.trains_encoders(), encoders, "{stage}");
            assert_eq!(stage.groups_by_length(), conversations, "{stage}");
        }
    }
}
