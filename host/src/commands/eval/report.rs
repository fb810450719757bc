//! Prints the report of an evaluation.

use super::super::{CommandResult, print, table::table};
use merv_host::eval::EvalReport;

/// Prints the table and its notes.
pub(super) fn print_report(report: &EvalReport) -> CommandResult {
    let (header, rows) = report.table();
    print(&format!("{}, {}\n", report.benchmark, report.model))?;
    print(&table(&header, &rows))?;
    for note in report.notes() {
        print(&format!("* {note}"))?;
    }
    Ok(())
}
