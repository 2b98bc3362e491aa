//! Rows of decisions to instructions.
//!
//! The program is written from its end to its start: a jump of classic BPF only goes forward, so what it jumps to
//! exists already, and equal parts are shared. A conditional jump reaches 255 instructions; beyond that an
//! unconditional one is put in between.
//!
//! ```text
//! load architecture ── native? ──▶ load number ─▶ binary search over rows ─▶ return
//!        │                                                             └─▶ argument tests ─▶ return
//!        └─ next architecture? ──▶ …                    └─ none: kill the thread
//! ```

use std::collections::HashMap;

use super::program::{Instruction, op};
use super::resolve::{Decision, Row, Test};
use super::tables::X32_BIT;
use super::{Action, Comparison};

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// How far a conditional jump may go, with room for one instruction put in before it.
const REACH: usize = 254;

/// A place in the program, counted from its end.
type Place = usize;

/// What happens with one value of `seccomp_data.arch`.
pub(super) struct Section {
    /// The value.
    pub(super) audit: u32,
    /// Rows over all numbers (below the x32 bit, for x86-64).
    pub(super) rows: Vec<Row>,
    /// On x86-64, what happens to numbers with the x32 bit.
    pub(super) x32: Option<X32>,
}

/// What happens to the numbers of x32.
pub(super) enum X32 {
    /// They are let in.
    Rows(Vec<Row>),
    /// They are a foreign architecture, except −1, which gets this action.
    Foreign(Action),
}

/// Writes the whole program.
pub(super) fn assemble(sections: &[Section]) -> Vec<Instruction> {
    let mut assembler = Assembler::default();
    let mut next = assembler.action(Action::KillThread);
    for section in sections.iter().rev() {
        let mut entry = assembler.tree(&section.rows);
        if let Some(x32) = &section.x32 {
            let other = match x32 {
                X32::Rows(rows) => assembler.tree(rows),
                X32::Foreign(skipped) => {
                    let kill = assembler.action(Action::KillThread);
                    let skipped = assembler.action(*skipped);
                    assembler.jump(op::JUMP_EQUAL, u32::MAX, skipped, kill)
                }
            };
            entry = assembler.jump(op::JUMP_GREATER_OR_EQUAL, X32_BIT, other, entry);
        }
        let entry = assembler.then(Instruction::new(op::LOAD, NUMBER), entry);
        next = assembler.jump(op::JUMP_EQUAL, section.audit, entry, next);
    }
    assembler.then(Instruction::new(op::LOAD, ARCHITECTURE), next);
    assembler.reversed.reverse();
    assembler.reversed
}

#[derive(Default)]
struct Assembler {
    /// The program, last instruction first.
    reversed: Vec<Instruction>,
    /// The latest place of each return.
    returns: HashMap<u32, Place>,
    /// The latest place of each decision with argument tests.
    decisions: HashMap<Decision, Place>,
}

impl Assembler {
    /// How many instructions lie between the next one written and a place.
    fn distance(&self, target: Place) -> usize {
        self.reversed.len() - 1 - target
    }

    fn push(&mut self, instruction: Instruction) -> Place {
        self.reversed.push(instruction);
        self.reversed.len() - 1
    }

    /// Writes an instruction that is followed by what is at a place.
    fn then(&mut self, instruction: Instruction, target: Place) -> Place {
        let target = self.near(target, 0);
        debug_assert_eq!(self.distance(target), 0);
        self.push(instruction)
    }

    /// A place not farther away than `reach`, from which the program goes on at `target`.
    fn near(&mut self, target: Place, reach: usize) -> Place {
        let distance = self.distance(target);
        if distance <= reach {
            return target;
        }
        match u32::try_from(distance) {
            // A return is as short as a jump to one.
            _ if self.reversed[target].code == op::RETURN => self.push(self.reversed[target]),
            Ok(distance) => self.push(Instruction::new(op::JUMP, distance)),
            // Programs are refused long before this.
            Err(_) => target,
        }
    }

    /// Writes a conditional jump.
    fn jump(&mut self, code: u16, value: u32, taken: Place, not_taken: Place) -> Place {
        if taken == not_taken {
            return taken;
        }
        let taken = self.near(taken, REACH - 1);
        let not_taken = self.near(not_taken, REACH);
        let offset = |distance: usize| u8::try_from(distance).unwrap_or(u8::MAX);
        let instruction = Instruction {
            code,
            if_true: offset(self.distance(taken)),
            if_false: offset(self.distance(not_taken)),
            value,
        };
        self.push(instruction)
    }

    /// Writes a return, or finds one near enough.
    fn action(&mut self, action: Action) -> Place {
        let value = action.value();
        if let Some(place) = self.returns.get(&value)
            && self.distance(*place) < REACH / 2
        {
            return *place;
        }
        let place = self.push(Instruction::new(op::RETURN, value));
        self.returns.insert(value, place);
        place
    }

    /// Writes a binary search over rows; the number is in the accumulator.
    fn tree(&mut self, rows: &[Row]) -> Place {
        match rows {
            [] => self.action(Action::KillThread),
            [row] => self.decision(&row.decision),
            // One number that differs from both sides needs one comparison.
            [before, single, after]
                if before.decision == after.decision
                    && single.start.checked_add(1) == Some(after.start) =>
            {
                let around = self.decision(&before.decision);
                let inside = self.decision(&single.decision);
                self.jump(op::JUMP_EQUAL, single.start, inside, around)
            }
            rows => {
                let (lower, upper) = rows.split_at(rows.len() / 2);
                let at_least = self.tree(upper);
                let below = self.tree(lower);
                self.jump(op::JUMP_GREATER_OR_EQUAL, upper[0].start, at_least, below)
            }
        }
    }

    fn decision(&mut self, decision: &Decision) -> Place {
        if decision.chains.is_empty() {
            return self.action(decision.otherwise);
        }
        if let Some(place) = self.decisions.get(decision)
            && self.distance(*place) < REACH / 2
        {
            return *place;
        }
        let mut next = self.action(decision.otherwise);
        for (tests, action) in decision.chains.iter().rev() {
            let mut entry = self.action(*action);
            for test in tests.iter().rev() {
                entry = self.test(test, entry, next);
            }
            next = entry;
        }
        self.decisions.insert(decision.clone(), next);
        next
    }

    /// Writes one comparison of an argument.
    fn test(&mut self, test: &Test, holds: Place, fails: Place) -> Place {
        let condition = test.condition;
        let lower = ARGUMENTS + 8 * u32::from(condition.index);
        let upper = lower + 4;
        let (value_upper, value_lower) = halves(condition.value);
        let (two_upper, two_lower) = halves(condition.value_two);
        let (code, holds, fails) = match condition.comparison {
            Comparison::Equal => (op::JUMP_EQUAL, holds, fails),
            Comparison::NotEqual => (op::JUMP_EQUAL, fails, holds),
            Comparison::GreaterOrEqual => (op::JUMP_GREATER_OR_EQUAL, holds, fails),
            Comparison::Less => (op::JUMP_GREATER_OR_EQUAL, fails, holds),
            Comparison::Greater => (op::JUMP_GREATER, holds, fails),
            Comparison::LessOrEqual => (op::JUMP_GREATER, fails, holds),
            Comparison::MaskedEqual => {
                let mut entry = self.masked(lower, value_lower, two_lower, holds, fails);
                if !test.narrow && value_upper != 0 {
                    entry = self.masked(upper, value_upper, two_upper, entry, fails);
                }
                return entry;
            }
        };
        let compare_lower = self.jump(code, value_lower, holds, fails);
        if compare_lower == holds || compare_lower == fails {
            return compare_lower;
        }
        let entry = self.then(Instruction::new(op::LOAD, lower), compare_lower);
        if test.narrow {
            return entry;
        }
        let entry = if code == op::JUMP_EQUAL {
            self.jump(op::JUMP_EQUAL, value_upper, entry, fails)
        } else {
            let same = self.jump(op::JUMP_EQUAL, value_upper, entry, fails);
            self.jump(op::JUMP_GREATER, value_upper, holds, same)
        };
        self.then(Instruction::new(op::LOAD, upper), entry)
    }

    fn masked(
        &mut self,
        offset: u32,
        mask: u32,
        expected: u32,
        holds: Place,
        fails: Place,
    ) -> Place {
        let entry = self.jump(op::JUMP_EQUAL, expected, holds, fails);
        if entry == holds {
            return entry;
        }
        let entry = self.then(Instruction::new(op::AND, mask), entry);
        self.then(Instruction::new(op::LOAD, offset), entry)
    }
}

fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, (value & 0xffff_ffff) as u32)
}
