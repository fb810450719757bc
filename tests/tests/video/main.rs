//! Videos in all forms: files, images, folders and pipes.

mod files;
mod stills;
