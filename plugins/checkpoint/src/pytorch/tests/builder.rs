//! Builds PyTorch files byte by byte, including files that PyTorch would not write.

use crate::{Checkpoint, CheckpointError};
use std::{io::Write, path::Path};

pub(super) const FIXTURES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/fixtures/checkpoint"
);

pub(super) fn open(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Checkpoint::open(&[file.path()])
}

#[track_caller]
pub(super) fn refused(what: &str, bytes: &[u8], words: &[&str]) {
    let error = match open(bytes) {
        Ok(_) => panic!("{what}: opened, but expected an error with {words:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(error.contains(word), "{what}: `{error}` lacks `{word}`");
    }
}

pub(super) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(FIXTURES).join(name)).unwrap()
}

/// An entry of an archive. The fields that begin with `own` change its local header, so that it contradicts
/// the directory.
#[derive(Clone)]
pub(super) struct Entry {
    pub name: &'static str,
    pub data: Vec<u8>,
    pub own_name: Option<&'static str>,
    pub own_size: Option<u32>,
    pub size: Option<u32>,
    pub offset: Option<u32>,
    pub method: u16,
    pub flags: u16,
    /// The extra fields of both headers.
    pub extra: Vec<u8>,
}

pub(super) fn entry(name: &'static str, data: &[u8]) -> Entry {
    Entry {
        name,
        data: data.to_vec(),
        own_name: None,
        own_size: None,
        size: None,
        offset: None,
        method: 0,
        flags: 0,
        extra: Vec::new(),
    }
}

pub(super) fn archive(entries: &[Entry]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let length = entry.data.len() as u32;
        let (own_size, size) = (
            entry.own_size.unwrap_or(length),
            entry.size.unwrap_or(length),
        );
        let own_name = entry.own_name.unwrap_or(entry.name);
        let offset = entry.offset.unwrap_or(bytes.len() as u32);
        bytes.extend(b"PK\x03\x04\0\0");
        bytes.extend(
            [entry.flags, entry.method, 0, 0]
                .map(u16::to_le_bytes)
                .concat(),
        );
        bytes.extend([0, own_size, own_size].map(u32::to_le_bytes).concat());
        let extra = entry.extra.len() as u16;
        bytes.extend(
            [own_name.len() as u16, extra]
                .map(u16::to_le_bytes)
                .concat(),
        );
        bytes.extend(own_name.as_bytes());
        bytes.extend(&entry.extra);
        bytes.extend(&entry.data);
        directory.extend(b"PK\x01\x02\0\0\0\0");
        directory.extend(
            [entry.flags, entry.method, 0, 0]
                .map(u16::to_le_bytes)
                .concat(),
        );
        directory.extend([0, size, size].map(u32::to_le_bytes).concat());
        directory.extend(
            [entry.name.len() as u16, extra, 0, 0, 0]
                .map(u16::to_le_bytes)
                .concat(),
        );
        directory.extend([0, offset].map(u32::to_le_bytes).concat());
        directory.extend(entry.name.as_bytes());
        directory.extend(&entry.extra);
    }
    let start = bytes.len() as u32;
    let count = entries.len() as u16;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].map(u16::to_le_bytes).concat());
    bytes.extend(
        [directory.len() as u32, start]
            .map(u32::to_le_bytes)
            .concat(),
    );
    bytes.extend([0, 0]);
    bytes
}

/// An archive of `count` empty entries, with the zip64 end record that more than 65,535 of them require
/// (APPNOTE.TXT 4.3.14 to 4.3.16).
pub(super) fn empty_entries(count: u32) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for number in 0..count {
        let name = format!("{number:08}");
        directory.extend(b"PK\x01\x02");
        directory.extend([0; 24]);
        directory.extend(
            [name.len() as u16, 0, 0, 0, 0]
                .map(u16::to_le_bytes)
                .concat(),
        );
        directory.extend([0, bytes.len() as u32].map(u32::to_le_bytes).concat());
        directory.extend(name.as_bytes());
        bytes.extend(b"PK\x03\x04");
        bytes.extend([0; 22]);
        bytes.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        bytes.extend(name.as_bytes());
    }
    let start = bytes.len() as u64;
    bytes.extend(&directory);
    let end = bytes.len() as u64;
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44u64.to_le_bytes());
    bytes.extend([0; 12]);
    let numbers = [count.into(), count.into(), directory.len() as u64, start];
    bytes.extend(numbers.map(u64::to_le_bytes).concat());
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend(end.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([0xff; 12]);
    bytes.extend([0, 0]);
    bytes
}

/// A checkpoint of the object that `body` builds, with a storage `0` of 16 bytes.
pub(super) fn pickled(body: &[u8]) -> Vec<u8> {
    let pickle = [b"\x80\x02", body, b"."].concat();
    archive(&[entry("a/data.pkl", &pickle), entry("a/data/0", &[0; 16])])
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

pub(super) fn int(number: i32) -> Vec<u8> {
    [b"J", &number.to_le_bytes()[..]].concat()
}

pub(super) fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub(super) fn ints(numbers: &[i32]) -> Vec<u8> {
    tuple(
        &numbers
            .iter()
            .map(|&number| int(number))
            .collect::<Vec<_>>(),
    )
}

/// A dictionary with one entry, `x`.
pub(super) fn dict(value: &[u8]) -> Vec<u8> {
    [b"}", &text("x")[..], value, b"s"].concat()
}

pub(super) fn storage(kind: &str, key: &str, elements: i32) -> Vec<u8> {
    let kind = format!("ctorch\n{kind}\n").into_bytes();
    let parts = [text("storage"), kind, text(key), text("cpu"), int(elements)];
    [tuple(&parts), b"Q".to_vec()].concat()
}

pub(super) fn tensor(storage: &[u8], offset: i32, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let arguments = [
        storage.to_vec(),
        int(offset),
        ints(shape),
        ints(strides),
        b"\x89".to_vec(),
        hooks,
    ];
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        &tuple(&arguments)[..],
        b"R",
    ]
    .concat()
}

pub(super) fn floats() -> Vec<u8> {
    storage("FloatStorage", "0", 4)
}
