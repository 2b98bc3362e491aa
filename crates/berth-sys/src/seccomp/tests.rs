//! The compiled programs against an interpreter of classic BPF and a plain reading of the rules, and the kernel.

use proptest::prelude::*;

use super::program::{Instruction, op};
use super::tables::{Table, X32_BIT, argument_is_narrow};
use super::*;

/// One system call as a filter sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    number: u32,
    audit: u32,
    arguments: [u64; 6],
}

/// Runs a program; gives the value it returns and how many instructions that took.
fn run(instructions: &[Instruction], call: Call) -> (u32, usize) {
    let word = |offset: u32| match offset {
        0 => call.number,
        4 => call.audit,
        8 | 12 => 0,
        _ => {
            let argument = call.arguments[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) {
                argument as u32
            } else {
                (argument >> 32) as u32
            }
        }
    };
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let Instruction {
            code,
            if_true,
            if_false,
            value,
        } = instructions[at];
        at += 1;
        steps += 1;
        let mut branch = |holds: bool| at += usize::from(if holds { if_true } else { if_false });
        match code {
            op::LOAD => accumulator = word(value),
            op::AND => accumulator &= value,
            op::JUMP => at += value as usize,
            op::JUMP_EQUAL => branch(accumulator == value),
            op::JUMP_GREATER => branch(accumulator > value),
            op::JUMP_GREATER_OR_EQUAL => branch(accumulator >= value),
            op::RETURN => return (value, steps),
            other => panic!("operation {other:#x}"),
        }
    }
}

const ALL: [Architecture; 5] = [
    Architecture::X86_64,
    Architecture::X86,
    Architecture::X32,
    Architecture::Aarch64,
    Architecture::Arm,
];

fn holds(
    architecture: Architecture,
    name: &str,
    condition: &Condition,
    arguments: [u64; 6],
) -> bool {
    let keep = if argument_is_narrow(architecture, name, condition.index) {
        0xffff_ffff
    } else {
        u64::MAX
    };
    let argument = arguments[usize::from(condition.index)] & keep;
    let value = condition.value & keep;
    match condition.comparison {
        Comparison::NotEqual => argument != value,
        Comparison::Less => argument < value,
        Comparison::LessOrEqual => argument <= value,
        Comparison::Equal => argument == value,
        Comparison::GreaterOrEqual => argument >= value,
        Comparison::Greater => argument > value,
        Comparison::MaskedEqual => argument & value == condition.value_two & value,
    }
}

/// What the rules say about a call, read one by one.
fn evaluate(
    profile: &Profile,
    architecture: Architecture,
    table: &Table,
    number: u32,
    arguments: [u64; 6],
) -> Action {
    let named: Vec<(&Rule, &String)> = profile
        .rules
        .iter()
        .flat_map(|rule| rule.names.iter().map(move |name| (rule, name)))
        .collect();
    let newest = named
        .iter()
        .filter_map(|(_, name)| table.number(name))
        .filter(|number| architecture != Architecture::Arm || *number < 0xf0000)
        .max();
    let of_this: Vec<&(&Rule, &String)> = named
        .iter()
        .filter(|(rule, name)| {
            table.number(name) == Some(number) && rule.action != profile.default_action
        })
        .collect();
    if let Some((rule, _)) = of_this.iter().find(|(rule, _)| rule.conditions.is_empty()) {
        return rule.action;
    }
    for (rule, name) in &of_this {
        let mut indices: Vec<u8> = rule
            .conditions
            .iter()
            .map(|condition| condition.index)
            .collect();
        indices.sort_unstable();
        let repeated = indices.windows(2).any(|pair| pair[0] == pair[1]);
        let mut results = rule
            .conditions
            .iter()
            .map(|condition| holds(architecture, name, condition, arguments));
        if if repeated {
            results.any(|holds| holds)
        } else {
            results.all(|holds| holds)
        } {
            return rule.action;
        }
    }
    let lenient = matches!(
        profile.default_action,
        Action::Allow | Action::Log | Action::Trace(_)
    );
    match newest {
        Some(newest) if number > newest && number != u32::MAX && !lenient && of_this.is_empty() => {
            Action::Errno(38)
        }
        _ => profile.default_action,
    }
}

fn check_every_call(profile: &Profile, arguments: &[[u64; 6]]) -> Result<(), TestCaseError> {
    let compiled = compile(profile).unwrap();
    let bytes = compiled.program.to_bytes();
    prop_assert_eq!(&Program::from_bytes(&bytes).unwrap(), &compiled.program);
    let instructions = compiled.program.instructions();
    for architecture in ALL {
        let listed = profile.architectures.contains(&architecture)
            || Some(architecture) == Architecture::native();
        let table = Table::of(architecture);
        let base = if architecture == Architecture::X32 {
            X32_BIT
        } else {
            0
        };
        let mut numbers: Vec<u32> = (base..base + 600).chain([u32::MAX]).collect();
        if architecture == Architecture::Arm {
            numbers.extend(0xf0000..0xf0010);
        }
        for number in numbers {
            // The other calls of x86 by way of these two are looked at on their own.
            if architecture == Architecture::X86
                && [table.number("socketcall"), table.number("ipc")].contains(&Some(number))
            {
                continue;
            }
            if number == u32::MAX && architecture != Architecture::Aarch64 {
                continue;
            }
            for arguments in arguments {
                let call = Call {
                    number,
                    audit: architecture.audit(),
                    arguments: *arguments,
                };
                let (value, _) = run(instructions, call);
                let expected = if listed {
                    evaluate(profile, architecture, &table, number, *arguments)
                } else {
                    Action::KillThread
                };
                prop_assert_eq!(value, expected.value(), "{:?} {:?}", architecture, call);
            }
        }
    }
    Ok(())
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Log),
        Just(Action::Notify),
        (0_u16..5000).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
    ]
}

/// Values that meet each other often, in either half.
fn value() -> impl Strategy<Value = u64> {
    let half = prop_oneof![
        Just(0_u64),
        Just(1),
        Just(38),
        Just(0xffff_ffff),
        Just(0x8000_0000)
    ];
    (half.clone(), half).prop_map(|(upper, lower)| upper << 32 | lower)
}

fn condition() -> impl Strategy<Value = Condition> {
    let comparison = prop_oneof![
        Just(Comparison::NotEqual),
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Equal),
        Just(Comparison::GreaterOrEqual),
        Just(Comparison::Greater),
        Just(Comparison::MaskedEqual),
    ];
    (0_u8..6, comparison, value(), value()).prop_map(|(index, comparison, value, value_two)| {
        Condition {
            index,
            comparison,
            value,
            value_two,
        }
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let names: Vec<String> = ALL
        .iter()
        .flat_map(|architecture| {
            Table::of(*architecture)
                .iter()
                .map(|(name, _)| name.to_owned())
                .collect::<Vec<_>>()
        })
        .chain(["no_such_call".to_owned()])
        .filter(|name| name != "socketcall" && name != "ipc")
        .collect();
    let name = prop_oneof![
        4 => prop::sample::select(names),
        1 => prop::sample::select(vec!["socket".to_owned(), "personality".to_owned(), "clone".to_owned()]),
    ];
    (
        prop::collection::vec(name, 1..20),
        action(),
        prop::collection::vec(condition(), 0..4),
    )
        .prop_map(|(names, action, conditions)| Rule {
            names,
            action,
            conditions,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_program_does_what_the_rules_say(
        rules in prop::collection::vec(rule(), 0..12),
        default_action in action(),
        architectures in prop::collection::vec(prop::sample::select(ALL.to_vec()), 0..4),
        arguments in prop::collection::vec([value(), value(), value(), value(), value(), value()], 1..6),
    ) {
        let profile = Profile { default_action, architectures, rules };
        check_every_call(&profile, &arguments)?;
    }
}

#[test]
fn long_programs_reach_every_part() {
    // A different error number for every second call makes rows and returns that do not merge.
    let table = Table::of(Architecture::X86_64);
    let mut calls: Vec<(&str, u32)> = table.iter().collect();
    calls.sort_by_key(|(_, number)| *number);
    let rules = calls
        .iter()
        .enumerate()
        .map(|(at, (name, _))| Rule {
            names: vec![(*name).to_owned()],
            action: Action::Errno(u16::try_from(at).unwrap() + 1),
            conditions: if at % 3 == 0 {
                vec![Condition {
                    index: 0,
                    comparison: Comparison::GreaterOrEqual,
                    value: at as u64,
                    value_two: 0,
                }]
            } else {
                Vec::new()
            },
        })
        .collect();
    let profile = Profile {
        default_action: Action::Allow,
        architectures: vec![Architecture::X86],
        rules,
    };
    check_every_call(&profile, &[[0; 6], [200; 6], [u64::MAX; 6]]).unwrap();
}

#[test]
fn programs_too_long_for_the_kernel_are_refused() {
    let condition = |value| Condition {
        index: 0,
        comparison: Comparison::Equal,
        value,
        value_two: 0,
    };
    let rules = (0..3000)
        .map(|value| Rule {
            names: vec!["mmap".to_owned()],
            action: Action::Allow,
            conditions: vec![condition(value)],
        })
        .collect();
    let profile = Profile {
        default_action: Action::Trap,
        architectures: Vec::new(),
        rules,
    };
    assert!(matches!(
        compile(&profile),
        Err(SeccompError::TooLong { .. })
    ));
}

fn simple(names: &[&str], action: Action) -> Rule {
    Rule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action,
        conditions: Vec::new(),
    }
}

#[test]
fn rules_that_make_no_sense_are_refused_with_their_place() {
    let condition = Condition {
        index: 6,
        comparison: Comparison::Equal,
        value: 0,
        value_two: 0,
    };
    for bad in [
        Rule {
            conditions: vec![condition],
            ..simple(&["read"], Action::Trap)
        },
        simple(&["read", ""], Action::Trap),
    ] {
        let profile = Profile {
            default_action: Action::Allow,
            architectures: Vec::new(),
            rules: vec![simple(&["write"], Action::Trap), bad],
        };
        let error = compile(&profile).unwrap_err();
        assert!(
            matches!(error, SeccompError::Rule { rule: 1, .. }),
            "{error}"
        );
    }
}

#[test]
fn multiplexed_calls_follow_the_rule_of_the_call() {
    let profile = Profile {
        default_action: Action::Errno(1),
        architectures: vec![Architecture::X86],
        rules: vec![simple(&["socket", "shmget", "exit_group"], Action::Allow)],
    };
    let program = compile(&profile).unwrap().program;
    let decide = |name: &str, first: u64| {
        let number = Table::of(Architecture::X86).number(name).unwrap();
        let call = Call {
            number,
            audit: Architecture::X86.audit(),
            arguments: [first, 0, 0, 0, 0, 0],
        };
        run(program.instructions(), call).0
    };
    assert_eq!(decide("socketcall", 1), Action::Allow.value());
    assert_eq!(decide("socketcall", 2), Action::Errno(1).value());
    assert_eq!(decide("ipc", 23), Action::Allow.value());
    assert_eq!(decide("ipc", 24), Action::Errno(1).value());
}

#[test]
fn foreign_numbers_and_architectures_are_killed() {
    let profile = Profile {
        default_action: Action::Errno(1),
        architectures: vec![Architecture::X86_64],
        rules: vec![simple(&["read"], Action::Allow)],
    };
    let program = compile(&profile).unwrap().program;
    let decide = |audit: u32, number: u32| {
        run(
            program.instructions(),
            Call {
                number,
                audit,
                arguments: [0; 6],
            },
        )
        .0
    };
    let native = Architecture::X86_64.audit();
    assert_eq!(decide(native, 0), Action::Allow.value());
    assert_eq!(decide(native, X32_BIT), Action::KillThread.value());
    assert_eq!(decide(native, u32::MAX), Action::Errno(1).value());
    assert_eq!(decide(0x1234, 0), Action::KillThread.value());
}

#[test]
fn unknown_names_are_told() {
    let profile = Profile {
        default_action: Action::Allow,
        architectures: vec![Architecture::X86_64, Architecture::X86],
        rules: vec![simple(
            &["read", "socketcall", "zz_not_a_call"],
            Action::Trap,
        )],
    };
    assert_eq!(compile(&profile).unwrap().unknown, ["zz_not_a_call"]);
}

#[test]
fn stored_programs_are_checked() {
    let rules = vec![simple(&["read"], Action::Notify)];
    let profile = Profile {
        default_action: Action::Allow,
        architectures: Vec::new(),
        rules,
    };
    let program = compile(&profile).unwrap().program;
    assert!(program.notifies());
    let bytes = program.to_bytes();
    for length in 0..bytes.len() {
        let torn = &bytes[..length];
        // A program cut between instructions may be whole in itself only if it still ends in a return.
        if let Ok(program) = Program::from_bytes(torn) {
            assert_eq!(program.instructions().last().unwrap().code, op::RETURN);
        }
    }
    for at in (0..bytes.len()).step_by(8) {
        let mut wrong = bytes.clone();
        wrong[at] = 0xff;
        assert!(Program::from_bytes(&wrong).is_err());
    }
    assert!(Program::from_bytes(&[]).is_err());
    assert!(Program::from_bytes(&vec![0; 8 * 5000]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_make_a_program_that_ends(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(program) = Program::from_bytes(&bytes) {
            run(program.instructions(), Call { number: 1, audit: 2, arguments: [3; 6] });
        }
    }
}

/// Runs a function in a child with the filter and gives the child's wait status.
fn with_filter(
    profile: &Profile,
    flags: Flags,
    child: impl Fn(Option<std::os::fd::OwnedFd>) -> i32,
) -> i32 {
    let program = compile(profile).unwrap().program;
    // SAFETY: the child only makes system calls and ends without running any destructor of the parent.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: plain numbers.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let code = match install(&program, flags) {
            Ok(listener) => child(listener),
            Err(_) => 99,
        };
        // SAFETY: ends the process.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: the status is ours.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    status
}

fn error_of_getppid() -> i32 {
    // SAFETY: takes no arguments.
    let result = unsafe { libc::syscall(libc::SYS_getppid) };
    if result < 0 {
        std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
    } else {
        0
    }
}

#[test]
fn the_kernel_takes_the_program_and_follows_it() {
    let profile = |action| Profile {
        default_action: Action::Allow,
        architectures: ALL.to_vec(),
        rules: vec![simple(&["getppid"], action)],
    };
    for flags in [
        Flags::default(),
        Flags {
            log: true,
            allow_speculation: true,
            synchronize_threads: true,
            wait_killable: true,
        },
    ] {
        let status = with_filter(&profile(Action::Errno(71)), flags, |_| error_of_getppid());
        assert_eq!(libc::WEXITSTATUS(status), 71);
        assert!(libc::WIFEXITED(status));
    }
    let status = with_filter(&profile(Action::KillProcess), Flags::default(), |_| {
        error_of_getppid()
    });
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGSYS);
    // Without a tracer the call fails.
    let status = with_filter(&profile(Action::Trace(1)), Flags::default(), |_| {
        error_of_getppid()
    });
    assert_eq!(libc::WEXITSTATUS(status), libc::ENOSYS);
    let status = with_filter(&profile(Action::Log), Flags::default(), |_| {
        error_of_getppid()
    });
    assert_eq!(status, 0);
    for synchronize_threads in [false, true] {
        let flags = Flags {
            wait_killable: true,
            synchronize_threads,
            ..Flags::default()
        };
        let status = with_filter(&profile(Action::Notify), flags, |listener| {
            i32::from(listener.is_none())
        });
        assert_eq!(status, 0);
    }
}
