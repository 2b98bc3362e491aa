//! From rules over names to one decision per system call number, for one architecture.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use super::tables::{IPC, SOCKETCALL, Table, X32_BIT, argument_is_narrow, is_private};
use super::{Action, Architecture, Comparison, Condition, Profile};

/// What happens to one system call number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Decision {
    /// Alternatives in order: all tests of one have to hold.
    pub(super) chains: Vec<(Vec<Test>, Action)>,
    /// What happens when none does.
    pub(super) otherwise: Action,
}

impl Decision {
    pub(super) fn plain(action: Action) -> Self {
        Self {
            chains: Vec::new(),
            otherwise: action,
        }
    }
}

/// A condition with the width of its argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Test {
    /// The condition; values of a narrow argument are cut to 32 bits.
    pub(super) condition: Condition,
    /// Only the lower 32 bits of the argument count.
    pub(super) narrow: bool,
}

/// A row of system call numbers with the same decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its first number; it ends where the next row starts.
    pub(super) start: u32,
    /// What happens to all of them.
    pub(super) decision: Decision,
}

/// The rows of one architecture over the numbers `range` (an end of `u32::MAX` includes it), complete and in order.
/// Takes the names it knew out of `unknown`.
pub(super) fn rows(
    profile: &Profile,
    architecture: Architecture,
    range: Range<u32>,
    unknown: &mut HashSet<&str>,
) -> Vec<Row> {
    let table = Table::of(architecture);
    let mut decisions: BTreeMap<u32, Decision> = BTreeMap::new();
    let mut newest = None;
    for rule in &profile.rules {
        for name in &rule.names {
            for (number, conditions) in targets(&table, architecture, name, &rule.conditions) {
                unknown.remove(name.as_str());
                if !is_private(architecture, number) {
                    newest = newest.max(Some(number));
                }
                // As in other runtimes: a rule that says what happens anyway has no effect on the other rules.
                if rule.action == profile.default_action {
                    continue;
                }
                let decision = decisions
                    .entry(number)
                    .or_insert_with(|| Decision::plain(profile.default_action));
                // The first rule without conditions has decided for good.
                if decision.otherwise != profile.default_action {
                    continue;
                }
                if conditions.is_empty() {
                    *decision = Decision::plain(rule.action);
                    continue;
                }
                let tests: Vec<Test> = conditions
                    .iter()
                    .map(|condition| test(architecture, name, *condition))
                    .collect();
                let repeated = (1..tests.len()).any(|at| {
                    tests[..at]
                        .iter()
                        .any(|test| test.condition.index == tests[at].condition.index)
                });
                if repeated {
                    decision
                        .chains
                        .extend(tests.into_iter().map(|test| (vec![test], rule.action)));
                } else {
                    decision.chains.push((tests, rule.action));
                }
            }
        }
    }
    in_rows(profile, &range, &decisions, newest)
}

/// The numbers a name stands for, with the conditions that go along. On x86, calls without conditions are also reached through
/// `socketcall` and `ipc`; those with conditions are not, since their arguments then lie in memory.
fn targets(
    table: &Table,
    architecture: Architecture,
    name: &str,
    conditions: &[Condition],
) -> Vec<(u32, Vec<Condition>)> {
    let mut targets = Vec::with_capacity(1);
    if let Some(number) = table.number(name) {
        targets.push((number, conditions.to_vec()));
    }
    if architecture == Architecture::X86 && conditions.is_empty() {
        let operation = |value: u64| Condition {
            index: 0,
            comparison: Comparison::Equal,
            value,
            value_two: 0,
        };
        let socket = (1..)
            .zip(SOCKETCALL)
            .find(|(_, call)| *call == name)
            .map(|(at, _)| ("socketcall", at));
        let ipc = IPC
            .iter()
            .find(|(call, _)| *call == name)
            .map(|(_, at)| ("ipc", *at));
        for (outer, at) in socket.into_iter().chain(ipc) {
            if let Some(number) = table.number(outer) {
                targets.push((number, vec![operation(at)]));
            }
        }
    }
    targets
}

fn test(architecture: Architecture, name: &str, condition: Condition) -> Test {
    let narrow = argument_is_narrow(architecture, name, condition.index);
    let cut = |value: u64| if narrow { value & 0xffff_ffff } else { value };
    let mut condition = Condition {
        value: cut(condition.value),
        value_two: cut(condition.value_two),
        ..condition
    };
    if condition.comparison == Comparison::MaskedEqual {
        condition.value_two &= condition.value;
    } else {
        condition.value_two = 0;
    }
    Test { condition, narrow }
}

/// Lays the decisions out over the whole range.
fn in_rows(
    profile: &Profile,
    range: &Range<u32>,
    decisions: &BTreeMap<u32, Decision>,
    newest: Option<u32>,
) -> Vec<Row> {
    let default = Decision::plain(profile.default_action);
    let beyond = beyond_action(profile.default_action).zip(newest);
    let beyond = beyond.map(|(action, newest)| (newest + 1, Decision::plain(action)));
    let at = |number: u32| match (decisions.get(&number), &beyond) {
        (Some(decision), _) => decision,
        // The number −1 is what a tracer leaves behind that wants a call skipped.
        (None, Some((first, beyond))) if number >= *first && number != u32::MAX => beyond,
        _ => &default,
    };
    let mut starts: Vec<u32> = decisions
        .keys()
        .flat_map(|number| [*number, number + 1])
        .collect();
    starts.extend(beyond.iter().map(|(first, _)| *first));
    starts.extend([range.start, u32::MAX]);
    starts.retain(|start| range.contains(start) || (*start == u32::MAX && range.end == u32::MAX));
    starts.sort_unstable();
    starts.dedup();
    let mut rows: Vec<Row> = Vec::with_capacity(starts.len());
    for start in starts {
        let decision = at(start);
        if rows.last().is_none_or(|last| last.decision != *decision) {
            rows.push(Row {
                start,
                decision: decision.clone(),
            });
        }
    }
    rows
}

/// What happens to calls newer than all the profile names: they fail as if the kernel did not know them, so that
/// programs fall back to older ones. Nothing special when the profile lets unknown calls through or says ENOSYS itself.
fn beyond_action(default: Action) -> Option<Action> {
    let enosys = Action::Errno(38);
    match default {
        Action::Allow | Action::Log | Action::Trace(_) => None,
        same if same == enosys => None,
        _ => Some(enosys),
    }
}

/// The numbers that belong to x86-64 proper.
pub(super) const X86_64_RANGE: Range<u32> = 0..X32_BIT;
