//! Refusals by the hub, an unreachable hub, and wrong settings.

use super::{TestHub, WEIGHTS, assert_refused, assert_whole, fetch, file};
use merv_host::hub::{Hub, HubFile, Settings, Token};
use merv_tests::{Fault, FileKind, TOKEN};
use std::{net::TcpListener, time::Duration};

#[test]
fn requests_are_repeated_after_server_errors() {
    let bench = TestHub::new();
    let trouble = [500, 503, 429].map(|status| Fault::Status(status, "", ""));
    bench.server.fail(trouble);
    assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());

    bench.server.seen();
    bench
        .server
        .fail(vec![Fault::Status(500, "", "down for repair"); 6]);
    let error = bench.hub().locate(&file(WEIGHTS)).unwrap_err();
    assert_refused(
        error,
        &[
            "cannot be reached",
            "500",
            "down for repair",
            &bench.server.endpoint(),
        ],
    );
    assert_eq!(bench.server.seen().len(), 6);
}

#[test]
fn refusals_say_what_to_do() {
    let bench = TestHub::new();
    bench
        .server
        .add("meta/llama", "tokenizer.json", "{}", FileKind::Small);
    bench.server.gate("meta/llama");
    let page = format!("{}/meta/llama", bench.server.endpoint());
    let gated = HubFile {
        repo: "meta/llama".into(),
        ..file("tokenizer.json")
    };
    let refused = |hub: &Hub, file: &HubFile, words: &[&str]| {
        assert_refused(hub.locate(file).unwrap_err(), words);
    };
    let (anonymous, wrong_token) = (bench.hub(), bench.with_token("hf_wrong"));
    refused(
        &anonymous,
        &gated,
        &[
            "hf://meta/llama/tokenizer.json",
            "gated",
            &page,
            "accept the terms",
            "HF_TOKEN",
            ".hf_token",
            "no token",
        ],
    );
    refused(
        &wrong_token,
        &gated,
        &["gated", "the token from $HF_TOKEN", &page],
    );
    bench.with_token(TOKEN).locate(&gated).unwrap();

    let absent = HubFile {
        repo: "no/such".into(),
        ..file(WEIGHTS)
    };
    refused(
        &anonymous,
        &absent,
        &[
            "hf://no/such/model.safetensors",
            "does not exist, or is private",
            "`repo`",
        ],
    );
    refused(
        &bench.with_token(TOKEN),
        &absent,
        &["does not exist, or is private"],
    );
    let revision = HubFile {
        revision: Some("v9".into()),
        ..file(WEIGHTS)
    };
    refused(
        &anonymous,
        &revision,
        &[
            "hf://owner/model@v9/",
            "does not have this revision",
            "`revision`",
        ],
    );
    refused(
        &anonymous,
        &file("no.bin"),
        &["hf://owner/model/no.bin", "has no file", "/tree/main"],
    );

    let answered = |status, code, message| {
        bench.server.fail([Fault::Status(status, code, message)]);
        wrong_token.locate(&file(WEIGHTS)).unwrap_err()
    };
    assert_refused(
        answered(401, "", "Invalid credentials in Authorization header"),
        &[
            "401",
            "Invalid credentials",
            "the token from $HF_TOKEN",
            "settings/tokens",
        ],
    );
    assert_refused(
        answered(403, "", "enable gated repositories"),
        &["403", "enable gated"],
    );
    assert_refused(answered(404, "", ""), &["has no file"]);
    assert_refused(answered(400, "", "bad"), &["400", "bad"]);
}

#[test]
fn a_missing_network_is_reported_immediately() {
    let bench = TestHub::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let hub = Hub::new(Settings {
        endpoint: endpoint.clone(),
        // A second attempt would take this long.
        retry_delay: Duration::from_secs(100),
        ..bench.settings()
    });
    let error = hub.locate(&file(WEIGHTS)).unwrap_err();
    assert_refused(
        error,
        &[
            "cannot be reached",
            WEIGHTS,
            &endpoint,
            "--offline",
            "HTTPS_PROXY",
        ],
    );
}

#[test]
fn invalid_settings_are_refused() {
    let bench = TestHub::new();
    for endpoint in [
        "",
        "huggingface.co",
        "ftp://h",
        "https://",
        "not an address",
    ] {
        let endpoint = endpoint.to_owned();
        let hub = Hub::new(Settings {
            endpoint: endpoint.clone(),
            ..bench.settings()
        });
        assert_refused(
            hub.locate(&file(WEIGHTS)).expect_err(&endpoint),
            &["HF_ENDPOINT", &format!("found: `{endpoint}`")],
        );
    }
    let token = Token::new("hf_a\nhf_b", "the file .hf_token");
    let hub = Hub::new(Settings {
        token,
        ..bench.settings()
    });
    let error = hub.locate(&file(WEIGHTS));
    let error = error.expect_err("two lines are not a token");
    assert!(
        !error.to_string().contains("hf_a"),
        "the message shows the secret"
    );
    assert_refused(
        error,
        &["the file .hf_token does not contain an access token"],
    );
}

#[test]
fn offline_no_requests_are_made() {
    let bench = TestHub::new();
    let hub = Hub::new(Settings {
        offline: true,
        ..bench.settings()
    });
    let missing = HubFile {
        revision: Some("v2".into()),
        ..file(WEIGHTS)
    };
    let cache = bench.cache.path().display().to_string();
    assert_refused(
        hub.locate(&missing).unwrap_err(),
        &[
            "hf://owner/model@v2/model.safetensors",
            &cache,
            "--offline",
            "hf download owner/model model.safetensors --revision v2",
        ],
    );
    fetch(&bench.hub(), &file(WEIGHTS)).unwrap();
    bench.server.seen();
    assert_whole(&hub.cached(&file(WEIGHTS)).unwrap());
    assert_eq!(bench.server.seen(), []);
}

#[test]
fn an_invalid_token_is_refused_before_a_request() {
    let bench = TestHub::new();
    for wrong in ["hf_\u{e4}", "hf_\u{fffd}", "hf_a b", "hf_a\u{7f}"] {
        let token = Token::new(wrong, "$HF_TOKEN");
        let settings = Settings {
            token,
            ..bench.settings()
        };
        let error = Hub::new(settings).locate(&file(WEIGHTS)).expect_err(wrong);
        assert_refused(
            error,
            &[
                "$HF_TOKEN does not contain an access token",
                "do: copy the token again",
            ],
        );
    }
    assert_eq!(bench.server.seen(), []);
}
