//! The prompts of the evaluation, word for word as in the original (`scripts/eval_openended.py` and
//! `scripts/eval_mcq.py` of `princetonvisualai/merv`). Accuracy depends on their exact wording.

use super::{Question, dataset::Dataset};

/// Returns the letter of an option.
pub fn letter(option: usize) -> char {
    // There are at most 26 options.
    char::from(b'A' + option as u8)
}

/// Returns the message that asks a question of a data set.
pub fn message(dataset: &Dataset, question: &Question) -> String {
    match (&question.choice, dataset.video_mark) {
        (None, false) => question.text.clone(),
        (None, true) => format!("{}\n<video>", question.text),
        (Some(choice), mark) => {
            let text = multiple_choice(&question.text, &choice.options, choice.letters);
            match mark {
                false => text,
                true => format!("<video>\n{text}"),
            }
        }
    }
}

/// Returns a question with its options. The model may answer with one of the first `letters` letters. The four
/// spaces before the first option are in the original too: the published results were measured with them.
pub fn multiple_choice(question: &str, options: &[String], letters: usize) -> String {
    let letters: Vec<String> = (0..letters).map(|i| letter(i).to_string()).collect();
    let options: Vec<String> = options
        .iter()
        .enumerate()
        .map(|(index, option)| format!("{}. {option}", letter(index)))
        .collect();
    format!(
        "{question} Select the correct answer from the following options. Write your answer as only one of {} and nothing else.\n\n    {}",
        letters.join(", "),
        options.join("\n")
    )
}

/// Returns the option that the first letter of a reply names, in upper or lower case. Returns `None` if it is
/// not one of the first `letters` options.
pub fn first_letter(reply: &str, letters: usize) -> Option<usize> {
    let first = reply.chars().next()?.to_lowercase().next()?;
    (0..letters).find(|&option| letter(option).to_ascii_lowercase() == first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected text is what the original produces for its own example data.
    #[test]
    fn options_are_written_as_in_the_original() {
        let options = ["static or shaking", "I don't know", "moving"].map(str::to_owned);
        assert_eq!(
            multiple_choice("Is the camera moving or static?", &options, 3),
            "Is the camera moving or static? Select the correct answer from the following options. \
             Write your answer as only one of A, B, C and nothing else.\n\n    \
             A. static or shaking\nB. I don't know\nC. moving"
        );
    }

    #[test]
    fn the_first_letter_of_a_reply_counts() {
        assert_eq!(first_letter("B. moving", 3), Some(1));
        assert_eq!(first_letter("c", 3), Some(2));
        assert_eq!(first_letter("D", 3), None);
        // The original ignores the rest of the reply, and so must this.
        assert_eq!(first_letter("The answer is B", 3), None);
        assert_eq!(first_letter("Any of them", 3), Some(0));
        assert_eq!(first_letter("", 3), None);
        assert_eq!(first_letter("Äh", 3), None);
    }
}
