//! The name and the memory of a CUDA device, which only NVIDIA's driver tells. Its library is opened when it is asked for the
//! first time, because most machines do not have it.

use libloading::{Library, Symbol};
use merv_plugin_api::{ErrorKind, PluginError};
use std::{
    ffi::{c_char, c_int, c_uint, c_void},
    ptr,
    sync::OnceLock,
};

const FILE: &str = if cfg!(windows) {
    "nvcuda.dll"
} else {
    "libcuda.so.1"
};

/// The longest name of a device.
const NAME: usize = 256;

/// A device as the driver describes it.
pub struct Described {
    pub name: String,
    pub total: u64,
    pub free: u64,
}

type Device = c_int;
type Context = *mut c_void;
/// 0 for success (`CUresult`).
type Status = c_int;

/// Describes the device `ordinal`, as libtorch counts them: both leave out what `CUDA_VISIBLE_DEVICES` hides.
pub fn describe(ordinal: u32) -> Result<Described, PluginError> {
    let driver = driver()?;
    let ordinal = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
    let (mut device, mut total) = (0, 0usize);
    let mut name: [c_char; NAME] = [0; NAME];
    // SAFETY: the signatures are those of `cuda.h`, and the pointers lead to values of their types.
    unsafe {
        let init: Symbol<'_, unsafe extern "C" fn(c_uint) -> Status> = symbol(driver, "cuInit")?;
        let get: Symbol<'_, unsafe extern "C" fn(*mut Device, c_int) -> Status> =
            symbol(driver, "cuDeviceGet")?;
        let name_of: Symbol<'_, unsafe extern "C" fn(*mut c_char, c_int, Device) -> Status> =
            symbol(driver, "cuDeviceGetName")?;
        let total_of: Symbol<'_, unsafe extern "C" fn(*mut usize, Device) -> Status> =
            symbol(driver, "cuDeviceTotalMem_v2")?;
        done("cuInit", init(0))?;
        done("cuDeviceGet", get(&raw mut device, ordinal))?;
        let length = c_int::try_from(NAME).unwrap_or(c_int::MAX);
        done(
            "cuDeviceGetName",
            name_of(name.as_mut_ptr(), length, device),
        )?;
        done("cuDeviceTotalMem", total_of(&raw mut total, device))?;
    }
    let letters = name.iter().take_while(|&&letter| letter != 0);
    let letters: Vec<u8> = letters.map(|&letter| letter.to_ne_bytes()[0]).collect();
    Ok(Described {
        name: String::from_utf8_lossy(&letters).into_owned(),
        total: total as u64,
        free: free(driver, device)?,
    })
}

/// Returns the free memory of a device, in its primary context, which libtorch uses too.
fn free(driver: &Library, device: Device) -> Result<u64, PluginError> {
    let mut context: Context = ptr::null_mut();
    let (mut free, mut total) = (0usize, 0usize);
    // SAFETY: as above. The context is retained while it is used, and this thread's context is restored.
    unsafe {
        let retain: Symbol<'_, unsafe extern "C" fn(*mut Context, Device) -> Status> =
            symbol(driver, "cuDevicePrimaryCtxRetain")?;
        let release: Symbol<'_, unsafe extern "C" fn(Device) -> Status> =
            symbol(driver, "cuDevicePrimaryCtxRelease_v2")?;
        let push: Symbol<'_, unsafe extern "C" fn(Context) -> Status> =
            symbol(driver, "cuCtxPushCurrent_v2")?;
        let pop: Symbol<'_, unsafe extern "C" fn(*mut Context) -> Status> =
            symbol(driver, "cuCtxPopCurrent_v2")?;
        let info: Symbol<'_, unsafe extern "C" fn(*mut usize, *mut usize) -> Status> =
            symbol(driver, "cuMemGetInfo_v2")?;
        done("cuDevicePrimaryCtxRetain", retain(&raw mut context, device))?;
        let pushed = push(context);
        let found = match pushed {
            0 => info(&raw mut free, &raw mut total),
            status => status,
        };
        if pushed == 0 {
            pop(&raw mut context);
        }
        release(device);
        done("cuMemGetInfo", found)?;
    }
    Ok(free as u64)
}

fn driver() -> Result<&'static Library, PluginError> {
    static DRIVER: OnceLock<Result<Library, String>> = OnceLock::new();
    // SAFETY: the initialiser of NVIDIA's driver has no requirements.
    let driver = DRIVER.get_or_init(|| unsafe { Library::new(FILE) }.map_err(|e| e.to_string()));
    driver.as_ref().map_err(|error| {
        PluginError::unsupported(format!("NVIDIA's driver cannot be opened: {error}"))
    })
}

/// # Safety
///
/// The function must have the type `T`.
unsafe fn symbol<'l, T>(driver: &'l Library, name: &str) -> Result<Symbol<'l, T>, PluginError> {
    // SAFETY: the caller's promise.
    let found = unsafe { driver.get(name.as_bytes()) };
    found.map_err(|error| {
        PluginError::unsupported(format!("NVIDIA's driver lacks `{name}`: {error}"))
    })
}

fn done(function: &str, status: Status) -> Result<(), PluginError> {
    match status {
        0 => Ok(()),
        status => Err(PluginError::new(
            ErrorKind::INTERNAL,
            format!("NVIDIA's driver: {function} returned the error {status}"),
        )),
    }
}
