//! The text about a mixer that is not trained yet.

use super::table::table;
use merv_host::model::plan::{MixerTensor, UntrainedMixer};

/// Returns a line with the numbers of new and reused tensors, followed by a table of them.
pub fn text(untrained: &UntrainedMixer) -> String {
    let UntrainedMixer {
        seed,
        reuse,
        new,
        reused,
        notice,
    } = untrained;
    let notice = notice.iter().map(|notice| format!("\n  {notice}"));
    let notice: String = notice.collect();
    let reuse = reuse.as_deref().unwrap_or_default();
    let (Some(new), Some(reused)) = (new, reused) else {
        return format!(
            "mixer       not trained: tensors that fit are reused from {reuse}, which is not on this machine; the others \
             are initialised with seed {seed}{notice}"
        );
    };
    let from = match reused.len() {
        0 => String::new(),
        count => format!(", {count} reused from {reuse}"),
    };
    let all = new.len() + reused.len();
    let head = format!(
        "mixer       not trained: {all} tensors, {} new (seed {seed}){from}{notice}",
        new.len()
    );
    let rows: Vec<_> = reused.iter().chain(new).map(row).collect();
    let rows = table(&["TENSOR", "SHAPE", "FROM"], &rows);
    let rows = rows.lines().map(|line| format!("\n  {line}"));
    head + &rows.collect::<String>()
}

fn row(tensor: &MixerTensor) -> Vec<String> {
    let from = tensor.from.as_deref().unwrap_or("new");
    vec![
        tensor.name.clone(),
        format!("{:?}", tensor.shape),
        from.to_owned(),
    ]
}
