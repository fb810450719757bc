use super::{
    super::{BadArgument, CommandResult, load_options, options, print, print_json},
    print_report,
};
use crate::{
    args::{Global, eval::BenchmarkArgs},
    ui::{Bar, Ui},
};
use merv_host::{
    AnswerOptions, VidLm, counted, escaped,
    eval::{
        self, EvalObserver, EvalReport, Failure, RunOptions, RunOutcome, Strategy, Task, report,
        store::Completion,
    },
    features::FeatureCache,
    generate::Sampler,
};
use serde::Serialize;
use std::{path::PathBuf, sync::Arc, time::Instant};

/// The output of `--json` while other chunks have unanswered questions.
#[derive(Serialize)]
struct UnfinishedReport {
    complete: bool,
    /// False if the answers are meaningless because the mixer is not trained yet.
    mixer_is_trained: bool,
    /// The number of questions that were asked now.
    asked: usize,
    /// The number of questions that are not in a finished chunk.
    left: usize,
    failures: Vec<Failure>,
}

/// The output of `--json` when all chunks are done.
#[derive(Serialize)]
struct FinishedReport<'r> {
    complete: bool,
    mixer_is_trained: bool,
    asked: usize,
    seconds: f64,
    predictions: PathBuf,
    #[serde(flatten)]
    report: &'r EvalReport,
}

pub fn run(
    global: &Global,
    task: Task,
    strategy: Strategy,
    args: &BenchmarkArgs,
    ui: Ui,
) -> CommandResult {
    let started = Instant::now();
    // Check what is cheap to check before anything is written.
    Sampler::new(options::sampling(&args.answer))?;
    let features = match &args.feature_cache {
        Some(folder) => Some(Arc::new(FeatureCache::open_as_kept(folder)?)),
        None => None,
    };
    let run_options = RunOptions {
        task,
        strategy,
        data_dir: args.data_dir.clone(),
        benchmark: args.benchmark.clone(),
        out: args.out.clone(),
        num_chunks: args.num_chunks,
        chunk_idx: args.chunk_idx,
        answers: AnswerOptions {
            sampling: options::sampling(&args.answer),
            limits: options::answer_limits(&args.answer),
        },
        batch_size: args.batch_size,
        max_bad_fraction: args.max_bad_fraction,
        folder_fps: args.folder_fps,
        limits: options::limits(&args.limits),
        features: features.clone(),
    };
    let registry = load_options(global).registry(global.registry())?;
    let untrained = registry.untrained();
    untrained.iter().for_each(|notice| ui.warn(notice));
    let mut watch = Progress { ui, bar: ui.bar() };
    let mut bar = ui.bar();
    let outcome = eval::run(&run_options, &registry, &mut watch, || {
        let model = VidLm::load_with(global.registry(), &load_options(global), &mut bar)?;
        bar.finish();
        Ok(model)
    })
    .map_err(BadArgument::of_eval)?;
    watch.bar.finish();
    for notice in features.iter().flat_map(|features| features.take_notices()) {
        ui.warn(&notice);
    }
    let RunOutcome {
        dataset,
        store,
        completion,
        failed,
        asked,
    } = outcome;
    let merged = match completion {
        Completion::Complete(merged) => merged,
        Completion::Incomplete { remaining: left } => {
            let unfinished = UnfinishedReport {
                complete: false,
                mixer_is_trained: untrained.is_none(),
                asked,
                left,
                failures: failed,
            };
            if args.json {
                return print_json(&unfinished);
            }
            return print(&format!(
                "chunk {} of {} is done: {} asked, {} could not be asked; {left} remain for other chunks",
                args.chunk_idx,
                args.num_chunks,
                counted(asked, "question"),
                unfinished.failures.len(),
            ));
        }
    };
    let report = EvalReport::of_run(&dataset, &registry.id, strategy, &merged);
    report.write(|what| store.path(what))?;
    report::write_verdicts(&store, task, &merged)?;
    if args.json {
        return print_json(&FinishedReport {
            complete: true,
            mixer_is_trained: untrained.is_none(),
            asked,
            seconds: started.elapsed().as_secs_f64(),
            predictions: store.merged_path(),
            report: &report,
        });
    }
    if let Some(notice) = &registry.notice {
        ui.warn(notice);
    }
    print_report(&report)
}

struct Progress {
    ui: Ui,
    bar: Bar,
}

impl EvalObserver for Progress {
    fn clip(&mut self, done: usize, total: usize, next: &str) {
        self.bar.show("answering", next, done as u64, total as u64);
    }

    fn failed(&mut self, failure: &Failure) {
        let id = escaped(&failure.question_id);
        let text = format!("question `{id}` is skipped: {failure}");
        self.bar.suspend(|| self.ui.warn_always(&text));
    }

    fn notice(&mut self, text: &str) {
        self.bar.suspend(|| self.ui.warn_always(text));
    }
}
