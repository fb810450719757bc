//! Describes a clip with the model that comes with merv-host.

use merv_host::{Error, GenerateOptions, Sampling, VidLm, causes};
use std::process::ExitCode;

fn describe(video: &str) -> Result<String, Error> {
    let vidlm = VidLm::load("merv-tiny")?;
    let options = GenerateOptions {
        sampling: Sampling {
            temperature: 0.4,
            ..Sampling::default()
        },
        ..GenerateOptions::default()
    };
    let prompt = "Describe what is happening in this video.";
    Ok(vidlm.generate(video, prompt, &options)?.text)
}

fn main() -> ExitCode {
    match describe("assets/shapes.mp4") {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            causes(&error).for_each(|cause| eprintln!("  caused by: {cause}"));
            ExitCode::FAILURE
        }
    }
}
