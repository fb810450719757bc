//! CUDA devices: their memory, as the host uses it.

mod driver;
mod service;

pub use service::Service;
