use super::{
    super::{CommandResult, load_options, print_json},
    print_report,
};
use crate::{
    args::{Global, eval::Judge},
    ui::Ui,
};
use merv_checkpoint::text;
use merv_host::{
    VidLm,
    eval::judge::{self, Notices, Service, Verdicts, batch::BatchOptions},
    registry::DtypeChoice,
};
use std::{error::Error, path::Path, time::Duration};

/// Maximum number of bytes of a key file.
const MAX_KEY: u64 = 1 << 16;

/// The number of cases that a local judge processes together.
const LOCAL_BATCH: usize = 16;

pub fn run(global: &Global, args: &Judge, ui: Ui) -> CommandResult {
    let (cases, stem, benchmark) = judge::cases(&args.predictions)?;
    let mut bar = ui.bar();
    let report = if args.local {
        let registry = load_options(global).registry(global.registry())?;
        let name = match registry.llm.dtype {
            DtypeChoice::Auto => registry.id,
            dtype => format!("{} in {dtype}", registry.id),
        };
        let mut verdicts = open(&stem, &name, ui)?;
        if !verdicts.pending(&cases).is_empty() {
            let model = VidLm::load_with(global.registry(), &load_options(global), &mut bar)?;
            let mut watch =
                |done, total| bar.show("judging", &benchmark, done as u64, total as u64);
            judge::local::judge(&model, LOCAL_BATCH, &mut verdicts, &cases, &mut watch)?;
        }
        verdicts.conclude(&benchmark, &cases)?
    } else {
        let mut verdicts = open(&stem, &args.model, ui)?;
        let mut watch = |done, total| bar.show("judging", &benchmark, done as u64, total as u64);
        if !verdicts.pending(&cases).is_empty() {
            let service = service(args, bar.notices())?;
            if args.batch {
                let options = BatchOptions {
                    max_requests: args.batch_requests,
                    max_bytes: args.batch_bytes,
                    poll: Duration::from_secs_f64(args.poll),
                };
                judge::batch::judge(&service, options, &mut verdicts, &cases, &mut watch)?;
            } else {
                let concurrency = args.concurrency;
                judge::direct::judge(&service, concurrency, &mut verdicts, &cases, &mut watch)?;
            }
        }
        verdicts.conclude(&benchmark, &cases)?
    };
    bar.finish();
    if args.json {
        return print_json(&report);
    }
    print_report(&report)
}

/// Opens the verdicts, and reports damaged ones.
fn open(stem: &Path, judge: &str, ui: Ui) -> Result<Verdicts, Box<dyn Error>> {
    let mut verdicts = Verdicts::open(stem, judge)?;
    verdicts
        .take_notices()
        .iter()
        .for_each(|notice| ui.warn(notice));
    Ok(verdicts)
}

fn service(args: &Judge, notices: Notices) -> Result<Service, Box<dyn Error>> {
    let key = match &args.key_file {
        Some(path) => {
            let text = text::read(path, MAX_KEY)
                .map_err(|error| format!("--key-file {}: {error}", path.display()))?;
            Some(text)
        }
        None => std::env::var("OPENAI_API_KEY").ok(),
    };
    let key = key
        .map(|key| key.trim().to_owned())
        .filter(|key| !key.is_empty());
    if key.is_none() && args.key_file.is_some() {
        return Err("the file in --key-file is empty\n  expected: the service's key".into());
    }
    Ok(Service {
        base_url: args.base_url.clone(),
        key,
        timeout: Duration::from_secs(args.timeout),
        tries: args.tries,
        first_delay: Duration::from_secs_f64(args.retry_delay),
        notices,
    })
}
