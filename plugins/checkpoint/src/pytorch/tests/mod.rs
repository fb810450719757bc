//! Valid, damaged and malicious PyTorch files.

mod builder;
mod files;
mod pickles;
mod valid;
