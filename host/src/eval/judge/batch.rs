//! The batch interface: cases are uploaded in files, and the service answers later. A journal records the batches
//! that were sent, so that an interrupted run can resume and nothing is sent, or paid for, twice.

use super::{
    super::{
        EvalError,
        files::{damaged, unreadable, unwritable},
    },
    Case, JudgeError, JudgeOutcome, Verdicts,
    client::{Client, Content, Service},
    direct::content,
    verdicts::digest,
};
use crate::disk::{
    digest::Sha256Digest,
    journal::{self, Journal},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

/// The maximum number of times that unanswered cases are sent.
const ROUNDS: usize = 3;

/// The limits of the batch interface, and the polling interval.
#[derive(Debug, Clone, Copy)]
pub struct BatchOptions {
    /// The maximum number of cases in a file.
    pub max_requests: usize,
    /// The maximum size of a file in bytes.
    pub max_bytes: usize,
    /// The polling interval.
    pub poll: Duration,
}

impl Default for BatchOptions {
    /// Returns limits slightly below those of OpenAI, 50,000 requests and 200 MB.
    fn default() -> Self {
        Self {
            max_requests: 49_000,
            max_bytes: 190_000_000,
            poll: Duration::from_secs(60),
        }
    }
}

/// A line of the journal: a batch was created, or all of its results were collected.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct BatchRecord {
    batch: String,
    taken: bool,
}

/// Judges the pending cases. `progress` is called with the number of judged cases and their total.
///
/// # Errors
///
/// When a request or a batch fails, or a file cannot be written. The verdicts so far are kept.
pub fn judge(
    service: &Service,
    options: BatchOptions,
    verdicts: &mut Verdicts,
    cases: &[Case],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(), EvalError> {
    let mut run = Run {
        client: Client::new(service)?,
        service,
        options,
        journal: BatchJournal::read(&verdicts.path("batches.jsonl"))?,
        cases: cases.iter().map(|case| (digest(case), case)).collect(),
    };
    run.collect(verdicts, progress)?;
    for _ in 0..ROUNDS {
        let pending = verdicts.pending(cases);
        if pending.is_empty() {
            return Ok(());
        }
        run.send(&pending, verdicts.judge())?;
        run.collect(verdicts, progress)?;
    }
    match verdicts.pending(cases).len() {
        0 => Ok(()),
        cases => Err(JudgeError::Unanswered { cases }.into()),
    }
}

struct Run<'r> {
    client: Client,
    service: &'r Service,
    options: BatchOptions,
    journal: BatchJournal,
    cases: HashMap<String, &'r Case>,
}

impl Run<'_> {
    /// Sends cases, in as many files as the limits require.
    fn send(&mut self, pending: &[&Case], model: &str) -> Result<(), EvalError> {
        let known = self.known_batches();
        for file in files(pending, model, self.options) {
            let part = Sha256Digest::of_bytes(&file).to_string();
            // Created by a run that was killed before it could record the batch.
            let existing = known
                .iter()
                .find(|(id, of)| *of == part && !self.journal.taken.contains(id));
            let id = match existing {
                Some((id, _)) => id.clone(),
                None => self.create(&file, &part)?,
            };
            self.journal.add(&id, false)?;
        }
        Ok(())
    }

    /// Returns the usable batches of the service, as ids and digests of their files. Returns none if the service
    /// cannot list batches.
    fn known_batches(&self) -> Vec<(String, String)> {
        let listed = self
            .client
            .json("/batches?limit=100", Content::Nothing, |answer| {
                Some(answer.get("data")?.as_array()?.clone())
            });
        let useful = |batch: &Value| {
            let status = batch.get("status").and_then(Value::as_str);
            !matches!(
                status,
                Some("failed" | "expired" | "cancelling" | "cancelled") | None
            )
        };
        let listed = listed.unwrap_or_default();
        let batches = listed
            .iter()
            .filter(|batch| useful(batch))
            .filter_map(|batch| {
                let part = batch.pointer("/metadata/merv_host_part")?.as_str()?;
                Some((batch.get("id")?.as_str()?.to_owned(), part.to_owned()))
            });
        batches.collect()
    }

    /// Uploads a file and creates a batch from it. Returns the id of the batch.
    fn create(&self, file: &[u8], part: &str) -> Result<String, JudgeError> {
        let boundary = format!("merv-host-{part}");
        let mut form = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
             --{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{part}.jsonl\"\r\n\
             Content-Type: application/jsonl\r\n\r\n"
        )
        .into_bytes();
        form.extend_from_slice(file);
        form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        let kind = format!("multipart/form-data; boundary={boundary}");
        let id = |answer: &Value| Some(answer.get("id")?.as_str()?.to_owned());
        let input = self
            .client
            .json("/files", Content::Form(&kind, &form), id)?;
        let body = json!({
            "input_file_id": input,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"merv_host_part": part},
        });
        let mut last = String::new();
        let mut delay = self.service.first_delay;
        for _ in 0..self.service.tries {
            // Before another attempt, look for the batch: the service may have created it and the answer was lost.
            match self
                .client
                .json_once("/batches", Content::Json(&body), id)?
            {
                Ok(id) => return Ok(id),
                Err(what) => last = what,
            }
            thread::sleep(delay);
            delay *= 2;
            if let Some((id, _)) = self.known_batches().into_iter().find(|(_, of)| of == part) {
                return Ok(id);
            }
        }
        Err(JudgeError::GaveUp {
            url: format!("{}/batches", self.service.base_url),
            tries: self.service.tries,
            last,
        })
    }

    /// Waits for all batches, and collects the results of each as soon as it ends.
    fn collect(
        &mut self,
        verdicts: &mut Verdicts,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<(), EvalError> {
        loop {
            let (mut done, mut total) = (0, 0);
            for id in self.journal.open() {
                let batch = self
                    .client
                    .json(&format!("/batches/{id}"), Content::Nothing, |b| {
                        b.get("status")?.as_str()?;
                        Some(b.clone())
                    })?;
                let count = |key: &str| {
                    let count = batch.pointer(&format!("/request_counts/{key}"));
                    count.and_then(Value::as_u64).unwrap_or(0) as usize
                };
                done += count("completed");
                total += count("total");
                match batch["status"].as_str().unwrap_or_default() {
                    "validating" | "in_progress" | "finalizing" | "cancelling" => {}
                    "completed" | "expired" | "cancelled" => {
                        for file in ["output_file_id", "error_file_id"] {
                            if let Some(file) = batch.get(file).and_then(Value::as_str) {
                                self.take(file, verdicts)?;
                            }
                        }
                        self.journal.add(&id, true)?;
                    }
                    status => {
                        self.journal.add(&id, true)?;
                        let message = batch
                            .pointer("/errors/data/0/message")
                            .and_then(Value::as_str);
                        return Err(JudgeError::Batch {
                            status: status.to_owned(),
                            message: message.unwrap_or("the service gave no reason").to_owned(),
                            id,
                        }
                        .into());
                    }
                }
            }
            progress(done, total);
            if self.journal.open().is_empty() {
                return Ok(());
            }
            thread::sleep(self.options.poll);
        }
    }

    /// Collects the results in a file. Unanswered cases remain pending.
    fn take(&self, file: &str, verdicts: &mut Verdicts) -> Result<(), EvalError> {
        let bytes = self
            .client
            .bytes(&format!("/files/{file}/content"), Content::Nothing)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines = text
            .split('\n')
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in lines {
            let id = line
                .get("custom_id")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let Some(&case) = self.cases.get(id) else {
                continue;
            };
            if verdicts.pending(std::slice::from_ref(case)).is_empty() {
                continue;
            }
            let body = line.pointer("/response/body").unwrap_or(&Value::Null);
            let error = |key| body.pointer(key).and_then(Value::as_str);
            if let Some("content_filter" | "invalid_prompt") = error("/error/code") {
                let message = error("/error/message").unwrap_or_default().to_owned();
                verdicts.add(case, JudgeOutcome::Refused(message))?;
            } else if let Some(reply) = content(body) {
                verdicts.add(case, JudgeOutcome::Reply(reply))?;
            }
        }
        Ok(())
    }
}

/// The journal of the batches.
struct BatchJournal {
    path: PathBuf,
    journal: Journal,
    /// The created batches, in order.
    made: Vec<String>,
    taken: HashSet<String>,
}

impl BatchJournal {
    fn read(path: &Path) -> Result<Self, EvalError> {
        let mut journal = Self {
            path: path.to_owned(),
            journal: Journal::open(path).map_err(|source| unwritable(path, source))?,
            made: Vec::new(),
            taken: HashSet::new(),
        };
        let lines = journal::read(path).map_err(|source| unreadable(path, source))?;
        // If a line is lost, a batch could be sent, and paid for, twice.
        if let Some(number) = lines.damaged.first() {
            return Err(damaged(path, &format!(", line {number}")));
        }
        for (_, line) in lines.valid {
            if let Ok(record) = serde_json::from_str::<BatchRecord>(&line) {
                journal.record(record);
            }
        }
        Ok(journal)
    }

    fn record(&mut self, BatchRecord { batch, taken }: BatchRecord) {
        if taken {
            self.taken.insert(batch);
        } else if !self.made.contains(&batch) {
            self.made.push(batch);
        }
    }

    /// Returns the batches whose results have not been collected.
    fn open(&self) -> Vec<String> {
        let open = self.made.iter().filter(|id| !self.taken.contains(*id));
        open.cloned().collect()
    }

    fn add(&mut self, batch: &str, taken: bool) -> Result<(), EvalError> {
        let record = BatchRecord {
            batch: batch.to_owned(),
            taken,
        };
        let written = serde_json::to_string(&record)
            .map_err(io::Error::from)
            .and_then(|line| self.journal.add([line]))
            .and_then(|()| self.journal.sync());
        written.map_err(|source| unwritable(&self.path, source))?;
        self.record(record);
        Ok(())
    }
}

/// Returns the files to upload, with one request per line.
fn files(cases: &[&Case], model: &str, options: BatchOptions) -> Vec<Vec<u8>> {
    let mut files: Vec<(usize, Vec<u8>)> = Vec::new();
    for case in cases {
        let request = json!({
            "custom_id": digest(case),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": case.body(model),
        });
        let line = request.to_string() + "\n";
        match files.last_mut() {
            Some((count, file))
                if *count < options.max_requests
                    && file.len() + line.len() <= options.max_bytes =>
            {
                *count += 1;
                file.extend_from_slice(line.as_bytes());
            }
            _ => files.push((1, line.into_bytes())),
        }
    }
    files.into_iter().map(|(_, file)| file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_respect_both_limits() {
        let cases: Vec<Case> = (0..10)
            .map(|i| Case {
                id: i.to_string(),
                video: String::new(),
                question: "q".into(),
                answer: "a".into(),
                pred: "p".repeat(i * 100),
            })
            .collect();
        let all: Vec<&Case> = cases.iter().collect();
        let options = BatchOptions::default();
        let whole = files(&all, "m", options).concat();
        let longest = files(&all[9..], "m", options)[0].len();
        for (max_requests, max_bytes) in [(3, usize::MAX), (100, 2 * longest), (1, 1)] {
            let limits = BatchOptions {
                max_requests,
                max_bytes,
                ..options
            };
            let parts = files(&all, "m", limits);
            assert!(parts.len() > 1);
            assert_eq!(parts.concat(), whole);
            // A file ends only where the next request would exceed a limit.
            for pair in parts.windows(2) {
                let next = pair[1].iter().position(|&byte| byte == b'\n').unwrap() + 1;
                let lines = pair[0].iter().filter(|&&byte| byte == b'\n').count();
                assert!(lines == max_requests || pair[0].len() + next > max_bytes);
            }
            for part in &parts {
                let lines = part.iter().filter(|&&byte| byte == b'\n').count();
                // A request above the limit gets a file of its own: the service may accept it.
                assert!(lines <= max_requests && (part.len() <= max_bytes || lines == 1));
            }
        }
    }
}
