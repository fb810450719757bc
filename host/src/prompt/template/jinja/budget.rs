//! What a template may use.

use super::Fault;

/// Steps at most. A template of a thousand lines takes some ten thousand for a long conversation.
const STEPS: u64 = 3_000_000;

/// Bytes at most that are made while it runs, even if they are soon dropped.
const BYTES: u64 = 64 << 20;

/// Bytes that a step goes through.
const BYTES_A_STEP: usize = 64;

/// What is left.
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
    /// Pays for so many steps.
    pub fn steps(&mut self, count: usize) -> Result<(), Fault> {
        pay(&mut self.steps, count)
    }

    /// Pays for going through so many bytes.
    pub fn reads(&mut self, bytes: usize) -> Result<(), Fault> {
        self.steps(bytes / BYTES_A_STEP + 1)
    }

    /// Pays for so many bytes that are about to be made.
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
            "it works too long or writes too much\n  do: use a template that comes with a model",
        )),
    }
}
