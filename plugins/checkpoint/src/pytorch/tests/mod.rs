//! Valid, damaged and malicious PyTorch files.

mod builder;
mod calls;
mod files;
mod pickles;
mod valid;
