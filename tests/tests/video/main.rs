//! What can be given as a video.

mod stills;
