//! The calls of MPI. Only the engine's thread makes them.
//!
//! The functions of the MPI crate borrow tensors for a lifetime and wait for requests that are dropped. An operation
//! here has to end with the group, so its request owns its copies and leaks them instead.

use crate::staged::Staged;
use merv_plugin_api::{
    CollectiveOperation, DType, ErrorKind, OperationKind, PluginError, Reduction,
};
use mpi::ffi;
use std::{
    ffi::{c_char, c_int, c_void},
    mem::{self, MaybeUninit},
    ptr,
};

/// Returns the error of a call of MPI.
fn check(function: &str, code: c_int) -> Result<(), PluginError> {
    if code == 0 {
        return Ok(());
    }
    let mut text = [0u8; 1024];
    let mut length: c_int = 0;
    // SAFETY: MPI writes at most `MPI_MAX_ERROR_STRING` bytes, which is 256 in Open MPI and 1024 in MPICH.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut length) };
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    let text = String::from_utf8_lossy(&text[..length]);
    Err(PluginError::new(
        ErrorKind::INTERNAL,
        format!("{function} failed: {text}"),
    ))
}

fn count(elements: usize) -> Result<c_int, PluginError> {
    c_int::try_from(elements).map_err(|_| {
        PluginError::unsupported(format!(
            "MPI counts at most {} elements, found {elements}: send them in several operations",
            c_int::MAX
        ))
    })
}

/// The type of the elements that MPI sees, and how many of them an element of the tensor is.
fn datatype(
    operation: CollectiveOperation,
    dtype: DType,
) -> Result<(ffi::MPI_Datatype, usize), PluginError> {
    // SAFETY: constants that MPI has initialised.
    unsafe {
        match (operation.reduction(), dtype) {
            (Reduction::NONE, other) => Ok((ffi::RSMPI_UINT8_T, other.size())),
            (_, DType::F32 | DType::BF16) => Ok((ffi::RSMPI_FLOAT, 1)),
            (_, DType::F64) => Ok((ffi::RSMPI_DOUBLE, 1)),
            (_, DType::I64) => Ok((ffi::RSMPI_INT64_T, 1)),
            (_, other) => Err(PluginError::unsupported(format!("cannot reduce {other}"))),
        }
    }
}

fn reduction(reduction: Reduction) -> Result<ffi::MPI_Op, PluginError> {
    // SAFETY: constants that MPI has initialised.
    unsafe {
        match reduction {
            Reduction::SUM | Reduction::AVERAGE => Ok(ffi::RSMPI_SUM),
            Reduction::PRODUCT => Ok(ffi::RSMPI_PROD),
            Reduction::MIN => Ok(ffi::RSMPI_MIN),
            Reduction::MAX => Ok(ffi::RSMPI_MAX),
            other => Err(PluginError::unsupported(format!(
                "MPI does not have {other}"
            ))),
        }
    }
}

/// A communicator.
pub struct Comm {
    raw: ffi::MPI_Comm,
    pub rank: u32,
    pub size: u32,
}

impl Comm {
    /// Duplicates the communicator of all processes, so that messages of others do not arrive here.
    pub fn world() -> Result<Self, PluginError> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: MPI is initialised.
        let code = unsafe { ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, raw.as_mut_ptr()) };
        check("MPI_Comm_dup", code)?;
        // SAFETY: MPI has written it.
        Self::new(unsafe { raw.assume_init() })
    }

    fn new(raw: ffi::MPI_Comm) -> Result<Self, PluginError> {
        let (mut rank, mut size): (c_int, c_int) = (0, 0);
        // SAFETY: `raw` is a communicator. Errors are returned from here on instead of ending the process.
        unsafe {
            check(
                "MPI_Comm_set_errhandler",
                ffi::MPI_Comm_set_errhandler(raw, ffi::RSMPI_ERRORS_RETURN),
            )?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(raw, &mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(raw, &mut size))?;
        }
        let (rank, size) = (rank.unsigned_abs(), size.unsigned_abs());
        Ok(Self { raw, rank, size })
    }

    /// Divides the communicator. Blocks until all members do it.
    pub fn split(&self, colour: Option<u32>, key: u32) -> Result<Option<Self>, PluginError> {
        // SAFETY: a constant that MPI has initialised.
        let undefined = unsafe { ffi::RSMPI_UNDEFINED };
        let colour = colour.map_or(Ok(undefined), |colour| count(colour as usize))?;
        let mut raw = MaybeUninit::uninit();
        // SAFETY: `self.raw` is a communicator.
        let code = unsafe {
            ffi::MPI_Comm_split(self.raw, colour, count(key as usize)?, raw.as_mut_ptr())
        };
        check("MPI_Comm_split", code)?;
        // SAFETY: MPI has written it, and null is a constant.
        let (raw, null) = unsafe { (raw.assume_init(), ffi::RSMPI_COMM_NULL) };
        match raw == null {
            true => Ok(None),
            false => Self::new(raw).map(Some),
        }
    }

    /// Returns the number of every member. Blocks until all members do it, right after a split.
    pub fn gather_now(&self, mine: u32) -> Result<Vec<u32>, PluginError> {
        let mut all = vec![0u32; self.size as usize];
        // SAFETY: both have one number of 32 bits, for this member and for each member.
        let code = unsafe {
            ffi::MPI_Allgather(
                ptr::from_ref(&mine).cast::<c_void>(),
                1,
                ffi::RSMPI_UINT32_T,
                all.as_mut_ptr().cast::<c_void>(),
                1,
                ffi::RSMPI_UINT32_T,
                self.raw,
            )
        };
        check("MPI_Allgather", code)?;
        Ok(all)
    }

    /// Begins to send a message to a member.
    pub fn send(&self, to: u32, tag: c_int, message: &[u8]) -> Result<Request, PluginError> {
        // SAFETY: a slice has as many bytes.
        let copy = unsafe { Staged::copy_of(message.as_ptr(), message.len()) }?;
        let (length, to) = (count(message.len())?, count(to as usize)?);
        Request::start("MPI_Isend", copy, Staged::default(), |send, _, request| {
            // SAFETY: the request keeps the copy until MPI has sent it.
            unsafe { ffi::MPI_Isend(send, length, ffi::RSMPI_UINT8_T, to, tag, self.raw, request) }
        })
    }

    /// Receives a message, if one has come: its sender, tag and bytes.
    pub fn receive(&self) -> Result<Option<(u32, c_int, Vec<u8>)>, PluginError> {
        let (mut there, mut length): (c_int, c_int) = (0, 0);
        let mut status = MaybeUninit::uninit();
        // SAFETY: `self.raw` is a communicator, and MPI writes the status if a message is there.
        let status = unsafe {
            let (source, tag) = (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_ANY_TAG);
            let code = ffi::MPI_Iprobe(source, tag, self.raw, &mut there, status.as_mut_ptr());
            check("MPI_Iprobe", code)?;
            if there == 0 {
                return Ok(None);
            }
            let code = ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &mut length);
            check("MPI_Get_count", code)?;
            status.assume_init()
        };
        let mut message = vec![0u8; usize::try_from(length).unwrap_or(0)];
        // SAFETY: the message that was found has `length` bytes. Only this thread receives.
        let code = unsafe {
            ffi::MPI_Recv(
                message.as_mut_ptr().cast::<c_void>(),
                length,
                ffi::RSMPI_UINT8_T,
                status.MPI_SOURCE,
                status.MPI_TAG,
                self.raw,
                ffi::RSMPI_STATUS_IGNORE,
            )
        };
        check("MPI_Recv", code)?;
        Ok(Some((
            status.MPI_SOURCE.unsigned_abs(),
            status.MPI_TAG,
            message,
        )))
    }

    /// Begins an operation on `elements` elements of the smaller tensor.
    pub fn start(
        &self,
        operation: CollectiveOperation,
        dtype: DType,
        elements: usize,
        send: Staged,
    ) -> Result<Request, PluginError> {
        let (datatype, factor) = datatype(operation, dtype)?;
        let width = match (operation.reduction(), dtype) {
            (Reduction::NONE, other) => other.size(),
            (_, DType::BF16) => DType::F32.size(),
            (_, other) => other.size(),
        };
        let n = count(elements * factor)?;
        let op = match operation.reduction() {
            Reduction::NONE => reduction(Reduction::SUM),
            other => reduction(other),
        }?;
        let (comm, root) = (self.raw, count(operation.root() as usize)?);
        let parts = match operation.kind() {
            OperationKind::ALL_GATHER => self.size as usize,
            OperationKind::BARRIER | OperationKind::BROADCAST => 0,
            _ => 1,
        };
        count(elements * factor * parts.max(1))?;
        let receive = Staged::zeros(parts * elements * width)?;
        let name = format!("MPI's {operation}");
        Request::start(&name, send, receive, |send, receive, request| {
            // SAFETY: `send` and `receive` have the numbers of elements that the operation needs, and the request keeps
            // them until MPI has finished. Datatype, operation and communicator are MPI's.
            unsafe {
                match operation.kind() {
                    OperationKind::BARRIER => ffi::MPI_Ibarrier(comm, request),
                    OperationKind::BROADCAST => {
                        ffi::MPI_Ibcast(send, n, datatype, root, comm, request)
                    }
                    OperationKind::ALL_REDUCE => {
                        ffi::MPI_Iallreduce(send, receive, n, datatype, op, comm, request)
                    }
                    OperationKind::REDUCE_SCATTER => ffi::MPI_Ireduce_scatter_block(
                        send, receive, n, datatype, op, comm, request,
                    ),
                    _ => {
                        ffi::MPI_Iallgather(send, n, datatype, receive, n, datatype, comm, request)
                    }
                }
            }
        })
    }
}

/// Something that MPI does, with the copies that it uses.
pub struct Request {
    raw: ffi::MPI_Request,
    send: Staged,
    receive: Staged,
}

impl Request {
    fn start(
        function: &str,
        mut send: Staged,
        mut receive: Staged,
        start: impl FnOnce(*mut c_void, *mut c_void, *mut ffi::MPI_Request) -> c_int,
    ) -> Result<Self, PluginError> {
        // SAFETY: a constant that MPI has initialised.
        let mut raw = unsafe { ffi::RSMPI_REQUEST_NULL };
        let (from, to) = (send.as_mut_ptr().cast(), receive.as_mut_ptr().cast());
        check(function, start(from, to, ptr::from_mut(&mut raw)))?;
        Ok(Self { raw, send, receive })
    }

    /// Returns whether MPI has finished.
    pub fn is_finished(&mut self) -> Result<bool, PluginError> {
        let mut finished: c_int = 0;
        // SAFETY: `raw` is a request, or null after it has finished.
        let code = unsafe { ffi::MPI_Test(&mut self.raw, &mut finished, ffi::RSMPI_STATUS_IGNORE) };
        check("MPI_Test", code)?;
        Ok(finished != 0)
    }

    /// Returns what was sent and what was received, after MPI has finished.
    pub fn into_copies(mut self) -> (Staged, Staged) {
        (mem::take(&mut self.send), mem::take(&mut self.receive))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: a constant that MPI has initialised.
        if self.raw != unsafe { ffi::RSMPI_REQUEST_NULL } {
            // MPI may use the copies until the process ends: it cannot cancel a collective operation.
            mem::forget(mem::take(&mut self.send));
            mem::forget(mem::take(&mut self.receive));
        }
    }
}
