use super::{BadArgument, CommandResult, print};
use crate::{args::plot::Plot, ui::Ui};
use merv_host::plot::{Picture, PictureFormat, plot};
use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

pub fn run(args: &Plot, ui: Ui) -> CommandResult {
    let pictures = pictures(args)?;
    if let Some(skipped) = plot(&args.run, &pictures)? {
        if skipped.cut_line {
            ui.info("the last line of the metrics is not complete yet and was skipped");
        }
        if skipped.repeated > 0 {
            ui.warn(&format!(
                "lines that repeat a step and were skipped: {}",
                skipped.repeated
            ));
        }
        if skipped.not_finite > 0 {
            let count = skipped.not_finite;
            ui.warn(&format!(
                "{count} values are missing or not finite and were skipped"
            ));
        }
    }
    for picture in pictures {
        print(&picture.path.display().to_string())?;
    }
    Ok(())
}

/// Returns the pictures to draw.
fn pictures(args: &Plot) -> Result<Vec<Picture>, Box<dyn Error>> {
    let format = |path: &Path| match path.extension()?.to_ascii_lowercase().to_str()? {
        "svg" => Some(PictureFormat::Svg),
        "png" => Some(PictureFormat::Png),
        _ => None,
    };
    let folder = match &args.out {
        Some(path) if !path.is_dir() => match format(path) {
            Some(format) => {
                let path = path.clone();
                return Ok(vec![Picture { path, format }]);
            }
            None if path.extension().is_some() => {
                let path = path.display();
                return Err(Box::new(BadArgument::new(format!(
                    "--out {path}: expected a folder, or a file that ends in .svg or .png"
                ))));
            }
            None => {
                fs::create_dir_all(path).map_err(|why| format!("{}: {why}", path.display()))?;
                path.clone()
            }
        },
        Some(path) => path.clone(),
        None if args.run.is_dir() => args.run.clone(),
        None => args
            .run
            .parent()
            .map_or_else(PathBuf::new, Path::to_path_buf),
    };
    let named = [
        ("curves.svg", PictureFormat::Svg),
        ("curves.png", PictureFormat::Png),
    ];
    Ok(named
        .map(|(name, format)| Picture {
            path: folder.join(name),
            format,
        })
        .to_vec())
}
