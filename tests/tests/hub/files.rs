//! Files of the hub, from a server on this machine that answers as the hub does, and as it should not.

use merv_host::hub::{Hub, HubError, HubFile, Settings, Token};
use merv_tests::{COMMIT, Fault, HubServer, Kept, Seen, TOKEN, chain, sha256};
use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::Duration,
};
use tempfile::TempDir;

const REPO: &str = "owner/model";
const WEIGHTS: &str = "model.safetensors";

/// Longer than a connection buffers, so that cuts show.
fn content() -> Vec<u8> {
    (0..600_000u32).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// A hub, its cache, and one large file in `owner/model`.
struct Bench {
    server: HubServer,
    cache: TempDir,
    etag: String,
}

impl Bench {
    fn new() -> Self {
        let server = HubServer::new();
        let etag = server.add(REPO, WEIGHTS, content(), Kept::Large);
        Self {
            server,
            cache: TempDir::new().unwrap(),
            etag,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            cache: Some(self.cache.path().to_owned()),
            token: None,
            endpoint: self.server.endpoint(),
            offline: false,
            retry_delay: Duration::from_millis(1),
            proxy_from_env: false,
        }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.settings())
    }

    fn with_token(&self, token: &str) -> Hub {
        let token = Token::new(token, "$HF_TOKEN");
        Hub::new(Settings {
            token,
            ..self.settings()
        })
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("models--owner--model")
    }

    fn blob(&self) -> PathBuf {
        self.folder().join("blobs").join(&self.etag)
    }

    fn incomplete(&self) -> PathBuf {
        self.blob().with_extension("incomplete")
    }

    /// Leaves what an interrupted download would have left.
    fn leave(&self, bytes: &[u8]) {
        fs::create_dir_all(self.folder().join("blobs")).unwrap();
        fs::write(self.incomplete(), bytes).unwrap();
    }

    /// The requests for content that came, with the bytes they began at.
    fn ranges(&self) -> Vec<Option<String>> {
        let seen = self.server.seen().into_iter();
        let content = seen.filter(|seen| seen.storage && seen.method == "GET");
        content.map(|seen| seen.range).collect()
    }
}

fn file(path: &str) -> HubFile {
    HubFile {
        repo: REPO.into(),
        file: path.into(),
        revision: None,
    }
}

fn fetch(hub: &Hub, file: &HubFile) -> Result<PathBuf, HubError> {
    let remote = hub.locate(file)?;
    hub.download(file, &remote, &mut |_, _| {})
}

#[track_caller]
fn assert_whole(path: &Path) {
    assert!(fs::read(path).unwrap() == content(), "the content differs");
}

#[track_caller]
fn assert_refused(error: HubError, words: &[&str]) {
    let said = chain(&error);
    for word in words {
        assert!(said.contains(word), "no {word:?} in:\n{said}");
    }
}

#[test]
fn a_large_file_comes_from_the_storage_into_the_common_layout() {
    let bench = Bench::new();
    let hub = bench.with_token(TOKEN);
    let weights = file(WEIGHTS);
    assert_eq!(hub.cached(&weights), None);
    let remote = hub.locate(&weights).unwrap();
    assert_eq!(remote.size(), 600_000);
    let mut told = Vec::new();
    let path = hub.download(&weights, &remote, &mut |done, total| {
        told.push((done, total))
    });
    let path = path.unwrap();
    assert_whole(&path);
    assert_eq!(
        path,
        bench.folder().join("snapshots").join(COMMIT).join(WEIGHTS)
    );
    assert_eq!(
        fs::read_link(&path).unwrap(),
        Path::new("../../blobs").join(&bench.etag)
    );
    assert_eq!(
        fs::read_to_string(bench.folder().join("refs/main")).unwrap(),
        COMMIT
    );
    assert!(!bench.incomplete().exists());
    assert_eq!(told.first(), Some(&(0, 600_000)));
    assert_eq!(told.last(), Some(&(600_000, 600_000)));
    assert!(told.is_sorted());

    // The token went to the hub alone.
    let seen = bench.server.seen();
    let (storage, hub_itself): (Vec<&Seen>, Vec<&Seen>) =
        seen.iter().partition(|seen| seen.storage);
    assert!(!storage.is_empty() && !hub_itself.is_empty());
    for seen in storage {
        assert_eq!(seen.authorization, None, "the storage was told the token");
    }
    for seen in hub_itself {
        assert_eq!(seen.authorization.as_deref(), Some("Bearer hf_right"));
    }

    // From now on nobody is asked.
    assert_eq!(hub.cached(&weights), Some(path));
    assert_eq!(bench.server.seen(), []);
    let by_commit = HubFile {
        revision: Some(COMMIT.into()),
        ..weights.clone()
    };
    assert!(hub.cached(&by_commit).is_some());
    let other = HubFile {
        revision: Some("other".into()),
        ..weights
    };
    assert_eq!(hub.cached(&other), None);
}

#[test]
fn the_token_stays_with_the_name_it_is_meant_for() {
    let bench = Bench::new();
    let small = file("config.json");
    bench.server.add(REPO, "config.json", "{}", Kept::Small);
    let to = format!(
        "{}/{REPO}/resolve/main/config.json",
        bench.server.other_name()
    );
    bench.server.fail([Fault::Redirect(to)]);
    fetch(&bench.with_token(TOKEN), &small).unwrap();
    let told: Vec<bool> = bench
        .server
        .seen()
        .iter()
        .map(|seen| seen.authorization.is_some())
        .collect();
    assert!(told[0], "the hub is told the token");
    assert!(!told[1], "another name for it is not");
}

#[test]
fn small_files_are_kept_in_folders_and_at_revisions() {
    let bench = Bench::new();
    bench
        .server
        .add(REPO, "sub folder/config.json", "{\"a\": 1}", Kept::Small);
    let config = HubFile {
        revision: Some("refs/pr/1".into()),
        ..file("sub folder/config.json")
    };
    let hub = bench.hub();
    let path = fetch(&hub, &config).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"a\": 1}");
    assert!(fs::read_link(&path).unwrap().starts_with("../../../blobs"));
    assert_eq!(
        fs::read_to_string(bench.folder().join("refs/refs/pr/1")).unwrap(),
        COMMIT
    );
    assert_eq!(hub.cached(&config), Some(path.clone()));

    // A link to a content that was removed is no file; it is fetched and linked again.
    fs::remove_file(path.canonicalize().unwrap()).unwrap();
    assert_eq!(hub.cached(&config), None);
    assert_eq!(fetch(&hub, &config).unwrap(), path);
    assert_eq!(hub.cached(&config), Some(path));
}

#[test]
fn an_empty_file_is_a_file() {
    let bench = Bench::new();
    bench.server.add(REPO, "empty", "", Kept::Small);
    let path = fetch(&bench.hub(), &file("empty")).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"");
}

#[test]
fn a_cut_connection_is_taken_up_where_it_broke() {
    let bench = Bench::new();
    bench
        .server
        .fail([Fault::Cut(200_000), Fault::Cut(100_000)]);
    assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
    let ranges = bench.ranges();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=200000-"));
    assert_eq!(ranges[2].as_deref(), Some("bytes=300000-"));
}

#[test]
fn a_connection_that_always_breaks_leaves_its_part_for_the_next_time() {
    let bench = Bench::new();
    bench.server.fail([Fault::Cut(5000)]);
    bench.server.fail(vec![Fault::Cut(0); 5]);
    let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
    assert_refused(
        error,
        &[
            "hf://owner/model/model.safetensors",
            "600000 bytes",
            "5000",
            "do: run",
        ],
    );
    assert_eq!(fs::metadata(bench.incomplete()).unwrap().len(), 5000);
    assert!(!bench.blob().exists());
    bench.ranges();
    assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
    assert_eq!(bench.ranges(), [Some("bytes=5000-".to_owned())]);
}

#[test]
fn a_part_that_another_run_left_is_used_if_it_is_good() {
    let whole = content();
    let too_long = [whole.as_slice(), b"more"].concat();
    let damaged: Vec<u8> = whole.iter().map(|byte| byte ^ 1).collect();
    /// What was left, and the ranges that are asked for.
    type Case<'a> = (&'a str, &'a [u8], &'a [Option<&'a str>]);
    let from_0: &[Option<&str>] = &[None];
    let cases: [Case<'_>; 6] = [
        ("a good part", &whole[..1000], &[Some("bytes=1000-")]),
        ("all of it", &whole, &[]),
        ("more than all", &too_long, from_0),
        ("a bad part", &damaged[..1000], &[Some("bytes=1000-"), None]),
        ("all of it, damaged", &damaged, from_0),
        ("nothing", b"", from_0),
    ];
    for (what, left, expected) in cases {
        let bench = Bench::new();
        bench.leave(left);
        assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
        let expected: Vec<_> = expected
            .iter()
            .map(|range| range.map(str::to_owned))
            .collect();
        assert_eq!(bench.ranges(), expected, "{what}");
    }
}

#[test]
fn a_server_that_knows_no_ranges_sends_everything_again() {
    let bench = Bench::new();
    bench.leave(&content()[..1000]);
    bench.server.fail([Fault::WholeFile]);
    assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
}

#[test]
fn small_files_are_not_continued_for_nothing_would_show_a_wrong_part() {
    let bench = Bench::new();
    let etag = bench
        .server
        .add(REPO, "config.json", "{\"right\": true}", Kept::Small);
    bench.leave(b"");
    let left = bench
        .folder()
        .join("blobs")
        .join(format!("{etag}.incomplete"));
    fs::write(left, "{\"wr").unwrap();
    let path = fetch(&bench.hub(), &file("config.json")).unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "{\"right\": true}");
}

#[test]
fn what_arrives_is_checked() {
    let cases: [(Fault, &[&str]); 3] = [
        (
            Fault::Damaged,
            &["arrived damaged", "sha256", "expected: ", "found: "],
        ),
        (Fault::Longer(3), &["600000 bytes", "600003 bytes"]),
        (Fault::OtherRange, &["asked from byte 1000 on", "1001"]),
    ];
    for (fault, words) in cases {
        let bench = Bench::new();
        if matches!(fault, Fault::OtherRange) {
            bench.leave(&content()[..1000]);
        }
        bench.server.fail([fault]);
        let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
        assert_refused(error, words);
        assert_eq!(bench.hub().cached(&file(WEIGHTS)), None);
        assert!(!bench.blob().exists());
        assert_whole(&fetch(&bench.hub(), &file(WEIGHTS)).unwrap());
    }
}

#[test]
fn a_size_that_the_hub_states_wrongly_is_noticed() {
    for stated in ["599999", "600001"] {
        let bench = Bench::new();
        bench
            .server
            .fail([Fault::Header("X-Linked-Size", stated.to_owned())]);
        let hub = bench.hub();
        let error = fetch(&hub, &file(WEIGHTS)).unwrap_err();
        assert_refused(error, &[&format!("{stated} bytes"), "600000 bytes"]);
        assert!(!bench.blob().exists());
    }
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let bench = Bench::new();
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
    let bench = Bench::new();
    bench
        .server
        .add("meta/llama", "tokenizer.json", "{}", Kept::Small);
    bench.server.gate("meta/llama");
    let page = format!("{}/meta/llama", bench.server.endpoint());
    let gated = HubFile {
        repo: "meta/llama".into(),
        ..file("tokenizer.json")
    };
    let refused = |hub: &Hub, file: &HubFile, words: &[&str]| {
        assert_refused(hub.locate(file).unwrap_err(), words);
    };
    let (nobody, stranger) = (bench.hub(), bench.with_token("hf_wrong"));
    refused(
        &nobody,
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
        &stranger,
        &gated,
        &["gated", "the token of $HF_TOKEN", &page],
    );
    bench.with_token(TOKEN).locate(&gated).unwrap();

    let absent = HubFile {
        repo: "no/such".into(),
        ..file(WEIGHTS)
    };
    refused(
        &nobody,
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
        &nobody,
        &revision,
        &["hf://owner/model@v9/", "no such revision", "`revision`"],
    );
    refused(
        &nobody,
        &file("no.bin"),
        &["hf://owner/model/no.bin", "has no file", "/tree/main"],
    );

    let told = |status, code, message| {
        bench.server.fail([Fault::Status(status, code, message)]);
        stranger.locate(&file(WEIGHTS)).unwrap_err()
    };
    assert_refused(
        told(401, "", "Invalid credentials in Authorization header"),
        &[
            "401",
            "Invalid credentials",
            "the token of $HF_TOKEN",
            "settings/tokens",
        ],
    );
    assert_refused(
        told(403, "", "enable gated repositories"),
        &["403", "enable gated"],
    );
    assert_refused(told(404, "", ""), &["has no file"]);
    assert_refused(told(400, "", "bad"), &["400", "bad"]);
}

#[test]
fn answers_that_are_not_the_hubs_are_refused() {
    let to = |location: &str| ("Location", location.to_owned());
    let cases: [((&'static str, String), &str); 7] = [
        (("X-Repo-Commit", "../../../evil".to_owned()), "commit"),
        (("X-Repo-Commit", "..".to_owned()), "commit"),
        (("X-Linked-Etag", "\"../evil\"".to_owned()), "ETag"),
        (("X-Linked-Etag", "\"/etc/evil\"".to_owned()), "ETag"),
        (("X-Linked-Etag", "\"\"".to_owned()), "ETag"),
        (("X-Linked-Size", "many".to_owned()), "size"),
        (to("file:///etc/passwd"), "redirect"),
    ];
    for ((name, value), word) in cases {
        let bench = Bench::new();
        bench.server.fail([Fault::Header(name, value.clone())]);
        let is_redirect = name == "Location";
        let error = if is_redirect {
            // What describes the file is believed; where its content is, is asked later.
            let remote = bench.hub().locate(&file(WEIGHTS)).unwrap();
            bench.server.fail([Fault::Header(name, value.clone())]);
            bench
                .hub()
                .download(&file(WEIGHTS), &remote, &mut |_, _| {})
                .unwrap_err()
        } else {
            fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err()
        };
        assert_refused(error, &["was not answered as the hub would", word]);
        let outside = bench.cache.path().join("evil");
        assert!(!outside.exists(), "{value} was followed");
    }
}

#[test]
fn redirects_end() {
    let bench = Bench::new();
    let here = format!("/{REPO}/resolve/main/{WEIGHTS}");
    bench.server.fail(vec![Fault::Redirect(here); 20]);
    let error = bench.hub().locate(&file(WEIGHTS)).unwrap_err();
    assert_refused(error, &["redirects without end"]);
    assert!(bench.server.seen().len() < 20);
}

#[test]
fn without_a_network_it_is_said_at_once() {
    let bench = Bench::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let hub = Hub::new(Settings {
        endpoint: endpoint.clone(),
        // Who waited for a second try would wait here.
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
fn settings_that_cannot_be_are_refused() {
    let bench = Bench::new();
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
    let error = error.expect_err("two tokens are none");
    assert!(!error.to_string().contains("hf_a"), "the secret shows");
    assert_refused(error, &["the file .hf_token holds no access token"]);
}

#[test]
fn offline_nobody_is_asked() {
    let bench = Bench::new();
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
#[cfg(target_os = "linux")]
fn a_full_disk_is_named() {
    let bench = Bench::new();
    bench.leave(b"");
    fs::remove_file(bench.incomplete()).unwrap();
    std::os::unix::fs::symlink("/dev/full", bench.incomplete()).unwrap();
    let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
    assert!(
        matches!(&error, HubError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    );
    assert_refused(error, &[&bench.etag, "free space", "HF_HOME"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let bench = Bench::new();
    fs::write(bench.folder(), "a file where a folder belongs").unwrap();
    let error = fetch(&bench.hub(), &file(WEIGHTS)).unwrap_err();
    assert_refused(
        error,
        &["models--owner--model", "cannot be written", "HF_HOME"],
    );
}

#[test]
fn many_at_once_download_once() {
    const MANY: usize = 6;
    let bench = Bench::new();
    bench.server.fail([Fault::Slow(Duration::from_millis(300))]);
    let barrier = Barrier::new(MANY);
    thread::scope(|scope| {
        for _ in 0..MANY {
            scope.spawn(|| {
                let hub = bench.hub();
                barrier.wait();
                assert_whole(&fetch(&hub, &file(WEIGHTS)).unwrap());
            });
        }
    });
    assert_eq!(bench.ranges(), [None]);
    assert_eq!(sha256(&fs::read(bench.blob()).unwrap()), bench.etag);
}

#[test]
fn a_token_that_none_can_be_is_refused_before_the_network_is_blamed() {
    let bench = Bench::new();
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
                "$HF_TOKEN holds no access token",
                "do: copy the token again",
            ],
        );
    }
    assert_eq!(bench.server.seen(), []);
}

#[test]
fn a_name_that_no_folder_can_hold_is_named_as_the_cause() {
    let bench = Bench::new();
    let long = "a".repeat(300);
    bench.server.add(REPO, &long, "{}", Kept::Small);
    let error = fetch(&bench.hub(), &file(&long)).unwrap_err();
    assert_refused(error, &["longer than this system allows", "shorter"]);
}
