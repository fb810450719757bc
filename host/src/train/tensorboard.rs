//! Writes TensorBoard event files: scalars by tag and step.
//!
//! A file is a sequence of records: length, checksum, message, checksum. Each message is an `Event` in the protocol
//! buffers encoding. Readers ignore a last record that a kill cut short.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Writes one event file. A resumed run writes another one in the same folder, and TensorBoard shows them
/// together.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// Creates an event file in `folder`, and the folder if it does not exist.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::create_at(folder, now.unwrap_or_default().as_secs_f64())
    }

    fn create_at(folder: &Path, now: f64) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(folder)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // TensorBoard looks for `tfevents`, and reads the files of a folder in the order of their names.
        let name = format!(
            "events.out.tfevents.{:010}.merv-host.{}.{count}",
            now as u64,
            process::id()
        );
        let path = folder.join(name);
        let mut writer = Self {
            file: File::create_new(&path)?,
            path,
        };
        let mut event = Message::default();
        event.double(1, now);
        event.bytes(3, b"brain.Event:2");
        writer.record(&event)?;
        Ok(writer)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a value to the curve `tag`. `wall_time` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, wall_time: f64, value: f64) -> io::Result<()> {
        let mut scalar = Message::default();
        scalar.bytes(1, tag.as_bytes());
        scalar.float(2, value as f32);
        let mut summary = Message::default();
        summary.bytes(1, &scalar.0);
        let mut event = Message::default();
        event.double(1, wall_time);
        event.number(2, step);
        event.bytes(5, &summary.0);
        self.record(&event)
    }

    /// Writes a record in one call, so that a kill between two records does not leave an incomplete one.
    fn record(&mut self, event: &Message) -> io::Result<()> {
        let length = (event.0.len() as u64).to_le_bytes();
        let mut record = length.to_vec();
        record.extend(checksum(&length).to_le_bytes());
        record.extend(&event.0);
        record.extend(checksum(&event.0).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// A message in the protocol buffers encoding. Fields that are zero are omitted, as its own libraries do.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn number(&mut self, field: u64, value: u64) {
        if value != 0 {
            self.key(field, 0);
            self.varint(value);
        }
    }

    fn double(&mut self, field: u64, value: f64) {
        if value.to_bits() != 0 {
            self.key(field, 1);
            self.0.extend(value.to_le_bytes());
        }
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
    }

    /// Writes the field even if it is zero, because it states which kind of value the summary has.
    fn float(&mut self, field: u64, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

/// Returns the masked CRC-32C. The mask is needed because a CRC over data that contains its own CRC is weak.
fn checksum(bytes: &[u8]) -> u32 {
    let crc = !bytes.iter().fold(!0u32, |crc, &byte| {
        CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    });
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The CRC of each byte: Castagnoli's polynomial, lowest bit first.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by TensorBoard's own `RecordWriter` and messages: `tests/python/make_tensorboard.py`.
    const EXPECTED: &[u8] = include_bytes!("../../../tests/fixtures/tensorboard/events");

    #[test]
    fn the_file_equals_tensorboards_byte_for_byte() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create_at(folder.path(), 1_700_000_000.25).unwrap();
        for step in 0..3u64 {
            let time = 1_700_000_000.5 + step as f64;
            writer
                .scalar("train/loss", step, time, 2.5 / (step + 1) as f64)
                .unwrap();
            writer
                .scalar("mixer/größe", step * 100_000, time, 0.0)
                .unwrap();
        }
        writer
            .scalar("learning_rate", u64::from(u32::MAX) * 5, 0.0, 1e-4)
            .unwrap();
        writer.scalar("loss", 7, 1.0, f64::INFINITY).unwrap();
        assert_eq!(fs::read(writer.path()).unwrap(), EXPECTED);
        let name = writer.path().file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with("events.out.tfevents.1700000000."),
            "{name}"
        );
    }

    #[test]
    fn two_files_of_the_same_second_have_different_names() {
        let folder = tempfile::tempdir().unwrap();
        let first = EventWriter::create_at(folder.path(), 5.0).unwrap();
        let second = EventWriter::create_at(folder.path(), 5.0).unwrap();
        assert_ne!(first.path(), second.path());
        assert!(EventWriter::create(Path::new("/proc/none")).is_err());
    }
}
