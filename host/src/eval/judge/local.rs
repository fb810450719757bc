//! Uses the loaded language model as the judge.

use super::{super::EvalError, Case, JudgeOutcome, Verdicts};
use crate::{Error, PrefixedPrompt, VidLm, eval::RunOptions};

/// The maximum number of tokens of a verdict, which is a short dictionary.
const MAX_NEW_TOKENS: usize = 64;

/// Judges the pending cases in batches of `batch_size`. `progress` is called with the number of judged cases and
/// their total.
///
/// # Errors
///
/// When the model fails or a verdict cannot be written.
pub fn judge(
    model: &VidLm,
    batch_size: usize,
    verdicts: &mut Verdicts,
    cases: &[Case],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), EvalError> {
    let mut options = RunOptions::default_answers();
    options.limits.max_new_tokens = MAX_NEW_TOKENS;
    let prefix = model.text_prefix()?;
    let pending = verdicts.pending(cases);
    let mut done = 0;
    for batch in pending.chunks(batch_size.max(1)) {
        let prompts: Vec<String> = batch.iter().map(|case| case.text()).collect();
        let asks: Vec<PrefixedPrompt<'_, '_>> = prompts
            .iter()
            .map(|prompt| PrefixedPrompt {
                prefix: &prefix,
                prompt,
            })
            .collect();
        for (case, answer) in batch.iter().zip(model.answer_many(&asks, &options)?) {
            let outcome = match answer {
                Ok(answer) => JudgeOutcome::Reply(answer.text),
                Err(error @ Error::PromptTooLong { .. }) => {
                    JudgeOutcome::Refused(error.to_string())
                }
                Err(error) => return Err(error.into()),
            };
            verdicts.add(case, outcome)?;
            done += 1;
        }
        progress(done, pending.len());
    }
    Ok(())
}
