//! Help texts, kept as snapshots.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use support::{Told, clean, client};

fn told(words: &[&str]) -> Told {
    let home = tempfile::tempdir().unwrap();
    let mut command = clean(&client(), home.path());
    std::os::unix::process::CommandExt::arg0(&mut command, "berth");
    command.args(words).output().unwrap().into()
}

/// The words of every command, from the overviews themselves.
fn commands() -> Vec<Vec<String>> {
    let listed = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.strip_prefix("  "))
            .filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect()
    };
    let mut commands = Vec::new();
    for word in listed(&told(&["--help"]).stdout) {
        let text = told(&[&word, "--help"]).stdout;
        if text.contains("\nCommands:\n") {
            for inner in listed(&text) {
                commands.push(vec![word.clone(), inner]);
            }
        }
        commands.push(vec![word]);
    }
    commands
}

#[test]
fn the_overview_is_as_recorded() {
    insta::assert_snapshot!(told(&["--help"]).stdout);
}

#[test]
fn every_command_tells_what_it_takes() {
    let commands = commands();
    assert!(commands.len() > 60, "{commands:?}");
    for command in commands {
        let mut words: Vec<&str> = command.iter().map(String::as_str).collect();
        words.push("--help");
        let told = told(&words);
        assert_eq!((told.status, told.stderr.as_str()), (0, ""), "{words:?}");
        insta::assert_snapshot!(command.join("-"), told.stdout);
    }
}

#[test]
fn completion_scripts_are_made_for_each_shell() {
    for (shell, sign) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef berth"),
        ("fish", "complete -c berth"),
    ] {
        let told = told(&["completion", shell]);
        assert_eq!(told.status, 0);
        assert!(told.stdout.contains(sign), "{shell}");
    }
    assert_eq!(told(&["completion", "tcsh"]).status, 1);
}
