//! Small clips in every codec and container that the `ffmpeg` command writes and the host reads.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A codec: its name, the options that encode it, and the extensions of the files that contain it.
pub type Codec = (&'static str, &'static str, &'static [&'static str]);

const X264: &str = "-c:v libx264 -crf 30 -g 8";

pub const CODECS: &[Codec] = &[
    (
        "h264",
        "-bf 2",
        &[
            "mp4", "mov", "mkv", "avi", "ts", "flv", "nut", "h264", "mxf",
        ],
    ),
    (
        "h264-open",
        "-bf 3 -b_strategy 0 -sc_threshold 0 -x264-params open-gop=1",
        &["mp4", "mkv", "ts"],
    ),
    ("h264-nob", "-bf 0", &["mp4", "avi", "ts", "flv", "h264"]),
    (
        "h264-refresh",
        "-bf 0 -x264-params intra-refresh=1",
        &["mkv", "ts"],
    ),
    ("h264-fields", "-bf 2 -flags +ilme+ildct", &["mp4", "ts"]),
    (
        "h264-fragmented",
        "-bf 2 -movflags +frag_keyframe+empty_moov",
        &["mp4"],
    ),
    ("h264-fast", "-bf 2 -movflags +faststart", &["mp4"]),
    (
        "hevc",
        "-c:v libx265 -crf 34 -x265-params log-level=none:pools=none:frame-threads=1:keyint=8:bframes=2",
        &["mp4", "mkv", "ts", "hevc"],
    ),
    (
        "mpeg4",
        "-c:v mpeg4 -q:v 8 -g 8 -bf 2",
        &["avi", "mp4", "mkv", "nut", "m4v", "ts"],
    ),
    (
        "mpeg4-nob",
        "-c:v mpeg4 -q:v 8 -g 8 -bf 0",
        &["avi", "mp4", "mkv", "m4v"],
    ),
    ("xvid", "-c:v libxvid -q:v 8 -g 8 -bf 2", &["avi", "mkv"]),
    (
        "mpeg2",
        "-c:v mpeg2video -q:v 8 -g 8 -bf 2",
        &["mpg", "ts", "mkv", "m2v", "mxf"],
    ),
    (
        "mpeg2-fields",
        "-c:v mpeg2video -q:v 8 -g 8 -bf 2 -flags +ilme+ildct",
        &["mpg", "ts"],
    ),
    (
        "mpeg1",
        "-c:v mpeg1video -q:v 8 -g 8 -bf 2",
        &["mpg", "avi"],
    ),
    (
        "vp8",
        "-c:v libvpx -crf 40 -b:v 200k -g 8 -auto-alt-ref 1 -lag-in-frames 8",
        &["webm", "mkv", "ivf"],
    ),
    (
        "vp9",
        "-c:v libvpx-vp9 -crf 45 -b:v 0 -g 8 -auto-alt-ref 1 -lag-in-frames 8",
        &["webm", "mp4", "ivf"],
    ),
    (
        "av1",
        "-c:v libaom-av1 -crf 50 -b:v 0 -g 8 -cpu-used 8 -lag-in-frames 8",
        &["mp4", "mkv", "webm", "ivf", "obu"],
    ),
    (
        "mjpeg",
        "-c:v mjpeg -q:v 8 -pix_fmt yuvj420p",
        &["avi", "mov", "mkv", "mjpeg"],
    ),
    ("ffv1", "-c:v ffv1 -g 8", &["mkv", "avi", "nut"]),
    ("wmv1", "-c:v wmv1 -q:v 8 -g 8", &["wmv", "avi"]),
    ("wmv2", "-c:v wmv2 -q:v 8 -g 8", &["wmv", "asf"]),
    ("msmpeg4", "-c:v msmpeg4 -q:v 8 -g 8", &["avi", "asf"]),
    ("msmpeg4v2", "-c:v msmpeg4v2 -q:v 8 -g 8", &["avi"]),
    ("flv1", "-c:v flv -q:v 8 -g 8", &["flv", "mkv"]),
    ("theora", "-c:v libtheora -q:v 4 -g 8", &["ogv", "mkv"]),
    (
        "prores",
        "-c:v prores_ks -profile:v 0 -pix_fmt yuv422p10le",
        &["mov", "mkv"],
    ),
    (
        "dnxhr",
        "-c:v dnxhd -profile:v dnxhr_lb -pix_fmt yuv422p -vf scale=320:240",
        &["mov", "mkv"],
    ),
    (
        "h263",
        "-c:v h263 -vf scale=128:96 -q:v 8 -g 8",
        &["avi", "3gp"],
    ),
    ("h261", "-c:v h261 -vf scale=176:144 -q:v 8 -g 8", &["avi"]),
    ("rv20", "-c:v rv20 -q:v 8 -g 8", &["rm"]),
    ("huffyuv", "-c:v huffyuv -pix_fmt yuv422p", &["avi", "mkv"]),
    ("utvideo", "-c:v utvideo", &["avi"]),
    (
        "raw",
        "-c:v rawvideo -pix_fmt yuv420p",
        &["avi", "nut", "mov"],
    ),
    ("y4m", "-pix_fmt yuv420p", &["y4m"]),
    ("png", "-c:v png", &["mov", "mkv"]),
    ("qtrle", "-c:v qtrle", &["mov"]),
    ("cinepak", "-c:v cinepak -vf scale=96:72", &["avi", "mov"]),
    ("svq1", "-c:v svq1 -g 8", &["mov"]),
    ("msvideo1", "-c:v msvideo1", &["avi"]),
    ("jpeg2000", "-c:v jpeg2000 -q:v 8", &["mov", "mxf"]),
    ("snow", "-c:v snow -q:v 8 -g 8", &["avi"]),
    (
        "dv",
        "-c:v dvvideo -vf scale=720:576 -frames:v 8 -pix_fmt yuv420p",
        &["dv", "avi"],
    ),
];

/// The sources of the first clip and of the clip that is joined to it.
const SCENES: [&str; 2] = [
    "testsrc2=size=96x72:rate=25:duration=1.2",
    "mandelbrot=size=96x72:rate=25:end_pts=40,trim=duration=0.8",
];

/// Runs `ffmpeg` quietly. Returns false if it failed or wrote nothing.
pub fn ffmpeg(arguments: &[&str], out: &Path) -> bool {
    let status = Command::new("ffmpeg")
        .args(["-v", "quiet", "-nostdin", "-y"])
        .args(arguments)
        .arg(out)
        .status();
    status.is_ok_and(|status| status.success()) && out.metadata().is_ok_and(|about| about.len() > 0)
}

/// Encodes scene 0 or 1 with `more` options.
pub fn encode((name, options, _): &Codec, scene: usize, more: &[&str], out: &Path) -> bool {
    let x264 = if options.contains("-c:v") || *name == "y4m" {
        ""
    } else {
        X264
    };
    let mut arguments = vec!["-f", "lavfi", "-i", SCENES[scene], "-fflags", "+bitexact"];
    // With more threads, some encoders write different files on different machines.
    arguments.extend(["-threads", "1"]);
    if !options.contains("-pix_fmt") && !["png", "qtrle", "cinepak", "msvideo1"].contains(name) {
        arguments.extend([
            "-pix_fmt",
            if *name == "svq1" {
                "yuv410p"
            } else {
                "yuv420p"
            },
        ]);
    }
    arguments.extend(x264.split_whitespace());
    arguments.extend(options.split_whitespace());
    arguments.extend(more);
    ffmpeg(&arguments, out)
}

/// The path of the file with this codec, change and extension.
pub fn path(folder: &Path, codec: &str, change: &str, ending: &str) -> PathBuf {
    folder.join(format!("{codec}.{change}.{ending}"))
}
