//! Limits on the time and memory that a template may use.

use super::Fault;

/// Maximum number of steps. A template of a thousand lines needs about ten thousand for a long conversation.
const STEPS: u64 = 3_000_000;

/// Maximum number of bytes allocated during a run. Freed bytes count too.
const BYTES: u64 = 64 << 20;

/// Bytes that one step may read.
const BYTES_A_STEP: usize = 64;

/// Bytes of a search term that one step may prepare.
const SEARCHED_BYTES_A_STEP: usize = 8;

/// The steps and bytes that remain.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u64,
    bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            steps: STEPS,
            bytes: BYTES,
        }
    }
}

impl Budget {
    /// Charges `count` steps.
    pub fn steps(&mut self, count: usize) -> Result<(), Fault> {
        pay(&mut self.steps, count)
    }

    /// Charges for reading `bytes` bytes.
    pub fn reads(&mut self, bytes: usize) -> Result<(), Fault> {
        self.steps(bytes / BYTES_A_STEP + 1)
    }

    /// Charges for preparing to search for `bytes` bytes, which takes several times as long as reading them.
    pub fn searches(&mut self, bytes: usize) -> Result<(), Fault> {
        self.steps(bytes / SEARCHED_BYTES_A_STEP + 1)
    }

    /// Charges for `count` bytes before they are allocated.
    pub fn bytes(&mut self, count: usize) -> Result<(), Fault> {
        self.reads(count)?;
        pay(&mut self.bytes, count)
    }
}

fn pay(left: &mut u64, count: usize) -> Result<(), Fault> {
    let rest = left.checked_sub(count as u64);
    *left = rest.unwrap_or(0);
    match rest {
        Some(_) => Ok(()),
        None => Err(Fault::new(
            "it runs for too long or writes too much\n  do: use a template that comes with a model",
        )),
    }
}
