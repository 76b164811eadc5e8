//! The least gas with which a transaction would do the same again, read off while it runs once.
//!
//! A call gets at most 63 of 64 parts of what its caller has left (EIP-150), so that a transaction needs more gas than
//! it spends; so does a write to storage. How much is known frame by frame. Where a contract looks at the gas that it has left the answer may be
//! wrong: whoever asks tries it.

use revm::Inspector;
use revm::bytecode::opcode::SSTORE;
use revm::interpreter::interpreter_types::Jumps;
use revm::interpreter::{CallInputs, CallOutcome, CreateInputs, CreateOutcome, Gas, Interpreter};

/// A write to storage fails unless so much is left, whatever it costs (EIP-2200).
const LEFT_AT_WRITE: u64 = 2_301;

/// Watches a run.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    frames: Vec<Frame>,
    /// What the innermost frame had left after its last instruction.
    left: u64,
    whole: Option<Whole>,
}

/// A call under way.
#[derive(Debug)]
struct Frame {
    /// Gas that it got.
    limit: u64,
    /// Gas that it has needed so far.
    needed: u64,
    /// What its caller had spent before it, all of the call's own price included.
    before: u64,
}

/// The outermost call.
#[derive(Clone, Copy, Debug)]
struct Whole {
    limit: u64,
    needed: u64,
}

impl Needed {
    /// The least gas limit, for a run with `limit` that succeeded; `None` if nothing was called.
    pub(crate) fn of(&self, limit: u64) -> Option<u64> {
        let whole = self.whole?;
        // What is taken before the first instruction does not depend on the limit.
        Some(limit.checked_sub(whole.limit)? + whole.needed)
    }

    fn begin(&mut self, limit: u64) {
        let given = self.left.saturating_add(limit);
        let before = self.frames.last().map_or(0, |caller| caller.limit.saturating_sub(given));
        self.frames.push(Frame { limit, needed: 0, before });
    }

    /// The innermost frame is about to write to storage.
    fn write(&mut self, left: u64) {
        if let Some(frame) = self.frames.last_mut() {
            let spent = frame.limit.saturating_sub(left);
            frame.needed = frame.needed.max(spent.saturating_add(LEFT_AT_WRITE));
        }
    }

    fn end(&mut self, gas: &Gas) {
        let Some(Frame { limit, needed, before }) = self.frames.pop() else { return };
        let needed = needed.max(gas.limit().saturating_sub(gas.remaining()));
        match self.frames.last_mut() {
            Some(caller) => caller.needed = caller.needed.max(before.saturating_add(with_the_64th(needed))),
            None => self.whole = Some(Whole { limit, needed }),
        }
    }
}

/// The least gas of which 63 of 64 parts, rounded as EIP-150 does, are `needed`.
fn with_the_64th(needed: u64) -> u64 {
    let enough = |gas: &u64| gas - gas / 64 >= needed;
    let near = needed.saturating_add(needed / 63);
    (near.saturating_sub(1)..=near.saturating_add(1)).find(enough).unwrap_or(near)
}

impl<C> Inspector<C> for Needed {
    fn step(&mut self, interpreter: &mut Interpreter, _: &mut C) {
        if interpreter.bytecode.opcode() == SSTORE {
            self.write(interpreter.gas.remaining());
        }
    }

    fn step_end(&mut self, interpreter: &mut Interpreter, _: &mut C) {
        self.left = interpreter.gas.remaining();
    }

    fn call(&mut self, _: &mut C, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.begin(inputs.gas_limit);
        None
    }

    fn call_end(&mut self, _: &mut C, _: &CallInputs, outcome: &mut CallOutcome) {
        self.end(&outcome.result.gas);
    }

    fn create(&mut self, _: &mut C, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.begin(inputs.gas_limit());
        None
    }

    fn create_end(&mut self, _: &mut C, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.end(&outcome.result.gas);
    }
}

#[cfg(test)]
mod tests {
    use super::with_the_64th;

    #[test]
    fn a_caller_needs_a_64th_more_and_not_a_unit_beyond() {
        for needed in (0..10_000).chain([1 << 20, 16_777_215]) {
            let gas = with_the_64th(needed);
            assert!(gas - gas / 64 >= needed, "{needed}");
            let less = gas.saturating_sub(1);
            assert!(needed == 0 || less - less / 64 < needed, "{needed}");
        }
    }
}
