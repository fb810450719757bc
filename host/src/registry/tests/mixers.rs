//! Valid combinations of projectors, fusions and encoders.

use super::fit::described;
use super::*;

/// Time steps, tokens per time step, width.
type Shape = (usize, usize, usize);

/// Returns [`GOOD`] with another mixer and this number of encoders.
fn text(mixer: [&str; 2], lengths: [usize; 2], encoders: usize) -> String {
    let mut text = changed("no-align+3davg+linear", mixer[0])
        .replace("cross_attention_avg_lq", mixer[1])
        .replace(
            "token_length = 16",
            &format!("token_length = {}", lengths[0]),
        )
        .replace("_length = 256", &format!("_length = {}", lengths[1]));
    if encoders == 1 {
        let (second, llm) = (
            text.rfind("[[encoders]]").unwrap(),
            text.find("[llm]").unwrap(),
        );
        text.replace_range(second..llm, "");
    }
    text
}

/// Reads and checks a registry with a language model of width 64.
fn verdict(
    mixer: [&str; 2],
    lengths: [usize; 2],
    shapes: &[Shape],
) -> Result<Registry, RegistryError> {
    let folder = folder_with(&FILES);
    let path = write(&folder, text(mixer, lengths, shapes.len()));
    let registry = Registry::from_file(&path)?;
    registry.check_tokens(&described(&registry, shapes), 64)?;
    Ok(registry)
}

const FUSION: &str = "cross_attention_avg_lq";

/// Projector and fusion, `token_length` and `visual_feature_length`, the output shapes of the encoders, and
/// the expected outcome.
type Case<'a, Outcome> = ([&'a str; 2], [usize; 2], &'a [Shape], Outcome);

#[test]
fn valid_combinations_give_the_expected_visual_tokens() {
    let mut cases: Vec<Case<'_, usize>> = vec![
        // Widths and grids may differ.
        (
            ["3davg+linear", FUSION],
            [64, 1024],
            &[(16, 256, 1024), (16, 196, 768)],
            1024,
        ),
        // Hiera has 7 × 7 tokens at 8 time steps.
        (["3davg+linear", FUSION], [16, 128], &[(8, 49, 768)], 128),
        (
            ["avg+gelu-mlp", "first"],
            [16, 256],
            &[(16, 196, 8), (16, 256, 9)],
            256,
        ),
        (
            ["conv+none", "concat"],
            [4, 64],
            &[(16, 196, 8), (16, 256, 9)],
            128,
        ),
        (
            ["3dconv+frame2+fused-gelu-mlp", FUSION],
            [4, 32],
            &[(16, 196, 8), (17, 6, 9)],
            32,
        ),
        // Attention supports class tokens. Without pooling, no grid is needed.
        (
            ["attntv+linear", FUSION],
            [4, 64],
            &[(16, 257, 1024), (16, 1, 768)],
            64,
        ),
        (["linear", "none"], [64, 4112], &[(16, 257, 1024)], 4112),
        (["fused-gelu-mlp", FUSION], [1, 1], &[(1, 1, 768)], 1),
        // Without an MLP, an encoder must be as wide as the language model.
        (
            ["3davg+none", FUSION],
            [4, 64],
            &[(16, 196, 64), (16, 256, 64)],
            64,
        ),
        // One token per frame needs no pooling. A single token can be combined with any number.
        (["gelu-mlp", FUSION], [1, 16], &[(16, 1, 8), (16, 1, 9)], 16),
        (
            ["3davg+linear", FUSION],
            [1, 16],
            &[(16, 196, 8), (1, 1, 9)],
            16,
        ),
        (
            ["3davg+linear", "concat"],
            [1, 16],
            &[(16, 196, 8), (1, 1, 9)],
            17,
        ),
        (
            ["3davg+linear", "first"],
            [1, 16],
            &[(1, 1, 9), (16, 196, 8)],
            1,
        ),
    ];
    for fusion in ["first", "concat_channel", "concat_channel_ln", "scalar"] {
        cases.push((
            ["3davg+linear", fusion],
            [4, 64],
            &[(16, 196, 8), (16, 256, 9)],
            64,
        ));
    }
    for (mixer, lengths, shapes, tokens) in cases {
        let registry = verdict(mixer, lengths, shapes).unwrap_or_else(|e| panic!("{mixer:?}: {e}"));
        let kind = registry.mixer.kind;
        assert_eq!(
            [&*kind.projector.to_string(), &*kind.fusion.to_string()],
            mixer
        );
        let projected: Vec<_> = shapes
            .iter()
            .map(|&(temporal, spatial, _)| kind.projected_tokens(temporal, spatial))
            .collect();
        assert_eq!(kind.visual_tokens(&projected), tokens, "{mixer:?}");
    }
}

#[test]
fn invalid_combinations_are_refused_with_the_reason() {
    let two: &[Shape] = &[(16, 196, 8), (16, 256, 9)];
    let cases: [Case<'_, &[&str]>; 24] = [
        (
            ["none", FUSION],
            [64, 3136],
            &[(16, 196, 64)],
            &[
                "`projector`",
                "without pooling and without MLP",
                "`3davg+linear`",
            ],
        ),
        (
            ["none", FUSION],
            [4, 64],
            two,
            &["`projector`", "without pooling and without MLP"],
        ),
        (
            ["linear", FUSION],
            [4, 64],
            two,
            &[
                "`projector`",
                "token counts of 2 encoders do not match",
                "`3davg+linear`",
            ],
        ),
        (
            ["no-align+fused-gelu-mlp", "concat"],
            [1, 16],
            &[(16, 1, 8), (16, 1, 9)],
            &["no pooling", "single encoder"],
        ),
        (
            ["gelu-mlp", FUSION],
            [4, 64],
            two,
            &[
                "encoder `one`",
                "several tokens per time step",
                "3davg+gelu-mlp",
            ],
        ),
        (
            ["avg+frame2+linear", FUSION],
            [4, 32],
            two,
            &[
                "`projector`",
                "`frameK` works only with `3davg` and `3dconv`",
            ],
        ),
        (
            ["frame2+linear", FUSION],
            [4, 32],
            two,
            &["`frameK` works only with"],
        ),
        (
            ["3davg+frame0+linear", FUSION],
            [4, 64],
            two,
            &["`frame0` needs a whole number of at least 1"],
        ),
        (
            ["3davg+frame32+linear", FUSION],
            [4, 64],
            two,
            &[
                "fewer time steps than the projector divides by",
                "smaller K",
            ],
        ),
        (
            ["3davg", FUSION],
            [4, 64],
            two,
            &["the MLP is missing", "gelu-mlp"],
        ),
        (
            ["3davg+avg+linear", FUSION],
            [4, 64],
            two,
            &["`avg` is a second part"],
        ),
        (
            ["linear+3davg", FUSION],
            [4, 64],
            two,
            &["`3davg` comes after the MLP"],
        ),
        (
            ["3davg+linear", "query_mlp"],
            [4, 64],
            two,
            &["`fusion`", "no forward pass", "`cross_attention_avg_lq`"],
        ),
        (
            ["3davg+linear", "none"],
            [4, 64],
            two,
            &[
                "`fusion`",
                "does not combine the features of 2 encoders",
                "`cross_attention_avg_lq`",
            ],
        ),
        (
            ["3davg+none", FUSION],
            [4, 64],
            two,
            &[
                "encoder `one`",
                "not as wide as the language model",
                "64 wide",
                "`linear`",
            ],
        ),
        (
            ["avg+none", "concat"],
            [4, 64],
            &[(16, 196, 64), (16, 256, 9)],
            &["encoder `two`", "9 wide"],
        ),
        (
            ["attntv+none", FUSION],
            [4, 64],
            &[(16, 196, 72)],
            &["not as wide"],
        ),
        (
            ["attntv+linear", FUSION],
            [4, 64],
            &[(16, 196, 12)],
            &["`attntv` cannot pool", "multiple of 8", "12 wide"],
        ),
        (
            ["avg+linear", FUSION],
            [4, 64],
            &[(16, 197, 12)],
            &[
                "do not form a grid",
                "197",
                "without class token",
                "`attntv`",
            ],
        ),
        (
            ["conv+linear", FUSION],
            [4, 64],
            &[(16, 257, 12)],
            &["do not form a grid"],
        ),
        (
            ["3dconv+linear", FUSION],
            [4, 64],
            &[(1, 4097, 12)],
            &["do not form a grid"],
        ),
        // Weighted sums and concatenated channels need the same number of tokens.
        (
            ["3davg+linear", "scalar"],
            [1, 16],
            &[(16, 196, 8), (1, 1, 9)],
            &["encoder `two`", "16 time steps, the same as `one`"],
        ),
        (
            ["3davg+linear", "concat_channel"],
            [1, 1],
            &[(1, 1, 9), (16, 196, 8)],
            &["encoder `two`", "1 time steps, the same as `one`"],
        ),
        (
            ["linear", "none"],
            [64, 3136],
            &[(16, 257, 12)],
            &[
                "`visual_feature_length`",
                "4112",
                "257 tokens of each of the 16 time steps",
            ],
        ),
    ];
    for (mixer, lengths, shapes, parts) in cases {
        match verdict(mixer, lengths, shapes) {
            Ok(_) => panic!("{mixer:?} was not refused"),
            Err(error) => assert_has(&error.to_string(), parts),
        }
    }
}

#[test]
fn a_mixer_can_be_initialised_for_training() {
    let init = |weights: &str| {
        let folder = folder_with(&FILES);
        let from = "weights = { path = \"mixer.safetensors\" }";
        let path = write(&folder, changed(from, &format!("weights = {weights}")));
        let registry = Registry::from_file(&path).unwrap_or_else(|e| panic!("{e}"));
        match registry.mixer.weights {
            MixerWeights::Init(init) => (init, folder),
            MixerWeights::Trained(source) => panic!("{source}"),
        }
    };
    assert_eq!(init("\"init\"").0, MixerInit::default());
    assert_eq!(init("{ init = true }").0, MixerInit::default());
    let (found, folder) = init(
        "{ init = true, seed = 9, query_width = 80, reuse = { path = \"mixer.safetensors\", encoders = [\"x\", \"two\"] } }",
    );
    let weights = WeightSource::Local {
        path: folder.path().join("mixer.safetensors"),
        sha256: None,
    };
    let expected = MixerInit {
        seed: 9,
        query_width: Some(80),
        reuse: Some(MixerReuse {
            weights,
            projectors: Some(vec![None, Some(1)]),
            encoders: vec!["x".to_owned(), "two".to_owned()],
        }),
    };
    assert_eq!(found, expected);
    let unknown = found.reuse.and_then(|reuse| reuse.unknown_encoders());
    assert!(
        unknown.is_some_and(|text| text.contains("lists `x`, but no encoder of this registry"))
    );
}

#[test]
fn a_query_width_without_a_query_is_refused() {
    let from = "weights = { path = \"mixer.safetensors\" }";
    let weights = "weights = { init = true, query_width = 80 }";
    for fusion in ["concat", "scalar", "first", "concat_channel_ln"] {
        let text = changed(from, weights).replace("cross_attention_avg_lq", fusion);
        let found = format!("`fusion = \"{fusion}\"`, which has none");
        assert_has(
            &message(text),
            &["`query_width`", "would have no effect", &found],
        );
    }
}

#[test]
fn wrong_initialisations_are_explained() {
    let from = "weights = { path = \"mixer.safetensors\" }";
    let cases: [(&str, &[&str]); 9] = [
        (
            "\"Init\"",
            &["`weights` in [mixer]", "write `weights = \"init\"`"],
        ),
        (
            "\"mixer.safetensors\"",
            &[
                "`weights` in [mixer]",
                "\"init\"",
                "mixer.safetensors",
                "{ path",
            ],
        ),
        (
            "{ init = false }",
            &[
                "how the mixer is initialised",
                "`init = true`",
                "found: `init = false`",
            ],
        ),
        (
            "{ seed = 1 }",
            &["how the mixer is initialised", "`init = true`", "no `init`"],
        ),
        (
            "{ init = true, path = \"mixer.safetensors\" }",
            &["how the mixer is initialised", "also `path`"],
        ),
        (
            "{ init = true, seed = -1 }",
            &["`seed`", "out of range", "-1"],
        ),
        (
            "{ init = true, query_width = 0 }",
            &["`query_width`", "out of range"],
        ),
        (
            "{ init = true, reuse = { checkpoint = true } }",
            &["`reuse`", "cannot be `checkpoint = true`"],
        ),
        (
            "{ init = true, reuse = { path = \"mixer.safetensors\", encoders = [\"a\", \"a\"] } }",
            &["`encoders`", "twice", "`a`"],
        ),
    ];
    for (weights, parts) in cases {
        assert_has(
            &message(changed(from, &format!("weights = {weights}"))),
            parts,
        );
    }
    let llm = "weights = { path = \"llm/model.safetensors\" }";
    let text = changed(from, "weights = \"init\"").replace(
        llm,
        "weights = { checkpoint = true }\ntokenizer = \"llm/tokenizer.json\"",
    );
    assert_has(
        &message(text),
        &["`weights` in [llm]", "does not exist", "[mixer]"],
    );
}
