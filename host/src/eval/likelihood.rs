//! The likelihood of each option letter as the first token of a reply.

use super::{EvalError, clips::Clip, protocol};
use crate::VidLm;

/// Returns, for each letter that a question offers, the tokens that can represent it.
pub(super) fn letter_tokens(model: &VidLm, clips: &[Clip<'_>]) -> Result<Vec<Vec<u32>>, EvalError> {
    let questions = clips.iter().flat_map(|clip| &clip.questions);
    let offered = questions.filter_map(|q| q.choice.as_ref().map(|choice| choice.letters));
    let tokens = (0..offered.max().unwrap_or(0)).map(|option| {
        let letter = protocol::letter(option);
        let tokens = model.first_tokens(&letter.to_string())?;
        if tokens.is_empty() {
            return Err(EvalError::NoLetter { letter });
        }
        Ok(tokens)
    });
    tokens.collect()
}

/// Returns the probability of each letter among all letters. The probability of a letter is the sum over the
/// tokens that can represent it.
pub(super) fn likelihoods(logits: &[f32], letters: &[Vec<u32>]) -> Vec<f64> {
    let logit = |id: &u32| f64::from(logits.get(*id as usize).copied().unwrap_or(f32::MIN));
    let highest = letters.iter().flatten().map(logit).fold(f64::MIN, f64::max);
    let weights: Vec<f64> = letters
        .iter()
        .map(|tokens| tokens.iter().map(|id| (logit(id) - highest).exp()).sum())
        .collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

#[cfg(test)]
mod tests {
    use super::likelihoods;

    #[test]
    fn the_likelihood_of_a_letter_is_the_sum_over_its_tokens() {
        let logits = [0.0, 1.0, 1.0, 1.5, -5.0];
        let found = likelihoods(&logits, &[vec![1, 2], vec![3]]);
        let (a, b) = (2.0 * 1f64.exp(), 1.5f64.exp());
        assert!((found[0] - a / (a + b)).abs() < 1e-12 && (found[1] - b / (a + b)).abs() < 1e-12);
        assert!(
            found[0] > found[1],
            "a single token would give another order: {found:?}"
        );
        assert_eq!(likelihoods(&[f32::MIN; 3], &[vec![0], vec![1]]), [0.5, 0.5]);
    }
}
