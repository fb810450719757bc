//! A kill at a random moment. The next run gives the same result as an undisturbed one, and no partial files remain.

use super::commands::{all, all_files};
use std::time::{Instant, SystemTime};

/// The number of kills per command.
const KILLS: u64 = 3;

#[test]
fn the_run_after_a_kill_gives_the_undisturbed_result() {
    let seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let mut random = u64::from(seed.unwrap().subsec_nanos()) | 1;
    for command in all() {
        let started = Instant::now();
        let expected = command.undisturbed();
        let took = started.elapsed();
        for kill in 0..KILLS {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let place = command.place(&format!("killed-{kill}"));
            // At a random moment, or as soon as a file appears.
            let wait = took.mul_f64((random >> 33) as f64 / (1u64 << 31) as f64);
            let run = command.run(&place);
            let before = all_files(&place).len();
            run.signal_when("KILL", |elapsed| match kill {
                0 => all_files(&place).len() > before + random as usize % 3,
                _ => elapsed >= wait,
            });
            let case = format!("{}, kill {kill} after {wait:?}", command.name);
            let left: Vec<_> = all_files(&place);
            // Whatever the kill left must not prevent the next run.
            let occupied = command.name == "synth" || command.name == "convert";
            let run = match left.is_empty() && occupied {
                true => command.run(&place),
                false => command.again(&place),
            };
            run.finish().succeeded();
            assert_eq!(
                command.outcome(&place),
                expected,
                "{case}, which left {left:?}"
            );
            let partial: Vec<_> = all_files(&place)
                .into_iter()
                .filter(|path| path.to_string_lossy().contains(".partial"))
                .collect();
            assert!(partial.is_empty(), "{case}: {partial:?}");
        }
    }
}
