//! Damaged and malicious archives and legacy files.

use super::{super::zip, builder::*};

#[test]
fn malicious_archives_are_refused() {
    let pickle = [
        b"\x80\x02",
        &dict(&tensor(&floats(), 0, &[4], &[1]))[..],
        b".",
    ]
    .concat();
    let parts = [entry("a/data.pkl", &pickle), entry("a/data/0", &[0; 16])];
    assert!(open(&archive(&parts)).is_ok());
    let changed = |change: &dyn Fn(&mut Entry)| {
        let mut parts = parts.clone();
        change(&mut parts[1]);
        archive(&parts)
    };
    let with = |more: Entry| archive(&[parts[0].clone(), parts[1].clone(), more]);
    refused(
        "compressed",
        &changed(&|entry| entry.method = 8),
        &["compressed"],
    );
    refused(
        "encrypted",
        &changed(&|entry| entry.flags = 1),
        &["encrypted"],
    );
    refused(
        "another name",
        &changed(&|entry| entry.own_name = Some("a/data/1")),
        &["contradicts"],
    );
    refused(
        "a smaller size",
        &changed(&|entry| entry.own_size = Some(8)),
        &["contradicts"],
    );
    refused(
        "a larger size",
        &changed(&|entry| entry.size = Some(17)),
        &["contradicts"],
    );
    refused(
        "both sizes larger",
        &changed(&|entry| {
            entry.size = Some(1 << 20);
            entry.own_size = Some(1 << 20);
        }),
        &["not in the file"],
    );
    refused(
        "a size in a missing extension",
        &changed(&|entry| {
            entry.size = Some(u32::MAX);
            entry.own_size = Some(u32::MAX);
        }),
        &["zip64"],
    );
    refused(
        "the position of another entry",
        &changed(&|entry| entry.offset = Some(0)),
        &["contradicts"],
    );
    refused(
        "a position beyond the end",
        &changed(&|entry| entry.offset = Some(1 << 30)),
        &["not where the directory says"],
    );
    refused(
        "the same name",
        &with(entry("a/data/0", &[1; 16])),
        &["`a/data/0` twice"],
    );
    refused(
        "two pickles",
        &with(entry("b/data.pkl", &pickle)),
        &["two checkpoints"],
    );
    refused(
        "TorchScript",
        &with(entry("a/constants.pkl", &pickle)),
        &["TorchScript"],
    );
    refused(
        "big-endian",
        &with(entry("a/byteorder", b"big")),
        &["big-endian"],
    );
    refused("no pickle", &archive(&parts[1..]), &["data.pkl"]);
    let whole = archive(&parts);
    let (end, count) = (whole.len() - 22, whole.len() - 10);
    let mut many = whole.clone();
    many[end + 10..count].copy_from_slice(&[0xff, 0x7f]);
    refused("more entries", &many, &["declares 32767 entries"]);
    let mut few = whole.clone();
    few[end + 10..count].copy_from_slice(&[1, 0]);
    refused("fewer entries", &few, &["longer than its entries"]);
    let mut split = whole.clone();
    split[end + 4] = 1;
    refused("a split archive", &split, &["split into several files"]);
    let large = fixture("views.zip.pt");
    let record = large.len() - 22 - 20 - 56;
    for (at, what) in [
        (record + 32, "entries"),
        (record + 40, "size"),
        (record + 48, "start"),
    ] {
        let mut changed = large.clone();
        changed[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        refused(what, &changed, &["contradict"]);
    }
    let mut lost = large.clone();
    lost[record + 56 + 8..record + 56 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
    refused("a record beyond the end", &lost, &["64-bit end"]);
}

/// An extra field: its kind, its length and its bytes (APPNOTE.TXT 4.5.1).
fn extra(kind: u16, bytes: &[u8]) -> Vec<u8> {
    let head = [kind, bytes.len() as u16].map(u16::to_le_bytes).concat();
    [&head, bytes].concat()
}

#[test]
fn sizes_are_read_from_where_the_format_has_them() {
    let pickle = [
        b"\x80\x02",
        &dict(&tensor(&floats(), 0, &[4], &[1]))[..],
        b".",
    ]
    .concat();
    let with = |change: &dyn Fn(&mut Entry)| {
        let mut storage = entry("a/data/0", &[7; 16]);
        change(&mut storage);
        archive(&[entry("a/data.pkl", &pickle), storage])
    };
    let read = |change: &dyn Fn(&mut Entry)| {
        let checkpoint = open(&with(change)).unwrap();
        assert_eq!(checkpoint.get("x").unwrap().bytes(), [7; 16]);
    };
    let sizes = extra(1, &[16u64, 16].map(u64::to_le_bytes).concat());
    let large = |extra: &[u8]| {
        let extra = extra.to_vec();
        move |entry: &mut Entry| {
            entry.size = Some(u32::MAX);
            entry.own_size = Some(u32::MAX);
            entry.extra.clone_from(&extra);
        }
    };
    // The kind of PyTorch's padding is "FB".
    let padding = extra(u16::from_le_bytes(*b"FB"), b"ZZZZ");
    read(&|entry| entry.extra.clone_from(&padding));
    read(&large(&sizes));
    read(&large(&[&padding[..], &sizes].concat()));
    read(&large(&[&sizes[..], &padding].concat()));
    refused(
        "two extensions",
        &with(&large(&[&sizes[..], &sizes].concat())),
        &["two zip64 extensions"],
    );
    refused(
        "an extension that is too short",
        &with(&large(&extra(1, &[0; 12]))),
        &["zip64"],
    );
    refused(
        "an extra field that is cut",
        &with(&large(&sizes[..sizes.len() - 1])),
        &["extra fields are truncated"],
    );
    // The local header may leave the sizes to the directory, if a flag says so.
    read(&|entry| {
        entry.own_size = Some(0);
        entry.flags = 1 << 3;
    });
    for (flags, own_size) in [(0, 0), (1 << 3, 8)] {
        let other = with(&|entry| {
            entry.own_size = Some(own_size);
            entry.flags = flags;
        });
        refused("sizes that differ", &other, &["contradicts"]);
    }
}

#[test]
fn an_archive_has_a_largest_number_of_entries() {
    let most = empty_entries(1 << 18);
    assert_eq!(zip::entries(&most).unwrap().len(), 1 << 18);
    refused(
        "one entry too many",
        &empty_entries((1 << 18) + 1),
        &["262145 entries"],
    );
}

#[test]
fn inconsistent_legacy_files_are_refused() {
    let head = fixture("merv.legacy.pt")[..15].to_vec();
    let file = |object: &[u8], keys: &[u8], data: &[u8]| {
        let rest = [
            b"\x80\x02M\xe9\x03.\x80\x02}.\x80\x02",
            object,
            b".\x80\x02",
            keys,
            b".",
            data,
        ];
        [head.clone(), rest.concat()].concat()
    };
    let object = dict(&tensor(&floats(), 0, &[4], &[1]));
    let key = [b"]", &text("0")[..], b"a"].concat();
    let data = [&4u64.to_le_bytes()[..], &[0; 16]].concat();
    assert_eq!(open(&file(&object, &key, &data)).unwrap().len(), 1);
    refused(
        "a truncated storage",
        &file(&object, &key, &data[..23]),
        &["ends beyond the file"],
    );
    refused("no storage", &file(&object, b"]", b""), &["no storage `0`"]);
    refused(
        "a dictionary of keys",
        &file(&object, b"}", b""),
        &["not a list"],
    );
    refused(
        "a key that is an integer",
        &file(&object, b"]K\0a", &data),
        &["not a string"],
    );
    refused(
        "an unknown storage",
        &file(&object, &[b"]", &text("1")[..], b"a"].concat(), &data),
        &["is not declared"],
    );
    refused(
        "other sizes",
        &file(&object, &key, &[&5u64.to_le_bytes()[..], &[0; 20]].concat()),
        &["with 5 elements and with 4"],
    );
    refused(
        "twice",
        &file(
            &object,
            &[b"](", &text("0")[..], &text("0"), b"e"].concat(),
            &[&data[..], &data].concat(),
        ),
        &["twice"],
    );
    let both = [
        &b"}"[..],
        &text("x"),
        &tensor(&floats(), 0, &[4], &[1]),
        b"s",
        &text("y"),
        &tensor(&storage("HalfStorage", "0", 4), 0, &[4], &[1]),
        b"s",
    ]
    .concat();
    refused(
        "two types",
        &file(&both, &key, &data),
        &["declared twice with different types"],
    );
    let foreign = [
        &head[..],
        b"\x80\x02M\xe9\x03.\x80\x02",
        &[b"}", &text("little_endian")[..], b"\x89s."].concat(),
    ];
    refused("big-endian", &foreign.concat(), &["big-endian"]);
    refused(
        "another protocol",
        &[&head[..], b"\x80\x02K\x01."].concat(),
        &["protocol"],
    );
}

/// Reads all tensors and returns whether that succeeds.
fn read_all(bytes: &[u8]) -> bool {
    open(bytes).is_ok_and(|checkpoint| {
        let lengths = checkpoint
            .iter()
            .map(|(_, tensor)| (tensor.bytes().len(), tensor.byte_len()));
        lengths
            .into_iter()
            .all(|(found, expected)| found == expected)
    })
}

#[test]
fn truncated_files_are_refused() {
    for name in [
        "merv.zip.pt",
        "views.zip.pt",
        "merv.legacy.pt",
        "views.legacy.pt",
    ] {
        let whole = fixture(name);
        assert!(read_all(&whole), "{name}");
        for length in 0..whole.len() {
            assert!(
                open(&whole[..length]).is_err(),
                "{name}: {length} of {} bytes",
                whole.len()
            );
        }
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    for name in [
        "views.zip.pt",
        "views.legacy.pt",
        "beside-tensors.protocol4.pt",
    ] {
        let whole = fixture(name);
        let mut refused = 0;
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                refused += u32::from(!read_all(&changed));
            }
        }
        assert!(refused > 100, "{name}: only {refused} changes were noticed");
    }
}
