//! Zip archives with uncompressed entries (PKWARE's APPNOTE.TXT, including zip64), which can be read in
//! place.
//!
//! The central directory and the local headers of the entries must agree. Otherwise, two readers that
//! trust different ones would see different files.

use super::error::ReadError;
use std::{collections::BTreeMap, ops::Range};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// Lengths of the fixed parts, in bytes.
const LOCAL_LENGTH: usize = 30;
const CENTRAL_LENGTH: usize = 46;
const END_LENGTH: usize = 22;
const END_64_LENGTH: usize = 56;
const LOCATOR_64_LENGTH: usize = 20;

/// The value of a 32-bit field whose number is in the zip64 extension.
const IN_EXTENSION: u64 = u32::MAX as u64;

/// The largest number of entries. Each storage is an entry, and the largest models have a few thousand.
const MAX_ENTRIES: u64 = 1 << 18;

const ENCRYPTED: u16 = 1;
const SIZES_FOLLOW: u16 = 1 << 3;

/// Reads little-endian numbers and checks that they are inside the file.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn array<const N: usize>(self, at: usize) -> Result<[u8; N], ReadError> {
        let array = self.0.get(at..).and_then(<[u8]>::first_chunk);
        array.copied().ok_or_else(|| truncated(at))
    }

    fn u16(self, at: usize) -> Result<u16, ReadError> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(self, at: usize) -> Result<u32, ReadError> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(self, at: usize) -> Result<u64, ReadError> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn slice(self, at: usize, length: usize) -> Result<&'a [u8], ReadError> {
        let end = at.checked_add(length);
        end.and_then(|end| self.0.get(at..end))
            .ok_or_else(|| truncated(at))
    }
}

fn truncated(at: usize) -> ReadError {
    ReadError::Damaged(format!("its zip archive is cut off at byte {at}"))
}

fn damaged(what: impl Into<String>) -> ReadError {
    ReadError::Damaged(what.into())
}

fn index(number: u64) -> Result<usize, ReadError> {
    usize::try_from(number).map_err(|_| damaged(format!("{number} is beyond the end of the file")))
}

/// The position of the central directory and the number of its entries.
struct Directory {
    range: Range<usize>,
    entries: usize,
}

/// Returns the range of bytes of each entry, by name.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<&str, Range<usize>>, ReadError> {
    let bytes = Bytes(bytes);
    let directory = directory(bytes)?;
    let mut entries = BTreeMap::new();
    let mut spans = Vec::new();
    let mut at = directory.range.start;
    for number in 0..directory.entries {
        let about = |error| match error {
            ReadError::Damaged(what) => {
                damaged(format!("entry {number} of its zip archive: {what}"))
            }
            other => other,
        };
        let entry = Entry::read(bytes, at, directory.range.end).map_err(about)?;
        let data = entry.locate(bytes, directory.range.start).map_err(about)?;
        at += entry.length;
        spans.push((entry.offset, data.end, entry.name));
        if entries.insert(entry.name, data).is_some() {
            return Err(damaged(format!(
                "its zip archive contains `{}` twice",
                entry.name
            )));
        }
    }
    if at != directory.range.end {
        return Err(damaged("its zip directory is longer than its entries"));
    }
    spans.sort_unstable();
    if let Some(pair) = spans.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        return Err(damaged(format!(
            "`{}` and `{}` overlap in its zip archive",
            pair[0].2, pair[1].2
        )));
    }
    Ok(entries)
}

/// Finds the central directory from the end of the file.
fn directory(bytes: Bytes<'_>) -> Result<Directory, ReadError> {
    let length = bytes.0.len();
    let earliest = length.saturating_sub(END_LENGTH + usize::from(u16::MAX));
    let end = (earliest..=length.saturating_sub(END_LENGTH))
        .rev()
        .find(|&at| {
            let comment = bytes.u16(at + END_LENGTH - 2).map(usize::from);
            matches!(bytes.u32(at), Ok(END)) && comment.is_ok_and(|n| at + END_LENGTH + n == length)
        });
    let end = end.ok_or_else(|| damaged("its zip archive has no end: the file is truncated"))?;
    let small = [
        u64::from(bytes.u16(end + 10)?),
        bytes.u32(end + 12)?.into(),
        bytes.u32(end + 16)?.into(),
    ];
    if bytes.u32(end + 4)? != 0 && bytes.u32(end + 4)? != u32::MAX {
        return Err(damaged("its zip archive is split into several files"));
    }
    let locator = end.checked_sub(LOCATOR_64_LENGTH);
    let locator = locator.filter(|&at| matches!(bytes.u32(at), Ok(LOCATOR_64)));
    let (numbers, before) = match locator {
        None => (small, end),
        Some(locator) => {
            let record = index(bytes.u64(locator + 8)?)?;
            if record
                .checked_add(END_64_LENGTH)
                .is_none_or(|end| end > locator)
                || bytes.u32(record)? != END_64
            {
                return Err(damaged(
                    "the 64-bit end of its zip archive is not where the file says it is",
                ));
            }
            let large = [
                bytes.u64(record + 32)?,
                bytes.u64(record + 40)?,
                bytes.u64(record + 48)?,
            ];
            let limits = [u64::from(u16::MAX), IN_EXTENSION, IN_EXTENSION];
            let agree = (0..3).all(|i| small[i] == limits[i] || small[i] == large[i]);
            if !agree {
                return Err(damaged(
                    "the two ends of its zip archive contradict each other",
                ));
            }
            (large, record)
        }
    };
    let [count, size, start] = numbers;
    let (size, start) = (index(size)?, index(start)?);
    let range = start
        .checked_add(size)
        .filter(|&end| end <= before)
        .map(|end| start..end)
        .ok_or_else(|| damaged("its zip directory is not inside the file"))?;
    if count > MAX_ENTRIES || count > (range.len() / CENTRAL_LENGTH) as u64 {
        return Err(damaged(format!(
            "its zip archive declares {count} entries in a directory of {} bytes",
            range.len()
        )));
    }
    Ok(Directory {
        range,
        entries: index(count)?,
    })
}

/// An entry as the central directory describes it.
struct Entry<'a> {
    name: &'a str,
    flags: u16,
    size: usize,
    /// The offset of its local header.
    offset: usize,
    /// The length of its description in the central directory.
    length: usize,
}

impl<'a> Entry<'a> {
    fn read(bytes: Bytes<'a>, at: usize, end: usize) -> Result<Self, ReadError> {
        let bytes = Bytes(bytes.slice(0, end)?);
        if bytes.u32(at)? != CENTRAL {
            return Err(damaged("its description is missing from the directory"));
        }
        let flags = bytes.u16(at + 8)?;
        let method = bytes.u16(at + 10)?;
        let lengths = [at + 28, at + 30, at + 32].map(|at| bytes.u16(at).map(usize::from));
        let [name_length, extra_length, comment_length] = lengths;
        let (name_length, extra_length) = (name_length?, extra_length?);
        let name = name(bytes, at + CENTRAL_LENGTH, name_length)?;
        if flags & ENCRYPTED != 0 || method != 0 {
            let how = if method != 0 {
                "compressed"
            } else {
                "encrypted"
            };
            return Err(ReadError::Unsupported(format!(
                "`{name}` is {how} in its zip archive; expected uncompressed, unencrypted entries, as \
                 `torch.save` writes them"
            )));
        }
        let extra = bytes.slice(at + CENTRAL_LENGTH + name_length, extra_length)?;
        let mut extension = Extension::find(extra)?;
        let size = extension.number(bytes.u32(at + 24)?)?;
        let stored = extension.number(bytes.u32(at + 20)?)?;
        let offset = extension.number(bytes.u32(at + 42)?)?;
        if stored != size {
            return Err(damaged(format!(
                "`{name}` is uncompressed, but takes {stored} bytes instead of {size}"
            )));
        }
        Ok(Self {
            name,
            flags,
            size: index(size)?,
            offset: index(offset)?,
            length: CENTRAL_LENGTH + name_length + extra_length + comment_length?,
        })
    }

    /// Returns the range of the entry's bytes, which follow its local header. The header must agree with the
    /// directory.
    fn locate(&self, bytes: Bytes<'_>, end: usize) -> Result<Range<usize>, ReadError> {
        let header = Bytes(bytes.slice(0, end)?);
        let at = self.offset;
        if header.slice(at, LOCAL_LENGTH).is_err() || header.u32(at)? != LOCAL {
            return Err(damaged(format!(
                "`{}` is not where the directory says it is",
                self.name
            )));
        }
        let (flags, method) = (header.u16(at + 6)?, header.u16(at + 8)?);
        let name_length = usize::from(header.u16(at + 26)?);
        let extra_length = usize::from(header.u16(at + 28)?);
        let own = name(header, at + LOCAL_LENGTH, name_length)?;
        let extra = header.slice(at + LOCAL_LENGTH + name_length, extra_length)?;
        let (stored, size) = (header.u32(at + 18)?, header.u32(at + 22)?);
        let mut extension = Extension::find(extra)?;
        let follow = flags & SIZES_FOLLOW != 0;
        let sizes = if follow && stored == 0 && size == 0 {
            [self.size as u64; 2]
        } else {
            // As in the directory, the extension has the size before the stored size.
            [extension.number(size)?, extension.number(stored)?]
        };
        let same = own == self.name && method == 0 && flags == self.flags;
        if !same || sizes != [self.size as u64; 2] {
            return Err(damaged(format!(
                "the local header of `{}` contradicts the directory (`{own}`)",
                self.name
            )));
        }
        let start = at + LOCAL_LENGTH + name_length + extra_length;
        match start.checked_add(self.size) {
            Some(stop) if stop <= end => Ok(start..stop),
            _ => Err(damaged(format!(
                "`{}` declares {} bytes, which are not in the file",
                self.name, self.size
            ))),
        }
    }
}

fn name(bytes: Bytes<'_>, at: usize, length: usize) -> Result<&str, ReadError> {
    std::str::from_utf8(bytes.slice(at, length)?).map_err(|_| damaged("its name is not UTF-8"))
}

/// The numbers of a zip64 extension that were not read yet, in order.
struct Extension<'a>(&'a [u8]);

impl<'a> Extension<'a> {
    /// Finds the extension among an entry's extra fields. It is empty if there is none.
    fn find(mut extra: &'a [u8]) -> Result<Self, ReadError> {
        let mut found = None;
        while let Some((head, rest)) = extra.split_first_chunk::<4>() {
            let [kind_0, kind_1, length_0, length_1] = *head;
            let length = usize::from(u16::from_le_bytes([length_0, length_1]));
            let Some((field, after)) = rest.split_at_checked(length) else {
                return Err(damaged("its extra fields are truncated"));
            };
            if u16::from_le_bytes([kind_0, kind_1]) == 1 && found.replace(field).is_some() {
                return Err(damaged("it has two zip64 extensions"));
            }
            extra = after;
        }
        Ok(Self(found.unwrap_or_default()))
    }

    /// Returns the number of a 32-bit field, from the extension if the field refers to it.
    fn number(&mut self, field: u32) -> Result<u64, ReadError> {
        if u64::from(field) != IN_EXTENSION {
            return Ok(field.into());
        }
        let (number, rest) = self
            .0
            .split_first_chunk::<8>()
            .ok_or_else(|| damaged("a number is missing from its zip64 extension"))?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }
}
