use super::{Outcome, print, print_json};
use crate::{
    args::{Global, convert::Convert},
    ui::Ui,
};
use merv_host::convert::{ConvertOptions, ConvertReport, convert};

pub fn run(global: &Global, args: &Convert, ui: Ui) -> Outcome {
    let options = ConvertOptions {
        dtype: args.dtype.target(),
        max_shard_bytes: args.max_shard_size,
        // Not the default: its weights come with this program.
        template: global.registry.clone(),
        force: args.force,
    };
    let bar = ui.bar();
    let report = convert(
        &args.input,
        &args.out,
        &options,
        &mut |name, done, total| {
            bar.show("converting", name, done, total);
        },
    )?;
    bar.finish();
    if args.json {
        return print_json(&report);
    }
    for file in &report.files {
        let path = args.out.join(&file.path);
        print(&format!(
            "{}: {} tensors, {} bytes",
            path.display(),
            file.tensors,
            file.bytes
        ))?;
    }
    if let Some(registry) = &report.registry {
        print(&args.out.join(registry).display().to_string())?;
    }
    notes(&report, ui);
    Ok(())
}

/// What a person should know of what was not converted.
fn notes(report: &ConvertReport, ui: Ui) {
    if report.left_out.training > 0 {
        ui.say(&format!(
            "left out: {} tensors of the training's state",
            report.left_out.training
        ));
    }
    if report.left_out.values > 0 {
        ui.say(&format!(
            "left out: {} values that are no tensors",
            report.left_out.values
        ));
    }
    if report.is_merv && report.registry.is_none() {
        ui.warn(
            "no registry was made; name the one that the checkpoint belongs to, such as \
             `--registry merv-full`, and there will be one that uses these files",
        );
    }
}
