//! Registry files and the files that they name.

mod published;
mod requests;
mod untrained;
