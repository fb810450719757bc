//! Checks of the source of a mixer's weights: a file, or an initialisation.

use super::entries::{MixerInit, MixerReuse, MixerWeights};
use super::fields::Fields;
use super::schema::{RawInit, RawMixerWeights, RawReuse, RawSource, refuse};
use super::sources::WeightSource;
use crate::messages::{listed, quoted};
use crate::settings_file::Problem;
use merv_architectures::mixer::FusionKind;
use merv_architectures::nearest::nearest;

/// The only valid string for `weights`.
const INIT: &str = "init";

impl Fields<'_> {
    /// Resolves the source of the weights of a mixer for these encoders.
    pub(super) fn mixer_weights(
        &mut self,
        table: &str,
        raw: RawMixerWeights,
        encoders: &[&str],
        fusion: Option<FusionKind>,
    ) -> Option<MixerWeights> {
        match raw {
            RawMixerWeights::Name(name) if name.value == INIT => {
                Some(MixerWeights::Init(MixerInit::default()))
            }
            RawMixerWeights::Name(name) => {
                self.problems.push(
                    refuse(table, "weights", name.line, "does not say where the file is")
                        .expected("a table such as `{ path = \"…\" }`, or `\"init\"` for a mixer that has not been trained")
                        .found(format!("the string {}", quoted(&name.value)))
                        .hint(match nearest(&name.value, &[INIT]) {
                            Some(_) => "write `weights = \"init\"`",
                            None => "write `weights = { path = \"…\" }`",
                        }),
                );
                None
            }
            RawMixerWeights::Source(raw) => {
                let source = self.file_of_a_mixer(table, "weights", raw)?;
                Some(MixerWeights::Trained(source))
            }
            RawMixerWeights::Init(raw) => {
                self.check_query_width(table, &raw, fusion);
                self.init(table, raw, encoders).map(MixerWeights::Init)
            }
        }
    }

    /// Checks that the fusion has a query if its width is given.
    fn check_query_width(&mut self, table: &str, raw: &RawInit, fusion: Option<FusionKind>) {
        let (Some(width), Some(fusion)) = (&raw.query_width, fusion) else {
            return;
        };
        if fusion == FusionKind::CrossAttentionAvgLq {
            return;
        }
        let name = format!("`weights` of {table}");
        self.problems.push(
            refuse(&name, "query_width", width.line, "would have no effect")
                .expected(format!(
                    "the fusion with a query, `{}`",
                    FusionKind::CrossAttentionAvgLq
                ))
                .found(format!("`fusion = \"{fusion}\"`, which has none"))
                .hint("remove `query_width`"),
        );
    }

    fn init(&mut self, table: &str, raw: RawInit, encoders: &[&str]) -> Option<MixerInit> {
        let name = format!("`weights` of {table}");
        let reuse = raw.reuse.map(|raw| self.reuse(&name, raw, encoders));
        if raw.damaged {
            return None;
        }
        let found = match (&raw.init, raw.source_keys.as_slice()) {
            (Some(init), []) if init.value => {
                return Some(MixerInit {
                    seed: raw.seed.map_or(0, |at| at.value as u64),
                    query_width: raw.query_width.map(|at| at.value),
                    reuse: match reuse {
                        Some(reuse) => Some(reuse?),
                        None => None,
                    },
                });
            }
            (Some(init), []) => format!("`init = {}`", init.value),
            (None, []) => "no `init`".to_owned(),
            (_, keys) => format!("also {}", listed(keys)),
        };
        self.problems.push(
            refuse(table, "weights", raw.line, "does not say how the mixer is initialised")
                .expected("`init = true`, optionally with `seed`, `query_width` and `reuse`; or only a file")
                .found(found)
                .hint("write `weights = { init = true, reuse = { path = \"…\" } }`, or remove the other keys"),
        );
        None
    }

    fn reuse(&mut self, table: &str, raw: RawReuse, encoders: &[&str]) -> Option<MixerReuse> {
        let weights = self.file_of_a_mixer(table, "reuse", raw.source);
        let listed = raw.encoders.as_ref().map(|at| at.value.clone());
        let list = raw.encoders.map(|at| {
            let mut twice = at.value.iter().enumerate();
            let twice = twice.find(|(number, id)| at.value[..*number].contains(id));
            if let Some((_, id)) = twice {
                self.problems.push(
                    Problem::new(
                        at.line,
                        format!("`encoders` in `reuse` of {table} lists an encoder twice"),
                    )
                    .expected("the encoders of that checkpoint in its order, without duplicates")
                    .found(quoted(id))
                    .hint("copy the ids from its registry"),
                );
            }
            let place = |id: &&str| at.value.iter().position(|other| other == id);
            encoders.iter().map(place).collect()
        });
        Some(MixerReuse {
            weights: weights?,
            projectors: list,
            encoders: listed.unwrap_or_default(),
        })
    }

    /// Resolves a source with a mixer's weights.
    fn file_of_a_mixer(&mut self, table: &str, key: &str, raw: RawSource) -> Option<WeightSource> {
        let line = raw.line;
        let source = self.source(table, key, raw)?;
        if source == WeightSource::Checkpoint {
            self.problems.push(
                refuse(table, key, line, "cannot be `checkpoint = true`")
                    .expected("the checkpoint itself: `{ path = \"…\" }` or `{ repo, file }`")
                    .found("`checkpoint = true`, which refers to this key itself")
                    .hint("give the file with the mixer's weights"),
            );
            return None;
        }
        Some(source)
    }
}
