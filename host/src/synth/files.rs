//! The layout of a data set, and the contents of its files.

use super::{
    Split, SynthError,
    json::JsonList,
    scene::Scene,
    words::{self, Question, QuestionWriter},
};
use crate::{disk::whole_file, eval::protocol};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// The maximum number of multiple-choice questions for a training clip. They are long, and a conversation should fit
/// in 512 tokens.
const CHOICES: usize = 5;

/// The benchmarks of the held-out clips.
const MULTIPLE_CHOICE: &str = "shapes-mcq";
const OPEN_ENDED: &str = "shapes-open";

/// The number of questions, by kind.
pub(super) type Kinds = BTreeMap<&'static str, usize>;

/// The number of items in each list, by path.
pub(super) type Items = BTreeMap<String, usize>;

/// The files of a split.
pub(super) struct Files<'d> {
    folder: &'d Path,
    split: Split,
}

impl<'d> Files<'d> {
    pub fn new(folder: &'d Path, split: Split) -> Self {
        Self { folder, split }
    }

    /// Returns the folders of the clips. Each contains all clips of the split.
    fn video_folders(&self) -> Vec<PathBuf> {
        match self.split {
            Split::Train => vec![self.folder.join("videos")],
            Split::HeldOut => [MULTIPLE_CHOICE, OPEN_ENDED]
                .map(|name| self.benchmark(name).join("videos"))
                .to_vec(),
        }
    }

    fn benchmark(&self, name: &str) -> PathBuf {
        self.folder.join("eval_data").join(name)
    }

    fn lists(&self) -> Vec<PathBuf> {
        match self.split {
            Split::Train => ["train.json", "open.json", "captions.json"]
                .map(|name| self.folder.join(name))
                .to_vec(),
            Split::HeldOut => [MULTIPLE_CHOICE, OPEN_ENDED]
                .into_iter()
                .flat_map(|name| {
                    ["test_q.json", "test_a.json"].map(|file| self.benchmark(name).join(file))
                })
                .collect(),
        }
    }

    /// Creates the folders, and removes the lists of an earlier run, so that an interrupted run does not look complete.
    pub fn begin(&self) -> Result<(), SynthError> {
        for folder in self.video_folders() {
            fs::create_dir_all(&folder).map_err(SynthError::write(&folder))?;
            // Once here instead of for every clip.
            whole_file::sweep_all(&folder);
        }
        for list in self.lists() {
            match fs::remove_file(&list) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SynthError::write(&list)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the path of a clip.
    pub fn video(&self, number: usize) -> PathBuf {
        // Each split has at least one folder.
        let folders = self.video_folders();
        folders[0].join(format!("{}.mp4", name(number)))
    }

    /// Adds a written clip to the other folders.
    pub fn share(&self, number: usize) -> Result<(), SynthError> {
        let video = self.video(number);
        for folder in self.video_folders().iter().skip(1) {
            let other = folder.join(format!("{}.mp4", name(number)));
            let _ = fs::remove_file(&other);
            // A hard link costs nothing, but not every file system supports them.
            fs::hard_link(&video, &other)
                .or_else(|_| fs::copy(&video, &other).map(drop))
                .map_err(SynthError::write(&other))?;
        }
        Ok(())
    }

    /// Writes the lists. Returns the number of questions of each kind, and the number of items in each list.
    pub fn write(
        &self,
        scenes: &[Scene],
        question_writer: &mut QuestionWriter,
    ) -> Result<(Kinds, Items), SynthError> {
        let paths = self.lists();
        let lists = paths.iter().map(|path| JsonList::begin(path));
        let mut lists = lists.collect::<Result<Vec<_>, _>>()?;
        let mut kinds = BTreeMap::new();
        for (number, scene) in scenes.iter().enumerate() {
            let questions = question_writer.questions(scene);
            for question in &questions {
                *kinds.entry(question.kind.name()).or_default() += 1;
            }
            match self.split {
                Split::Train => train(number, scene, &questions, question_writer, &mut lists)?,
                Split::HeldOut => held_out(number, scene, &questions, &mut lists)?,
            }
        }
        let mut items = BTreeMap::new();
        for (path, list) in paths.iter().zip(lists) {
            let name = path.strip_prefix(self.folder).unwrap_or(path);
            items.insert(name.display().to_string(), list.finish()?);
        }
        Ok((kinds, items))
    }
}

/// Returns the name of a clip.
fn name(number: usize) -> String {
    format!("{number:06}")
}

/// Adds a clip to `train.json`, to `open.json`, which omits multiple choice, and to `captions.json`.
fn train(
    number: usize,
    scene: &Scene,
    questions: &[Question],
    question_writer: &mut QuestionWriter,
    lists: &mut [JsonList],
) -> Result<(), SynthError> {
    let name = name(number);
    let example = |part: &str, turns: Vec<(String, String)>| {
        let turns = turns
            .into_iter()
            .enumerate()
            .flat_map(|(turn, (question, answer))| {
                // The mark is the place of the clip, so it occurs once.
                let mark = if turn == 0 { "<video>\n" } else { "" };
                [
                    json!({"from": "human", "value": format!("{mark}{question}")}),
                    json!({"from": "gpt", "value": answer}),
                ]
            });
        json!({
            "id": format!("{name}-{part}"),
            "video": format!("videos/{name}.mp4"),
            "combination": scene.combination,
            "conversations": turns.collect::<Vec<Value>>(),
        })
    };
    let prompt = "Describe what is happening in this video.".to_owned();
    let caption = example("caption", vec![(prompt, words::caption(scene))]);
    let open = questions
        .iter()
        .map(|question| (question.text.clone(), question.answer.clone()));
    let open = example("questions", open.collect());
    let chosen = question_writer.some(questions, CHOICES);
    let choice = chosen.into_iter().map(|question| {
        let letter = protocol::letter(question.answer_id()).to_string();
        (question.multiple_choice(), letter)
    });
    let choice = example("choices", choice.collect());
    let [all, without_choices, captions] = lists else {
        return Ok(());
    };
    captions.push(&caption)?;
    for item in [&caption, &open] {
        without_choices.push(item)?;
        all.push(item)?;
    }
    all.push(&choice)
}

/// Adds a clip to `test_q.json` and `test_a.json` of both benchmarks.
fn held_out(
    number: usize,
    scene: &Scene,
    questions: &[Question],
    lists: &mut [JsonList],
) -> Result<(), SynthError> {
    let [
        choice_questions,
        choice_answers,
        open_questions,
        open_answers,
    ] = lists
    else {
        return Ok(());
    };
    let name = name(number);
    for (index, question) in questions.iter().enumerate() {
        let id = format!("{name}-{index}");
        let kind = question.kind.name();
        let mut question_item = json!({
            "question_id": id,
            "video_name": name,
            "question": question.text,
            "kind": kind,
            "combination": scene.combination,
        });
        let mut answer_item = json!({"question_id": id, "answer": question.answer, "kind": kind});
        open_questions.push(&question_item)?;
        open_answers.push(&answer_item)?;
        question_item["options"] = json!(question.options);
        question_item["num_option"] = json!(question.options.len());
        answer_item["answer_id"] = json!(question.answer_id());
        choice_questions.push(&question_item)?;
        choice_answers.push(&answer_item)?;
    }
    Ok(())
}
