//! Checks whether the parts fit together, and the registries of the repository.

use super::*;

pub(super) fn described(
    registry: &Registry,
    shapes: &[(usize, usize, usize)],
) -> Vec<DescribedEncoder> {
    let entries = registry.encoders.iter().zip(shapes);
    entries
        .map(|(entry, (temporal, spatial, width))| DescribedEncoder {
            id: entry.id.clone(),
            temporal: *temporal,
            spatial: *spatial,
            width: *width,
        })
        .collect()
}

#[test]
fn token_counts_must_match() {
    let (_folder, registry) = good();
    let check = |shapes: &[_], llm_width| {
        registry
            .check_tokens(&described(&registry, shapes), llm_width)
            .map_err(|e| e.to_string())
    };
    assert_eq!(check(&[(16, 196, 768), (16, 256, 1024)], 64), Ok(()));
    let cases: [(&[_], usize, &[&str]); 6] = [
        (
            &[(8, 196, 768), (8, 256, 1024)],
            64,
            &[
                "x.toml:33: `visual_feature_length`",
                "expected: 128",
                "= 256`",
                "do: write",
            ],
        ),
        (
            &[(16, 196, 768), (8, 256, 1024)],
            64,
            &[
                "x.toml:11: encoder `two`",
                "expected: 16 time steps, the same as `one`",
                "8 time steps",
            ],
        ),
        (
            &[(16, 197, 768), (16, 256, 9)],
            64,
            &["x.toml:5: encoder `one`", "do not form a grid", "197"],
        ),
        (
            &[(16, 196, 0), (16, 256, 9)],
            64,
            &["x.toml:5: encoder `one` has no features"],
        ),
        (
            &[(16, 196, 768)],
            64,
            &["x.toml:11: encoder `two` has no description", "`one`"],
        ),
        (
            &[(16, 196, 768), (16, 256, 9)],
            0,
            &["x.toml:20:", "no width"],
        ),
    ];
    for (shapes, llm_width, parts) in cases {
        assert_has(&check(shapes, llm_width).unwrap_err(), parts);
    }
}

/// Reads the registries of the repository in a folder where all their files exist.
#[test]
fn registries_of_the_repository_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry");
    let scratch = folder_with(&[]);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() != Some(OsStr::new("toml")) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let copy = scratch
            .path()
            .join("registry")
            .join(path.file_name().unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(&copy, &text).unwrap();
        for (i, _) in text.match_indices("path = \"") {
            let file = text[i + 8..].split('"').next().unwrap();
            let file = copy.parent().unwrap().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file.with_file_name("tokenizer.json"), "{}").unwrap();
            fs::write(file, "").unwrap();
        }
        let registry = Registry::from_file(&copy).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            Some(registry.id.as_ref()),
            path.file_stem().and_then(OsStr::to_str)
        );
        // The encoders have 16 time steps, those of the toy model have 8.
        let steps = if registry.id == DEFAULT_REGISTRY {
            8
        } else {
            16
        };
        let encoders = registry.encoders.iter();
        let shapes: Vec<_> = encoders.map(|_| (steps, 196, 8)).collect();
        registry
            .check_tokens(&described(&registry, &shapes), 8)
            .unwrap();
        names.push(registry.id);
    }
    assert!(names.contains(&DEFAULT_REGISTRY.to_owned()) && names.contains(&"merv-full".into()));
}
