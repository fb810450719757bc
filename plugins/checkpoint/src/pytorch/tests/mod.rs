//! Files of PyTorch, whole and hostile.

mod builder;
mod files;
mod pickles;
mod whole;
