//! The memory of the pretend devices, as the service and the models use it.

use crate::table::{Counts, FIRST_ADDRESS, Queue, Table};
use merv_plugin_api::{DType, Device, LogLevel, PluginError, Stream, TensorBuf, TensorView, log};
use std::{
    ptr,
    sync::{Mutex, MutexGuard, PoisonError},
};

static TABLE: Mutex<Table> = Mutex::new(Table::EMPTY);

fn table() -> MutexGuard<'static, Table> {
    // A panic is a bug in this plugin, and its message is what the test shows.
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happened so far.
pub fn counts() -> Counts {
    table().counts.clone()
}

/// The bytes that can still be allocated.
pub fn free(device: Device) -> Result<u64, PluginError> {
    table().free(device)
}

/// Makes a tensor of an address, which is released when the tensor is dropped.
fn tensor(
    address: usize,
    device: Device,
    dtype: DType,
    shape: &[usize],
    stream: Stream,
) -> Result<TensorBuf, PluginError> {
    let release = move |last_use| {
        if let Err(error) = table().release(address, last_use) {
            log(LogLevel::ERROR, &error.message);
        }
    };
    // SAFETY: the table keeps the bytes of the address until `release`. Only this plugin can access them.
    unsafe {
        TensorBuf::from_raw(
            ptr::without_provenance(address),
            dtype,
            device,
            shape,
            stream,
            release,
        )
    }
}

fn size(dtype: DType, shape: &[usize]) -> Result<usize, PluginError> {
    let elements = shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim));
    let bytes = elements.and_then(|elements| dtype.bytes(elements));
    let bytes = bytes.filter(|&bytes| bytes < FIRST_ADDRESS);
    bytes.ok_or_else(|| {
        PluginError::invalid(format!(
            "a tensor of {dtype} of shape {shape:?} is too large"
        ))
    })
}

/// Allocates a tensor of garbage.
pub fn allocate(device: Device, dtype: DType, shape: &[usize]) -> Result<TensorBuf, PluginError> {
    let address = table().reserve(device, size(dtype, shape)?, Stream::COMPLETE)?;
    tensor(address, device, dtype, shape, Stream::COMPLETE)
}

/// Returns the result of a computation. On a pretend device it is garbage until its stream is finished.
pub fn result(values: Vec<f32>, device: Device, shape: &[usize]) -> Result<TensorBuf, PluginError> {
    if device.is_main_memory() {
        return TensorBuf::from_vec(values, shape);
    }
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect();
    let mut table = table();
    let stream = Stream(table.streams + 1);
    let address = table.reserve(device, bytes.len(), stream)?;
    table.streams += 1;
    let work = Queue {
        after: Vec::new(),
        writes: vec![(address, bytes)],
    };
    table.unfinished.insert(stream.0, work);
    drop(table);
    tensor(address, device, DType::F32, shape, stream)
}

/// Reads an input of a computation, after its stream.
pub fn input(view: &TensorView<'_>) -> Result<Vec<f32>, PluginError> {
    if view.device().is_main_memory() {
        return Ok(view.f32s()?.to_vec());
    }
    if view.dtype() != DType::F32 {
        return Err(PluginError::invalid(format!(
            "expected f32, found {}",
            view.dtype()
        )));
    }
    let mut table = table();
    let bytes = &table.complete(view)?.bytes;
    let values = bytes
        .chunks_exact(4)
        .map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    Ok(values.collect())
}

/// Changes a tensor by a computation of the plugin, after its stream.
pub fn store(values: &[f32], target: &TensorView<'_>) -> Result<(), PluginError> {
    let bytes = values.iter().flat_map(|value| value.to_ne_bytes());
    table().complete(target)?.bytes = bytes.collect();
    Ok(())
}

/// Copies a tensor from main memory to a device, after its stream.
pub fn write(bytes: &[u8], target: &TensorView<'_>) -> Result<(), PluginError> {
    let mut table = table();
    table.complete(target)?.bytes.copy_from_slice(bytes);
    add(&mut table.counts.to_device, bytes.len());
    Ok(())
}

/// Copies a tensor from a device to main memory, after its stream.
pub fn read(source: &TensorView<'_>, bytes: &mut [u8]) -> Result<(), PluginError> {
    let mut table = table();
    bytes.copy_from_slice(&table.complete(source)?.bytes);
    add(&mut table.counts.to_main, bytes.len());
    Ok(())
}

/// Copies a tensor within a device or to its peer, after its stream.
pub fn between(source: &TensorView<'_>, target: &TensorView<'_>) -> Result<(), PluginError> {
    let mut table = table();
    let bytes = table.complete(source)?.bytes.clone();
    add(&mut table.counts.between, bytes.len());
    table.complete(target)?.bytes = bytes;
    Ok(())
}

fn add(count: &mut [u64; 2], bytes: usize) {
    count[0] += 1;
    count[1] += bytes as u64;
}

/// Makes `consumer` wait for `producer`.
pub fn wait(consumer: Stream, producer: Stream) -> Result<(), PluginError> {
    let mut table = table();
    table.known(consumer)?;
    table.known(producer)?;
    if consumer == Stream::COMPLETE || table.is_after(producer, consumer) {
        return Err(PluginError::invalid(format!(
            "stream {} cannot wait for stream {}",
            consumer.0, producer.0
        )));
    }
    if table.is_unfinished(producer) {
        // A stream without work gets some: to wait.
        table
            .unfinished
            .entry(consumer.0)
            .or_default()
            .after
            .push(producer);
    }
    Ok(())
}

/// Does the work of a stream.
pub fn finish(stream: Stream) -> Result<(), PluginError> {
    let mut table = table();
    table.known(stream)?;
    table.finish(stream);
    Ok(())
}

/// Does the work of all streams.
pub fn finish_all() {
    let mut table = table();
    while let Some(&stream) = table.unfinished.keys().next() {
        table.finish(Stream(stream));
    }
}
