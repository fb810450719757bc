//! Checks whether the encoders, the mixer and the language model fit together. Only the descriptions of the
//! plugins are used, before any weights are loaded.

use super::entries::{EncoderEntry, Registry};
use super::error::RegistryError;
use crate::messages::listed;
use crate::settings_file::{Problem, Problems};
use merv_architectures::mixer::{FusionKind, Mlp, Pooling};

/// The number of attention heads of the `attntv` pooling. It must divide the width of an encoder.
const ATTENTIVE_HEADS: usize = 8;

/// The output of an encoder according to its plugin: `[batch, temporal · spatial, width]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedEncoder {
    /// The encoder's id in the registry.
    pub id: String,
    /// The number of time steps.
    pub temporal: usize,
    /// The number of tokens per time step.
    pub spatial: usize,
    /// The width of a token.
    pub width: usize,
}

impl Registry {
    /// Checks that the mixer fits the encoders and the language model, whose embeddings are `llm_width` wide.
    ///
    /// The projector must support the output of every encoder. After the projector, every encoder must have
    /// `visual_feature_length` tokens, or a single token if the fusion supports that.
    ///
    /// # Errors
    /// Returns [`RegistryError::Invalid`] with all problems.
    pub fn check_tokens(
        &self,
        described: &[DescribedEncoder],
        llm_width: usize,
    ) -> Result<(), RegistryError> {
        let mut problems = Vec::new();
        let mut ends = Vec::new();
        for entry in &self.encoders {
            let Some(found) = described.iter().find(|found| found.id == entry.id) else {
                problems.push(
                    Problem::new(
                        entry.lines.table,
                        format!("encoder `{}` has no description", entry.id),
                    )
                    .expected("a description with the shape of its features from its plugin")
                    .found(listed(described.iter().map(|d| &d.id)))
                    .hint("check that the plugin provides this id: `merv-host plugins`"),
                );
                continue;
            };
            if [found.temporal, found.spatial, found.width].contains(&0) {
                problems.push(
                    Problem::new(
                        entry.lines.table,
                        format!("encoder `{}` has no features", entry.id),
                    )
                    .expected("at least one time step, token and channel")
                    .found(shape_of(found))
                    .hint("check the encoder's configuration"),
                );
                continue;
            }
            match self.projector_problem(entry, found, llm_width) {
                Some(problem) => problems.push(problem),
                None => ends.push((entry, found)),
            }
        }
        problems.extend(self.length_problems(&ends));
        if llm_width == 0 {
            problems.push(
                Problem::new(
                    self.llm.lines.table,
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

    /// Checks that the language model has an embedding for every token of the tokenizer.
    ///
    /// # Errors
    /// Returns [`RegistryError::Invalid`] with both numbers.
    pub fn check_tokenizer(&self, tokens: usize, rows: usize) -> Result<(), RegistryError> {
        if tokens <= rows {
            return Ok(());
        }
        let line = self.llm.lines.of("tokenizer");
        let problem = Problem::new(
            line,
            "the tokenizer of [llm] does not belong to its language model",
        )
        .expected(format!(
            "at most {rows} tokens, the rows of the language model's embeddings"
        ))
        .found(format!("{tokens} tokens in {}", self.llm.tokenizer))
        .hint("set `tokenizer` in [llm] to the tokenizer of the language model");
        Err(Problems::new(&self.path, vec![problem]).into())
    }

    /// Returns a problem if the projector does not support features of this shape.
    fn projector_problem(
        &self,
        entry: &EncoderEntry,
        found: &DescribedEncoder,
        llm_width: usize,
    ) -> Option<Problem> {
        let projector = self.mixer.kind.projector;
        let problem =
            |what: &str| Problem::new(entry.lines.table, format!("encoder `{}` {what}", entry.id));
        if projector.needs_grid() && !is_grid(found.spatial) {
            return Some(
                problem("has tokens that do not form a grid")
                    .expected(format!(
                        "a number of tokens per time step that is divisible by its rounded-down square \
                         root, because `{projector}` pools rows and columns"
                    ))
                    .found(shape_of(found))
                    .hint(
                        "choose the variant of the encoder without class token, or `attntv`, which \
                         pools any number of tokens",
                    ),
            );
        }
        if projector.pooling == Pooling::Attntv && !found.width.is_multiple_of(ATTENTIVE_HEADS) {
            return Some(
                problem("has a width that `attntv` cannot pool")
                    .expected(format!(
                        "a multiple of {ATTENTIVE_HEADS}, the number of its attention heads"
                    ))
                    .found(shape_of(found))
                    .hint("choose `3davg` in `projector`, or another encoder"),
            );
        }
        let keeps_width = matches!(
            projector.pooling,
            Pooling::Avg | Pooling::Avg3d | Pooling::Attntv
        );
        if projector.mlp == Mlp::None && keeps_width && found.width != llm_width {
            return Some(
                problem("is not as wide as the language model, and the projector ends in `none`")
                    .expected(format!("features {llm_width} wide"))
                    .found(shape_of(found))
                    .hint("end `projector` in `linear`, `gelu-mlp` or `fused-gelu-mlp`"),
            );
        }
        let is_alone = self.encoders.len() == 1 || self.mixer.kind.is_of_plugin();
        if projector.pooling == Pooling::None && !is_alone && found.spatial != 1 {
            return Some(
                problem("has several tokens per time step, but the projector has no pooling")
                    .expected("one token per time step, because there are several encoders")
                    .found(shape_of(found))
                    .hint(format!(
                        "write `projector = \"3davg+{projector}\"`, or choose the variant of the \
                         encoder with one token per frame"
                    )),
            );
        }
        if projector.time_steps(found.temporal) == 0 {
            return Some(
                problem("has fewer time steps than the projector divides by")
                    .expected(format!("at least the number that `{projector}` divides by"))
                    .found(shape_of(found))
                    .hint("choose a smaller K in `frameK`, or more frames"),
            );
        }
        None
    }

    /// Returns the problems with the numbers of tokens after the projectors.
    fn length_problems(&self, ends: &[(&EncoderEntry, &DescribedEncoder)]) -> Vec<Problem> {
        let kind = self.mixer.kind;
        // The plugin decides which numbers of tokens it can fuse.
        if kind.fusion == FusionKind::Plugin {
            return Vec::new();
        }
        let single = ends.len() > 1 && kind.fusion.takes_single_tokens();
        let mut reference: Option<&DescribedEncoder> = None;
        let mut problems = Vec::new();
        for (entry, found) in ends {
            let tokens = kind.projected_tokens(found.temporal, found.spatial);
            if tokens == 1 && single {
                continue;
            }
            match reference {
                None => {
                    reference = Some(found);
                    if tokens != kind.visual_feature_length {
                        problems.push(self.wrong_length(found, tokens));
                    }
                }
                Some(first) if tokens != kind.projected_tokens(first.temporal, first.spatial) => {
                    problems.push(
                        Problem::new(
                            entry.lines.table,
                            format!("encoder `{}` has a different number of time steps", entry.id),
                        )
                        .expected(format!(
                            "{} time steps, the same as `{}`",
                            first.temporal, first.id
                        ))
                        .found(shape_of(found))
                        .hint("choose `num_frames` so that all encoders have the same number of time steps"),
                    );
                }
                Some(_) => {}
            }
        }
        problems
    }

    fn wrong_length(&self, found: &DescribedEncoder, tokens: usize) -> Problem {
        let kind = &self.mixer.kind;
        let factors = match kind.projector.pooling {
            Pooling::None => format!(
                "the {} tokens of each of the {} time steps of encoder `{}`",
                found.spatial, found.temporal, found.id
            ),
            _ => format!(
                "`token_length` {} × the {} time steps of encoder `{}`",
                kind.token_length,
                kind.projector.time_steps(found.temporal),
                found.id
            ),
        };
        Problem::new(
            self.mixer.visual_feature_length_line,
            "`visual_feature_length` in [mixer] is not the number of tokens after the projectors",
        )
        .expected(format!("{tokens}: {factors}"))
        .found(format!(
            "`visual_feature_length = {}`",
            kind.visual_feature_length
        ))
        .hint(format!(
            "write `visual_feature_length = {tokens}`, or choose other values for \
             `token_length` and `num_frames`"
        ))
    }
}

/// Returns whether a number of tokens can be arranged as a square.
pub(super) fn is_square(n: usize) -> bool {
    n.isqrt().pow(2) == n
}

/// Returns whether a number of tokens can be arranged as a grid in the same way as in the original code: the
/// number of rows is the rounded-down square root.
fn is_grid(n: usize) -> bool {
    n.is_multiple_of(n.isqrt().max(1))
}

fn shape_of(found: &DescribedEncoder) -> String {
    format!(
        "{} time steps of {} tokens, {} wide",
        found.temporal, found.spatial, found.width
    )
}
