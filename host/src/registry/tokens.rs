//! Whether the parts fit together, from what the plugins say about themselves, before any
//! weight is read.

use super::entries::{EncoderEntry, Registry};
use super::error::RegistryError;
use super::mixer_kind::{Mlp, Pooling};
use crate::messages::listed;
use crate::settings_file::{Problem, Problems};

/// Heads of the `attntv` pooling, which have to share out an encoder's width.
const ATTENTIVE_HEADS: usize = 8;

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
    /// Every encoder must be one that its projector can take, and end, after it, at
    /// `visual_feature_length` tokens, or at a single one where the fusion has a use for that.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] with everything that does not fit.
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
                        entry.lines.table,
                        format!("encoder `{}` gives no features", entry.id),
                    )
                    .expected("at least one time step, token and channel")
                    .found(shape_of(found))
                    .hint("check the encoder's configuration"),
                );
                continue;
            }
            match self.unprojectable(entry, found, llm_width) {
                Some(problem) => problems.push(problem),
                None => ends.push((entry, found)),
            }
        }
        problems.extend(self.lengths(&ends));
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

    /// Checks that the language model has a row in its embeddings for every token that text may become.
    ///
    /// # Errors
    /// [`RegistryError::Invalid`] with both numbers.
    pub fn check_tokenizer(&self, tokens: usize, rows: usize) -> Result<(), RegistryError> {
        if tokens <= rows {
            return Ok(());
        }
        let line = self.llm.lines.of("tokenizer");
        let problem = Problem::new(line, "the tokenizer of [llm] is another model's")
            .expected(format!(
                "at most {rows} tokens, the rows of the language model's embeddings"
            ))
            .found(format!("{tokens} tokens in {}", self.llm.tokenizer))
            .hint("name the tokenizer that belongs to the language model as `tokenizer` in [llm]");
        Err(Problems::new(&self.path, vec![problem]).into())
    }

    /// Why the projector cannot take features of this shape, if so.
    fn unprojectable(
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
                problem("gives tokens that form no grid")
                    .expected(format!(
                        "a number of tokens a time step that as many rows as fit into its square \
                         divide, as `{projector}` pools rows and columns"
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
                        "a multiple of {ATTENTIVE_HEADS}, the heads of its attention"
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
        if projector.pooling == Pooling::None && self.encoders.len() > 1 && found.spatial != 1 {
            return Some(
                problem("gives several tokens a time step, and the projector has no pooling")
                    .expected("one token a time step of each of several encoders")
                    .found(shape_of(found))
                    .hint(format!(
                        "write `projector = \"3davg+{projector}\"`, or choose the variant of the \
                         encoder with one token a frame"
                    )),
            );
        }
        if projector.time_steps(found.temporal) == 0 {
            return Some(
                problem("has fewer time steps than the projector divides them by")
                    .expected(format!("as many as `{projector}` divides by, or more"))
                    .found(shape_of(found))
                    .hint("choose a smaller K in `frameK`, or more frames"),
            );
        }
        None
    }

    /// What is wrong with the numbers of tokens at which the encoders end.
    fn lengths(&self, ends: &[(&EncoderEntry, &DescribedEncoder)]) -> Vec<Problem> {
        let kind = self.mixer.kind;
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
                            format!("encoder `{}` gives another number of time steps", entry.id),
                        )
                        .expected(format!(
                            "{} time steps, as `{}` gives",
                            first.temporal, first.id
                        ))
                        .found(shape_of(found))
                        .hint("choose `num_frames` so that all encoders give as many time steps"),
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
            "`visual_feature_length` in [mixer] is not what the encoders end at",
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

/// Whether a number of tokens can be laid out as a square.
pub(super) fn is_square(n: usize) -> bool {
    n.isqrt().pow(2) == n
}

/// Whether a number of tokens can be laid out as upstream does: as many rows as fit into its square.
fn is_grid(n: usize) -> bool {
    n.is_multiple_of(n.isqrt().max(1))
}

fn shape_of(found: &DescribedEncoder) -> String {
    format!(
        "{} time steps of {} tokens, {} wide",
        found.temporal, found.spatial, found.width
    )
}
