//! What is on the pretend devices: a table from addresses to bytes, and streams whose work waits to be done.

use merv_plugin_api::{Device, DeviceKind, ErrorKind, PluginError, Stream, TensorView};
use std::collections::BTreeMap;

/// Bytes of each device, in the order of their numbers. A clip of the lively model does not fit on the second.
const CAPACITIES: [u64; 2] = [64 << 20, 512 << 10];

/// The first address: above all memory of a process.
pub const FIRST_ADDRESS: usize = 1 << (usize::BITS - 2);

/// The contents of memory before its first write.
const GARBAGE: u8 = 0xff;

/// The devices.
pub fn devices() -> impl Iterator<Item = Device> {
    (0..)
        .zip(CAPACITIES)
        .map(|(ordinal, _)| Device::new(DeviceKind::EXTENSION, ordinal))
}

/// The bytes of a device.
pub fn capacity(device: Device) -> Result<u64, PluginError> {
    let of_kind = (device.kind == DeviceKind::EXTENSION).then_some(device.ordinal as usize);
    let found = of_kind.and_then(|ordinal| CAPACITIES.get(ordinal));
    found.copied().ok_or_else(|| {
        let known: Vec<_> = devices().map(|device| device.to_string()).collect();
        PluginError::unsupported(format!(
            "`device` is {device}, which does not exist: expected cpu, {}",
            known.join(" or ")
        ))
    })
}

/// What happened so far.
#[derive(Default, Clone)]
pub struct Counts {
    pub allocations: u64,
    pub releases: u64,
    /// Number and bytes of copies from main memory.
    pub to_device: [u64; 2],
    /// Number and bytes of copies to main memory.
    pub to_main: [u64; 2],
    /// Number and bytes of copies within a device or between two.
    pub between: [u64; 2],
    /// Reads of incomplete or released tensors, and releases before the stream of the last use.
    pub violations: u64,
}

pub struct Stored {
    device: Device,
    pub bytes: Vec<u8>,
    written_on: Stream,
    /// The stream after which it is freed, once it is released.
    released_on: Option<Stream>,
}

/// A stream whose work has not been done.
#[derive(Default)]
pub struct Queue {
    pub after: Vec<Stream>,
    /// Addresses and the bytes to write there.
    pub writes: Vec<(usize, Vec<u8>)>,
}

pub struct Table {
    tensors: BTreeMap<usize, Stored>,
    next_address: usize,
    /// Streams with work, by number.
    pub unfinished: BTreeMap<u64, Queue>,
    /// The number of streams so far. They count from 1.
    pub streams: u64,
    pub counts: Counts,
}

impl Table {
    /// Devices that nothing was allocated on.
    pub const EMPTY: Self = Self {
        tensors: BTreeMap::new(),
        next_address: FIRST_ADDRESS,
        unfinished: BTreeMap::new(),
        streams: 0,
        counts: Counts {
            allocations: 0,
            releases: 0,
            to_device: [0; 2],
            to_main: [0; 2],
            between: [0; 2],
            violations: 0,
        },
    };

    fn violation(&mut self, what: String) -> PluginError {
        self.counts.violations += 1;
        PluginError::new(ErrorKind::INTERNAL, what)
    }

    /// Returns the bytes that can still be allocated.
    pub fn free(&self, device: Device) -> Result<u64, PluginError> {
        let tensors = self.tensors.values();
        let used = tensors
            .filter(|stored| stored.device == device)
            .map(|stored| stored.bytes.len() as u64);
        Ok(capacity(device)? - used.sum::<u64>())
    }

    /// Allocates garbage that is written on `stream`, and returns its address.
    pub fn reserve(
        &mut self,
        device: Device,
        bytes: usize,
        stream: Stream,
    ) -> Result<usize, PluginError> {
        let free = self.free(device)?;
        if bytes as u64 > free {
            return Err(PluginError::new(
                ErrorKind::OUT_OF_MEMORY,
                format!("{device} has {free} bytes free, and {bytes} bytes are needed"),
            ));
        }
        let address = self.next_address;
        // Also the end of an empty tensor differs from every other address.
        self.next_address += bytes.next_multiple_of(64) + 64;
        self.tensors.insert(
            address,
            Stored {
                device,
                bytes: vec![GARBAGE; bytes],
                written_on: stream,
                released_on: None,
            },
        );
        self.counts.allocations += 1;
        Ok(address)
    }

    /// Returns whether a stream has work.
    pub fn is_unfinished(&self, stream: Stream) -> bool {
        self.unfinished.contains_key(&stream.0)
    }

    /// Returns whether work that is later on `stream` begins after `producer`.
    pub fn is_after(&self, stream: Stream, producer: Stream) -> bool {
        let after = |queue: &Queue| {
            queue
                .after
                .iter()
                .any(|&earlier| self.is_after(earlier, producer))
        };
        stream == producer || self.unfinished.get(&stream.0).is_some_and(after)
    }

    /// Does the work of a stream, and of those that it waits for.
    pub fn finish(&mut self, stream: Stream) {
        let Some(queue) = self.unfinished.remove(&stream.0) else {
            return;
        };
        queue
            .after
            .into_iter()
            .for_each(|earlier| self.finish(earlier));
        for (address, bytes) in queue.writes {
            if let Some(stored) = self.tensors.get_mut(&address) {
                stored.bytes = bytes;
            }
        }
        let before = self.tensors.len();
        self.tensors
            .retain(|_, stored| stored.released_on != Some(stream));
        self.counts.releases += (before - self.tensors.len()) as u64;
    }

    /// Frees a tensor, or notes that it is freed when the stream of its last use is finished.
    pub fn release(&mut self, address: usize, last_use: Stream) -> Result<(), PluginError> {
        let Some(stored) = self.tensors.get(&address) else {
            return Err(self.violation(format!("{address:#x} was released twice")));
        };
        let written = stored.written_on;
        if self.is_unfinished(written) && !self.is_after(last_use, written) {
            return Err(self.violation(format!(
                "{address:#x} was released on stream {} before stream {} was finished",
                last_use.0, written.0
            )));
        }
        if self.is_unfinished(last_use) {
            if let Some(stored) = self.tensors.get_mut(&address) {
                stored.released_on = Some(last_use);
            }
        } else {
            self.tensors.remove(&address);
            self.counts.releases += 1;
        }
        Ok(())
    }

    /// Returns the stored tensor of a view, whose stream is finished.
    pub fn complete(&mut self, view: &TensorView<'_>) -> Result<&mut Stored, PluginError> {
        self.finish(view.stream());
        let (address, device) = (view.as_ptr().addr(), view.device());
        let found = self.tensors.get(&address);
        let found =
            found.filter(|stored| stored.device == device && stored.bytes.len() == view.bytes());
        let found = found
            .filter(|stored| stored.released_on.is_none())
            .map(|stored| stored.written_on);
        match found {
            Some(stream) if self.is_unfinished(stream) => Err(self.violation(format!(
                "a tensor on {device} was read on stream {} before stream {} was finished",
                view.stream().0,
                stream.0
            ))),
            Some(_) => self
                .tensors
                .get_mut(&address)
                .ok_or_else(|| PluginError::invalid("no tensor")),
            None => Err(self.violation(format!(
                "{address:#x} is not a tensor of {} bytes on {device}",
                view.bytes()
            ))),
        }
    }

    /// Checks that a stream exists.
    pub fn known(&self, stream: Stream) -> Result<(), PluginError> {
        match stream.0 <= self.streams {
            true => Ok(()),
            false => Err(PluginError::invalid(format!(
                "stream {} does not exist",
                stream.0
            ))),
        }
    }
}
