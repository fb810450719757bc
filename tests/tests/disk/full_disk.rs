//! A disk without room, for which a limit on the size of files stands: an error that names the file and says
//! what to do, and the next run ends as if nothing had happened.

use super::commands::{all, all_files};

/// Blocks of 512 bytes that a file may have.
const LIMITS: [u32; 3] = [0, 1, 3];

#[test]
fn a_disk_without_room_is_told_and_loses_nothing() {
    for command in all() {
        let expected = command.undisturbed();
        let mut failures = 0;
        for limit in LIMITS {
            let place = command.place(&format!("full-{limit}"));
            let run = command.run(&place).after(&format!("ulimit -f {limit}"));
            let finished = run.finish();
            if finished.code != Some(0) {
                failures += 1;
                assert_eq!(finished.code, Some(1), "{}: {finished}", command.name);
                let place = place.display().to_string();
                for word in ["cannot", "ulimit -f", &place] {
                    assert!(
                        finished.stderr.contains(word),
                        "{}: no {word}: {finished}",
                        command.name
                    );
                }
            }
            let half = |path: &std::path::PathBuf| path.to_string_lossy().contains(".partial");
            assert!(!all_files(&place).iter().any(half), "{}", command.name);
            command.again(&place).finish().succeeded();
            assert_eq!(
                command.outcome(&place),
                expected,
                "{}, {limit}",
                command.name
            );
        }
        assert!(failures > 0, "{}: there was always room", command.name);
    }
}
