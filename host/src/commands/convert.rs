use super::{CommandResult, print, print_json};
use crate::{
    args::{Global, convert::Convert},
    ui::Ui,
};
use merv_host::convert::{ConvertOptions, ConvertReport, convert};

pub fn run(global: &Global, args: &Convert, ui: Ui) -> CommandResult {
    let options = ConvertOptions {
        dtype: args.dtype.target(),
        max_shard_bytes: args.max_shard_size,
        // Without --registry no registry is written, because the default one has its own weights.
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

/// Reports what was not converted.
fn notes(report: &ConvertReport, ui: Ui) {
    if report.left_out.training > 0 {
        ui.info(&format!(
            "skipped: {} tensors of the training state",
            report.left_out.training
        ));
    }
    if report.left_out.values > 0 {
        ui.info(&format!(
            "skipped: {} values that are not tensors",
            report.left_out.values
        ));
    }
    if report.is_merv && report.registry.is_none() {
        ui.warn(
            "no registry was written; for one that uses these files, add the registry that the checkpoint \
             belongs to, such as `--registry merv-full`",
        );
    }
}
