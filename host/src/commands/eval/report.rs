//! The report of an evaluation, printed.

use super::super::{Outcome, print, table::table};
use merv_host::eval::EvalReport;

/// The table, and what belongs under it.
pub(super) fn print_report(report: &EvalReport) -> Outcome {
    let (header, rows) = report.table();
    print(&format!("{}, {}\n", report.benchmark, report.model))?;
    print(&table(&header, &rows))?;
    for note in report.notes() {
        print(&format!("* {note}"))?;
    }
    Ok(())
}
