//! The grammar of flags, and how mistakes are told.

use super::*;

fn check_size(value: &str) -> Result<(), String> {
    if value.ends_with('x') {
        Err("invalid suffix: 'x'".into())
    } else {
        Ok(())
    }
}

const FLAGS: &[Flag] = &[
    Flag::switch("rm", ""),
    Flag::switch("interactive", "").short('i'),
    Flag::switch("tty", "").short('t'),
    Flag::switch("sig-proxy", "").on(),
    Flag::text("name", ""),
    Flag::text("hostname", "").short('h'),
    Flag::text("pull", "").or("missing"),
    Flag::list("env", "").short('e'),
    Flag::list("publish", "").short('p'),
    Flag::one("memory", "bytes", check_size, "").short('m'),
    Flag::list("network", ""),
    Flag::list("net", "").spelling_of("network"),
];

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn run(line: &str) -> Result<Parsed, FlagError> {
    parse(FLAGS, Operands::EndFlags, &words(line))
}

#[test]
fn flags_end_at_the_first_operand() {
    let parsed = run("--rm -it -e A=1 -eB=2 img --help -p 1 -- ls").expect("parses");
    assert!(parsed.switch("rm") && parsed.switch("interactive") && parsed.switch("tty"));
    assert_eq!(parsed.list("env"), ["A=1", "B=2"]);
    assert_eq!(parsed.operands, ["img", "--help", "-p", "1", "--", "ls"]);
}

#[test]
fn bools_take_values_after_an_equals_sign_only() {
    let parsed = run("--rm=false --sig-proxy=0 -t=true img").expect("parses");
    assert!(!parsed.switch("rm") && !parsed.switch("sig-proxy") && parsed.switch("tty"));
    assert!(parsed.given("rm"));
    let parsed = run("--rm false").expect("parses");
    assert!(parsed.switch("rm") && parsed.switch("sig-proxy"));
    assert_eq!(parsed.operands, ["false"]);
}

#[test]
fn values_may_start_with_a_dash_and_the_last_one_counts() {
    let parsed = run("--name --rm --name=-1 -p=80:80 -p81 img").expect("parses");
    assert_eq!(parsed.text("name"), "-1");
    assert_eq!(parsed.text("pull"), "missing");
    assert_eq!(parsed.list("publish"), ["80:80", "81"]);
    assert!(!parsed.switch("rm"));
}

#[test]
fn spellings_collect_into_one_flag_in_order() {
    let parsed = run("--net a --network b --net c img").expect("parses");
    assert_eq!(parsed.list("network"), ["a", "b", "c"]);
    assert_eq!(parsed.text("network"), "c");
}

#[test]
fn a_double_dash_ends_flags_before_the_first_operand() {
    let parsed = run("--rm -- img --rm").expect("parses");
    assert_eq!(parsed.operands, ["img", "--rm"]);
}

#[test]
fn mistakes_are_told_in_docker_s_words() {
    for (line, text) in [
        ("--foo img", "unknown flag: --foo"),
        ("--no-such=3 img", "unknown flag: --no-such"),
        ("-Zx img", "unknown shorthand flag: 'Z' in -Zx"),
        ("-iZx img", "unknown shorthand flag: 'Z' in -Zx"),
        ("--name", "flag needs an argument: --name"),
        ("-p", "flag needs an argument: 'p' in -p"),
        ("-ip", "flag needs an argument: 'p' in -p"),
        (
            "-m 5x img",
            "invalid argument \"5x\" for \"-m, --memory\" flag: invalid suffix: 'x'",
        ),
        (
            "--rm=x img",
            "invalid argument \"x\" for \"--rm\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
        ),
    ] {
        match run(line) {
            Err(FlagError::Bad(found)) => assert_eq!(found, text, "{line}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn help_is_noticed_unless_the_letter_is_taken() {
    assert_eq!(run("--help").err(), Some(FlagError::Help(false)));
    assert_eq!(run("-h name img").expect("parses").text("hostname"), "name");
    let none = parse(&[], Operands::Mixed, &words("-h"));
    assert_eq!(none.err(), Some(FlagError::Help(true)));
}

#[test]
fn operands_may_stand_anywhere_when_mixed() {
    let parsed = parse(FLAGS, Operands::Mixed, &words("a --rm b -i -- --c")).expect("parses");
    assert_eq!(parsed.operands, ["a", "b", "--c"]);
    assert!(parsed.switch("rm") && parsed.switch("interactive"));
}
