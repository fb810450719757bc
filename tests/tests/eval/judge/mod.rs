//! The judge against a local service that misbehaves.

mod batches;
mod replies;
mod service;

use merv_tests::{JudgeServer, Run, json_lines};
use serde_json::{Value, json};
use std::{collections::HashSet, fs, path::PathBuf, sync::Arc};
use tempfile::TempDir;

/// Predictions, of which every third is correct, and the service that judges them.
struct Judged {
    folder: Arc<TempDir>,
    server: JudgeServer,
    count: usize,
}

impl Judged {
    fn new(count: usize) -> Self {
        let judged = Self {
            folder: Arc::new(TempDir::new().unwrap()),
            server: JudgeServer::new(),
            count,
        };
        let lines = (0..count).map(|i| {
            let pred = if i % 3 == 0 { "dog" } else { "cat" };
            let line = json!({
                "question_id": i.to_string(), "video_name": format!("v{}", i / 2),
                "question": "what is it?", "answer": "dog", "pred": pred,
            });
            line.to_string() + "\n"
        });
        fs::write(
            judged.path("toy_pred_merge.jsonl"),
            lines.collect::<String>(),
        )
        .unwrap();
        judged
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn arguments(&self) -> Vec<String> {
        let predictions = self.path("toy_pred_merge.jsonl").display().to_string();
        let fixed = ["eval", "judge", "--json", "--retry-delay", "0.01"].map(str::to_owned);
        fixed.into_iter().chain([predictions]).collect()
    }

    fn run(&self) -> Run {
        Run::new()
            .keeping(&self.folder)
            .env("OPENAI_BASE_URL", self.server.base_url())
            .env("OPENAI_API_KEY", "sk-right")
            .args(self.arguments())
    }

    /// Checks that every prediction was judged correctly, and returns the report.
    #[track_caller]
    fn check(&self, stdout: &str) -> Value {
        let report: Value = serde_json::from_str(stdout).unwrap();
        let right = self.count.div_ceil(3);
        let accuracy = right as f64 / self.count as f64;
        let score = (5 * right + (self.count - right)) as f64 / self.count as f64;
        let near =
            |value: &Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
        assert!(near(&report["accuracy"], accuracy), "{report}");
        assert!(near(&report["measures"][1]["value"], score), "{report}");
        assert_eq!(
            (&report["count"], &report["unparsable"]),
            (&json!(self.count), &json!(0))
        );
        let ids: Vec<_> = json_lines(&self.path("toy_gpt.jsonl"))
            .iter()
            .map(|line| line["question_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids.len(), self.count, "one verdict per prediction");
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), self.count);
        let verdicts = fs::read_to_string(self.path("toy_gpt.json")).unwrap();
        let verdicts: Value = serde_json::from_str(&verdicts).unwrap();
        assert_eq!(verdicts["0"][0], json!({"pred": "yes", "score": 5}));
        assert_eq!(verdicts["1"][0], json!({"pred": "no", "score": 1}));
        assert_eq!(verdicts["1"][1]["pred"], "cat");
        report
    }
}
