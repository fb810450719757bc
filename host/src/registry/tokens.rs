//! Whether the parts fit together, from what the plugins say about themselves, before any
//! weight is read.

use super::entries::{EncoderEntry, Registry};
use super::error::{Problem, Problems, RegistryError, listed};

/// What an encoder plugin says that it gives, `[batch, temporal · spatial, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedEncoder {
    /// The encoder's id in the registry.
    pub id: String,
    /// Time steps of its output, T.
    pub temporal: usize,
    /// Tokens of each time step, S.
    pub spatial: usize,
    /// Width of a token, D.
    pub width: usize,
}

impl Registry {
    /// Checks that the tokens of all encoders meet in the mixer, and that it can feed the
    /// language model, whose embeddings are `llm_width` wide.
    ///
    /// Every encoder must give a square number of tokens a time step (its projector pools a
    /// square), and end, after pooling, at `visual_feature_length` tokens, or at a single one.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] with everything that does not fit.
    pub fn check_tokens(
        &self,
        described: &[DescribedEncoder],
        llm_width: usize,
    ) -> Result<(), RegistryError> {
        let mut problems = Vec::new();
        let mut reference: Option<(&EncoderEntry, usize)> = None;
        for entry in &self.encoders {
            let Some(found) = described.iter().find(|found| found.id == entry.id) else {
                problems.push(
                    Problem::new(
                        entry.line,
                        format!("encoder `{}` was not described", entry.id),
                    )
                    .expected("its plugin to state the shape of its features")
                    .found(listed(described.iter().map(|d| &d.id)))
                    .hint("check that the plugin provides this id: `merv-host plugins`"),
                );
                continue;
            };
            if [found.temporal, found.spatial, found.width].contains(&0) {
                problems.push(
                    Problem::new(
                        entry.line,
                        format!("encoder `{}` gives no features", entry.id),
                    )
                    .expected("at least one time step, token and channel")
                    .found(shape_of(found))
                    .hint("check the encoder's configuration"),
                );
                continue;
            }
            if !is_square(found.spatial) {
                problems.push(
                    Problem::new(
                        entry.line,
                        format!("encoder `{}` gives tokens that form no square", entry.id),
                    )
                    .expected("a square number of tokens a time step, as the projector pools them")
                    .found(shape_of(found))
                    .hint("choose the variant of the encoder without class token"),
                );
            }
            let pooled = self.mixer.token_length.saturating_mul(found.temporal);
            if pooled == 1 {
                continue;
            }
            match reference {
                Some((first, temporal)) if temporal != found.temporal => problems.push(
                    Problem::new(
                        entry.line,
                        format!("encoder `{}` gives another number of time steps", entry.id),
                    )
                    .expected(format!("{temporal} time steps, as `{}` gives", first.id))
                    .found(shape_of(found))
                    .hint("choose `num_frames` so that all encoders give as many time steps"),
                ),
                Some(_) => {}
                None => {
                    reference = Some((entry, found.temporal));
                    if pooled != self.mixer.visual_feature_length {
                        problems.push(self.wrong_length(found, pooled));
                    }
                }
            }
        }
        if llm_width == 0 {
            problems.push(
                Problem::new(
                    self.llm.line,
                    "the language model's embeddings have no width",
                )
                .expected("a width of at least 1")
                .found("0")
                .hint("check the language model's configuration"),
            );
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Problems::new(&self.path, problems).into())
    }

    fn wrong_length(&self, found: &DescribedEncoder, pooled: usize) -> Problem {
        let mixer = &self.mixer;
        Problem::new(
            mixer.visual_feature_length_line,
            "`visual_feature_length` in [mixer] is not what the encoders end at",
        )
        .expected(format!(
            "{pooled}: `token_length` {} × the {} time steps of encoder `{}`",
            mixer.token_length, found.temporal, found.id
        ))
        .found(format!(
            "`visual_feature_length = {}`",
            mixer.visual_feature_length
        ))
        .hint(format!(
            "write `visual_feature_length = {pooled}`, or choose other values for \
             `token_length` and `num_frames`"
        ))
    }
}

/// Whether a number of tokens can be laid out as a square.
pub(super) fn is_square(n: usize) -> bool {
    n.isqrt().pow(2) == n
}

fn shape_of(found: &DescribedEncoder) -> String {
    format!(
        "{} time steps of {} tokens, {} wide",
        found.temporal, found.spatial, found.width
    )
}
