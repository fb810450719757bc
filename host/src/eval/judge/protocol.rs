//! The prompt of the judge, word for word as in the original (`scripts/eval_gpt_batch.py` of
//! `princetonvisualai/merv`, after Video-ChatGPT, arXiv 2306.05424), and the format of its verdict.

use serde_json::{Value, json};

/// The judge of the original.
pub const DEFAULT_MODEL: &str = "gpt-4o-mini-2024-07-18";

/// The maximum number of tokens of a verdict, as in the original.
const MAX_TOKENS: u32 = 500;

const SYSTEM: &str = "You are an intelligent chatbot designed for evaluating the correctness of generative outputs for question-answer pairs. \
    Your task is to compare the predicted answer with the correct answer and determine if they match meaningfully. Here's how you can accomplish the task:\
    ------\
    ##INSTRUCTIONS: \
    - Focus on the meaningful match between the predicted answer and the correct answer.\n\
    - Consider synonyms or paraphrases as valid matches.\n\
    - Evaluate the correctness of the prediction compared to the answer.";

const REQUEST: &str = "Provide your evaluation only as a yes/no and score where the score is an integer value between 0 and 5, with 5 indicating the highest meaningful match. \
    Please generate the response in the form of a Python dictionary string with keys 'pred' and 'score', where value of 'pred' is  a string of 'yes' or 'no' and value of 'score' is in INTEGER, not STRING.\
    DO NOT PROVIDE ANY OTHER OUTPUT TEXT OR EXPLANATION. Only provide the Python dictionary string. \
    For example, your response should look like this: {'pred': 'yes', 'score': 4}.";

/// A prediction to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The id of the question.
    pub id: String,
    /// Its video, or its id if the video is unknown.
    pub video: String,
    /// The text of the question.
    pub question: String,
    /// The correct answer, or several joined into one text.
    pub answer: String,
    /// The answer of the model.
    pub pred: String,
}

/// The verdict of a judge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Whether the prediction matches the answer.
    pub yes: bool,
    /// How well it matches, from 0 to 5.
    pub score: f64,
}

/// Returns the correct answer as it appears in the prompt: the answer itself, or all of several.
pub(super) fn answer(references: &[String]) -> String {
    match references {
        [one] => one.clone(),
        several => {
            let quoted: Vec<String> = several.iter().map(|one| format!("\"{one}\"")).collect();
            quoted.join(" or ")
        }
    }
}

impl Case {
    fn user(&self) -> String {
        let Self {
            question,
            answer,
            pred,
            ..
        } = self;
        format!(
            "Please evaluate the following video-based question-answer pair:\n\n\
             Question: {question}\nCorrect Answer: {answer}\nPredicted Answer: {pred}\n\n{REQUEST}"
        )
    }

    /// Returns the body of a chat request.
    pub(super) fn body(&self, model: &str) -> Value {
        json!({
            "model": model,
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": self.user()},
            ],
            "max_tokens": MAX_TOKENS,
        })
    }

    /// Returns the prompt as one message, for a local model whose format may not support a system prompt.
    pub(super) fn text(&self) -> String {
        format!("{SYSTEM}\n\n{}", self.user())
    }
}

impl Verdict {
    /// Parses a reply. It must consist of a dictionary in the syntax of Python or JSON, with `pred`, which is `yes`
    /// or `no`, and `score`, a number from 0 to 5. Any other reply is not a verdict.
    pub fn parse(reply: &str) -> Option<Self> {
        let (mut yes, mut score) = (None, None);
        let mut rest = Parser(reply.trim());
        rest.eat("{")?;
        while rest.eat("}").is_none() {
            let key = rest.string()?;
            rest.eat(":")?;
            match key {
                "pred" => {
                    yes = Some(match rest.string()? {
                        "yes" => true,
                        "no" => false,
                        _ => return None,
                    });
                }
                "score" => score = Some(rest.number()?),
                _ => {
                    rest.string().map(|_| 0.0).or_else(|| rest.number())?;
                }
            }
            if rest.eat(",").is_none() && !rest.0.trim_start().starts_with('}') {
                return None;
            }
        }
        let score = score.filter(|score| (0.0..=5.0).contains(score))?;
        let whole = rest.0.trim().is_empty();
        yes.filter(|_| whole).map(|yes| Self { yes, score })
    }
}

/// The rest of the text to parse.
struct Parser<'t>(&'t str);

impl<'t> Parser<'t> {
    fn eat(&mut self, mark: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(mark)?;
        Some(())
    }

    /// Parses a string in single or double quotes. Escapes are not supported: the relevant keys do not need them.
    fn string(&mut self) -> Option<&'t str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| ['\'', '"'].contains(c))?;
        let (inside, rest) = text[1..].split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    fn number(&mut self) -> Option<f64> {
        let text = self.0.trim_start();
        let end = text
            .find(|c: char| !c.is_ascii_digit() && !['.', '-'].contains(&c))
            .unwrap_or(text.len());
        let number = text[..end].parse().ok()?;
        self.0 = &text[end..];
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dictionary_is_a_verdict() {
        let yes = |score| Some(Verdict { yes: true, score });
        for (reply, expected) in [
            ("{'pred': 'yes', 'score': 4}", yes(4.0)),
            (" {\"pred\": \"yes\", \"score\": 4.8}\n", yes(4.8)),
            ("{'score':5,'pred':'yes',}", yes(5.0)),
            ("{'pred': 'yes', 'reason': 'it is', 'score': 0}", yes(0.0)),
            (
                "{'pred': 'no', 'score': 0}",
                Some(Verdict {
                    yes: false,
                    score: 0.0,
                }),
            ),
            ("{'pred': 'Yes', 'score': 4}", None),
            ("{'pred': 'yes', 'score': '4'}", None),
            ("{'pred': 'yes', 'score': 6}", None),
            ("{'pred': 'yes', 'score': -1}", None),
            ("{'pred': 'yes'}", None),
            ("{'score': 4}", None),
            ("{'pred': 'yes' 'score': 4}", None),
            ("{'pred': 'yes', 'score': 4} because", None),
            ("Sure! {'pred': 'yes', 'score': 4}", None),
            ("```python\n{'pred': 'yes', 'score': 4}\n```", None),
            ("{'pred': 'yes', 'score': 4", None),
            ("{'pred': 'yes', 'score': 1-.2}", None),
            ("yes", None),
            ("", None),
        ] {
            assert_eq!(Verdict::parse(reply), expected, "{reply}");
        }
    }

    #[test]
    fn the_judge_sees_every_reference() {
        let shown = |references: &[&str]| {
            answer(
                &references
                    .iter()
                    .map(|r| (*r).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(shown(&["a dog"]), "a dog");
        assert_eq!(shown(&["a dog", "or not"]), "\"a dog\" or \"or not\"");
    }

    #[test]
    fn the_request_equals_that_of_the_original() {
        let case = Case {
            id: "1".into(),
            video: "v".into(),
            question: "what is shown?".into(),
            answer: "dog".into(),
            pred: "a cat".into(),
        };
        let body = case.body("judge");
        assert_eq!(body["max_tokens"], 500);
        let content = |i: usize| body["messages"][i]["content"].as_str().unwrap().to_owned();
        assert!(content(0).contains("accomplish the task:------##INSTRUCTIONS: - Focus on"));
        assert!(content(0).ends_with(
            "matches.\n- Evaluate the correctness of the prediction compared to the answer."
        ));
        assert!(content(1).starts_with(
            "Please evaluate the following video-based question-answer pair:\n\n\
             Question: what is shown?\nCorrect Answer: dog\nPredicted Answer: a cat\n\n\
             Provide your evaluation only as a yes/no and score"
        ));
        assert!(content(1).contains("'pred' is  a string of 'yes' or 'no'"));
        assert!(content(1).contains("not STRING.DO NOT PROVIDE"));
        assert!(content(1).ends_with("{'pred': 'yes', 'score': 4}."));
        // A local model gets both messages as one.
        assert_eq!(case.text(), format!("{}\n\n{}", content(0), content(1)));
    }
}
