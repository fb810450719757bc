//! The files in which the host is known to decode other frames than the `ffmpeg` command, and the reasons.

/// The reasons, each with its files.
const KNOWN: &[(&str, &[&str])] = &[
    (
        "refused as cut short; ffmpeg shows the part before the cut or hole",
        &[
            "av1.hole0.ivf",
            "av1.hole1.ivf",
            "av1.hole0.obu",
            "av1.joined-cut.obu",
            "h264-fast.tail-cut0.mp4",
            "h264-fast.tail-cut1.mp4",
            "h264-fast.tail-cut2.mp4",
            "h264-fast.hole0.mp4",
            "h264-fast.hole1.mp4",
            "h264-fields.tail-cut2.mp4",
            "rv20.tail-cut0.rm",
            "rv20.tail-cut2.rm",
            "vp9.hole0.ivf",
            "vp9.hole1.ivf",
            "y4m.hole0.y4m",
            "y4m.hole1.y4m",
        ],
    ),
    (
        "without its header, the file is in a format that is not supported",
        &[
            "av1.head-cut0.mkv",
            "av1.head-cut0.webm",
            "h261.head-cut0.avi",
            "h263.head-cut0.3gp",
            "h263.head-cut0.avi",
            "jpeg2000.head-cut0.mov",
            "jpeg2000.head-cut0.mxf",
        ],
    ),
    (
        "ffmpeg's decoder reads a wrong size from the damage and fails to the end; the host continues at the next key frame",
        &["vp9.garbage.ivf"],
    ),
    (
        "the edit list hides the first frames, which ffmpeg 5.1 shows and PyAV does not",
        &["av1.begun-late.mp4", "mjpeg.begun-late.mov"],
    ),
];

/// The known reason why a file differs.
pub fn reason(name: &str) -> Option<&'static str> {
    let mut known = KNOWN.iter();
    known
        .find(|(_, files)| files.contains(&name))
        .map(|(reason, _)| *reason)
}
