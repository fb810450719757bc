//! What can be given as a video.

mod files;
mod stills;
