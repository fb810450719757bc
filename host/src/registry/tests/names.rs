//! Names of projectors, fusions, devices and formats.

use super::*;

#[test]
fn names_of_projectors_and_fusions_are_parsed() {
    let good = [
        "3davg+linear",
        "no-align+3davg+linear",
        "3davg+frame2+linear",
        "no-align+3davg+frame2+gelu-mlp",
        "3dconv+frame4+none",
        "avg+fused-gelu-mlp",
        "attntv+linear",
        "conv+linear",
        "gelu-mlp",
        "no-align+linear",
    ];
    for name in good {
        let kind: ProjectorKind = name.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(kind.to_string(), name);
        assert_eq!(kind.runnable(1), Ok(()), "{name}");
    }
    let bad = [
        ("", "not a part"),
        ("3davg", "the MLP is missing"),
        ("3davg+avg+linear", "second part of the same kind"),
        ("no-align+no-align+linear", "second part of the same kind"),
        ("linear+3davg", "after the MLP"),
        ("avg+frame2+linear", "only with `3davg` and `3dconv`"),
        ("3davg+frame0+linear", "whole number of at least 1"),
        ("3davg+frameK+linear", "whole number of at least 1"),
        ("3davg+liner", "did you mean `linear`?"),
    ];
    for (name, part) in bad {
        assert_has(&name.parse::<ProjectorKind>().unwrap_err(), &[part]);
    }
    for name in [
        "none",
        "first",
        "concat",
        "concat_channel",
        "concat_channel_ln",
        "scalar",
        "cross_attention_avg_lq",
    ] {
        let kind: FusionKind = name.parse().unwrap();
        assert_eq!(kind.to_string(), name);
        assert_eq!(kind.runnable(1), Ok(()), "{name}");
    }
    assert_has(
        &"frist".parse::<FusionKind>().unwrap_err(),
        &["did you mean `first`?"],
    );
}

#[test]
fn names_of_devices_and_dtypes_are_parsed() {
    for name in ["auto", "cpu", "cuda:0", "cuda:12", "ext:1"] {
        assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
    }
    let first = "cuda".parse::<DeviceChoice>().unwrap();
    assert_eq!(first.to_string(), "cuda:0");
    for name in [
        "",
        "gpu",
        "cuda:",
        "cuda:-1",
        "cuda:99999999999999999999",
        "CPU",
        "cpu:1",
    ] {
        assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
    }
    for name in ["auto", "f32", "f16", "bf16"] {
        assert_eq!(name.parse::<DtypeChoice>().unwrap().to_string(), name);
    }
    assert!("f64".parse::<DtypeChoice>().is_err());
}
