mod judge;
mod report;
mod run;

use super::{CommandResult, print, print_json, table::table};
use crate::{
    args::{
        Global,
        eval::{Compare, Eval, EvalCommand},
    },
    ui::Ui,
};
use merv_host::eval::{Strategy, Task, compare, table::Table};
use report::print_report;
use serde::Serialize;

pub fn run(global: &Global, args: &Eval, ui: Ui) -> CommandResult {
    match &args.command {
        EvalCommand::OpenEnded(args) => {
            run::run(global, Task::OpenEnded, Strategy::Letter, args, ui)
        }
        EvalCommand::Mcq(args) => {
            let strategy = args.strategy.into();
            run::run(global, Task::MultipleChoice, strategy, &args.run, ui)
        }
        EvalCommand::Judge(args) => judge::run(global, args, ui),
        EvalCommand::Compare(args) => compare_two(args),
        EvalCommand::Table(args) => {
            let table = Table::read(&args.reports)?;
            match args.json {
                true => print_json(&table),
                false => print(&table.markdown()),
            }
        }
    }
}

#[derive(Serialize)]
struct Comparison {
    measures: Vec<compare::Difference>,
}

fn compare_two(args: &Compare) -> CommandResult {
    let measures = compare::compare(&args.a, &args.b)?;
    if args.json {
        return print_json(&Comparison { measures });
    }
    let header = [
        "measure",
        "A",
        "B",
        "B - A",
        "95 % interval",
        "A better",
        "B better",
        "questions",
        "p",
    ];
    let rows: Vec<Vec<String>> = measures
        .iter()
        .map(|one| {
            let (scale, places) = if one.measure.is_proportion() || one.b.max(one.a) <= 1.0 {
                (100.0, 1)
            } else {
                (1.0, 2)
            };
            let shown = |value: f64| format!("{:.places$}", value * scale);
            let signed = |value: f64| format!("{:+.places$}", value * scale);
            vec![
                one.measure.title().to_owned(),
                shown(one.a),
                shown(one.b),
                signed(one.difference),
                format!("{} to {}", signed(one.interval.0), signed(one.interval.1)),
                one.a_better.to_string(),
                one.b_better.to_string(),
                one.count.to_string(),
                one.p_value.map_or_else(String::new, |p| format!("{p:.3}")),
            ]
        })
        .collect();
    print(&table(&header, &rows))
}
