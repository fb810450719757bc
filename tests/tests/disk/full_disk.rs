//! A full disk, simulated by a limit on the size of files. The error names the file and says what to do, and the next run
//! gives the same result as an undisturbed one.

use super::commands::{all, all_files};

/// Limits on the size of a file, in blocks of 512 bytes.
const LIMITS: [u32; 3] = [0, 1, 3];

#[test]
fn a_full_disk_is_reported_and_loses_nothing() {
    for command in all() {
        let expected = command.undisturbed();
        let mut failures = 0;
        for limit in LIMITS {
            let place = command.place(&format!("full-{limit}"));
            let run = command
                .run(&place)
                .after_shell(&format!("ulimit -f {limit}"));
            let finished = run.finish();
            if finished.code != Some(0) {
                failures += 1;
                assert_eq!(finished.code, Some(1), "{}: {finished}", command.name);
                let place = place.display().to_string();
                for word in ["cannot", "ulimit -f", &place] {
                    assert!(
                        finished.stderr.contains(word),
                        "{}: `{word}` is not in the message: {finished}",
                        command.name
                    );
                }
            }
            let is_partial =
                |path: &std::path::PathBuf| path.to_string_lossy().contains(".partial");
            assert!(
                !all_files(&place).iter().any(is_partial),
                "{}",
                command.name
            );
            command.again(&place).finish().succeeded();
            assert_eq!(
                command.outcome(&place),
                expected,
                "{}, {limit}",
                command.name
            );
        }
        assert!(failures > 0, "{}: no limit was reached", command.name);
    }
}
