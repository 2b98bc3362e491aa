//! `tidy`: the rules of ARCHITECTURE.md and CONTRIBUTING.md that no compiler checks.
//!
//! Every check returns complaints, one line each with the place; all are shown before it fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use berth_testkit::images;

/// Which crates a crate may use: the table of ARCHITECTURE.md, section 2.
const MAY_USE: [(&str, &[&str]); 16] = [
    ("berth-types", &[]),
    ("berth-sys", &["berth-types"]),
    ("berth-api", &["berth-types"]),
    ("berth-runtime", &["berth-types", "berth-sys"]),
    ("berth-net", &["berth-types", "berth-sys"]),
    (
        "berth-monitor",
        &["berth-types", "berth-sys", "berth-runtime", "berth-net"],
    ),
    ("berth-hello", &[]),
    ("berth-image", &["berth-types", "berth-sys", "berth-hello"]),
    (
        "berth-registry",
        &["berth-types", "berth-sys", "berth-image"],
    ),
    (
        "berth-engine",
        &[
            "berth-types",
            "berth-sys",
            "berth-image",
            "berth-monitor",
            "berth-net",
        ],
    ),
    (
        "berth-server",
        &["berth-types", "berth-api", "berth-engine"],
    ),
    ("berth-cli", &["berth-types", "berth-api"]),
    (
        "berth",
        &[
            "berth-types",
            "berth-sys",
            "berth-api",
            "berth-cli",
            "berth-server",
            "berth-engine",
            "berth-monitor",
            "berth-registry",
            "berth-runtime",
        ],
    ),
    ("berth-testkit", &[]),
    ("xtask", &["berth-testkit"]),
    (
        "fuzz",
        &["berth-types", "berth-api", "berth-image", "berth-net"],
    ),
];

/// Crates only tests may use.
const FOR_TESTS: &[&str] = &["berth-testkit"];

/// Lines of code above which a file wants a reason.
const LINES: usize = 600;

/// Files that are longer, each with its reason.
const LONGER: &[(&str, &str)] = &[];

/// File names that name no noun.
const VAGUE: [&str; 8] = [
    "utils", "util", "common", "helpers", "helper", "manager", "misc", "stuff",
];

/// Marks of work that was not finished. Written so that this file does not find itself.
const UNFINISHED: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

/// Checks everything; fails with all complaints.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if !arguments.is_empty() {
        bail!("tidy takes no arguments");
    }
    let tree = Tree::read()?;
    let mut complaints = Vec::new();
    complaints.extend(dependencies(&tree));
    complaints.extend(lints(&tree));
    complaints.extend(sizes(&tree));
    complaints.extend(names(&tree));
    complaints.extend(unfinished(&tree));
    complaints.extend(unsafe_code(&tree));
    complaints.extend(machine_paths(&tree));
    complaints.extend(links(&tree));
    complaints.extend(forgotten_tests(&tree));
    complaints.extend(ignored_tests(&tree));
    if complaints.is_empty() {
        println!(
            "tidy: {} files, nothing to complain about",
            tree.files.len()
        );
        return Ok(());
    }
    bail!(
        "{} complaint(s)\n{}",
        complaints.len(),
        complaints.join("\n")
    )
}

/// The files of the work tree that git knows or would add.
struct Tree {
    root: PathBuf,
    files: Vec<(String, String)>,
}

impl Tree {
    fn read() -> Result<Self> {
        let root = images::workspace();
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output();
        let paths: Vec<String> = match listed {
            Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
                .lines()
                .map(str::to_owned)
                .collect(),
            // An exported tree without a repository, or a machine without git.
            _ => walk(&root, &root),
        };
        let mut files = Vec::new();
        for path in paths {
            // Not text, or removed and not yet committed.
            if let Ok(text) = fs::read_to_string(root.join(&path)) {
                files.push((path, text));
            }
        }
        Ok(Self { root, files })
    }

    fn rust(&self) -> impl Iterator<Item = &(String, String)> {
        self.files.iter().filter(|(path, _)| path.ends_with(".rs"))
    }
}

fn walk(root: &Path, directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && name != ".git" {
                found.extend(walk(root, &path));
            }
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.push(relative.to_string_lossy().into_owned());
        }
    }
    found
}

fn dependencies(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in &tree.files {
        let Some(directory) = path.strip_suffix("/Cargo.toml") else {
            continue;
        };
        let name = directory.rsplit('/').next().unwrap_or(directory);
        let Some((_, allowed)) = MAY_USE.iter().find(|(who, _)| *who == name) else {
            complaints.push(format!(
                "{path}: {name} is not in the table of xtask/src/tidy.rs"
            ));
            continue;
        };
        let mut section = String::new();
        for line in text.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']).to_owned();
                continue;
            }
            let used = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !section.ends_with("dependencies") || !MAY_USE.iter().any(|(who, _)| *who == used) {
                continue;
            }
            let test_only = section == "dev-dependencies" && FOR_TESTS.contains(&used);
            if !test_only && !allowed.contains(&used) {
                complaints.push(format!(
                    "{path}: {name} may not use {used} (ARCHITECTURE.md, 2)"
                ));
            }
        }
    }
    complaints
}

/// Each crate takes the lints of the workspace, or there are rules nobody checks.
fn lints(tree: &Tree) -> Vec<String> {
    tree.files
        .iter()
        .filter(|(path, _)| path.starts_with("crates/") && path.ends_with("/Cargo.toml"))
        // The only crate in which `unsafe` compiles lists its lints itself.
        .filter(|(path, _)| path != "crates/berth-sys/Cargo.toml")
        .filter(|(_, text)| !text.contains("[lints]\nworkspace = true"))
        .map(|(path, _)| format!("{path}: takes no lints from the workspace"))
        .collect()
}

fn sizes(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree.rust() {
        // Tests beside the code do not count: more of them is not worse.
        let count = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .count();
        let excused = LONGER.iter().any(|(who, _)| who == path);
        if count > LINES && !excused {
            complaints.push(format!("{path}: {count} lines, more than {LINES}"));
        }
        if excused && count <= LINES {
            complaints.push(format!(
                "{path}: needs no excuse in xtask/src/tidy.rs any more"
            ));
        }
    }
    complaints
}

fn names(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, _) in tree.rust() {
        let stem = Path::new(path)
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let vague = stem.split('_').any(|part| VAGUE.contains(&part));
        let directory = path.split('/').any(|part| VAGUE.contains(&part));
        if vague || directory {
            complaints.push(format!("{path}: named for no noun"));
        }
    }
    complaints
}

fn unfinished(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in tree.rust() {
        for (at, line) in text.lines().enumerate() {
            let mut words = line.split(|letter: char| !letter.is_ascii_alphanumeric());
            if words.any(|word| UNFINISHED.contains(&word)) {
                complaints.push(format!("{path}:{}: unfinished work", at + 1));
            }
        }
    }
    complaints
}

fn unsafe_code(tree: &Tree) -> Vec<String> {
    let word = concat!("uns", "afe");
    let forms = [
        format!("{word} {{"),
        format!("{word} fn"),
        format!("{word} impl"),
    ];
    let mut complaints = Vec::new();
    for (path, text) in tree.rust() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !forms.iter().any(|form| code.contains(form)) {
                continue;
            }
            if !path.starts_with("crates/berth-sys/") {
                complaints.push(format!("{path}:{}: {word} outside berth-sys", at + 1));
            } else if code.contains(&forms[0])
                && !lines[at.saturating_sub(8)..at]
                    .iter()
                    .any(|near| near.contains("SAFETY:"))
            {
                complaints.push(format!("{path}:{}: no SAFETY comment", at + 1));
            }
        }
    }
    complaints
}

/// The repository speaks of itself alone: no directories of somebody's machine.
fn machine_paths(tree: &Tree) -> Vec<String> {
    let homes = [concat!("/ho", "me/"), concat!("/Use", "rs/")];
    let mut complaints = Vec::new();
    for (path, text) in &tree.files {
        if path.starts_with("docs/reference/") || path.contains("/tests/") {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            let found = homes.iter().find(|home| {
                line.match_indices(**home).any(|(start, _)| {
                    let before = line[..start].chars().next_back();
                    !before
                        .is_some_and(|letter| letter.is_alphanumeric() || "./-_$}".contains(letter))
                })
            });
            // A home directory inside an image is no machine's.
            if let Some(home) =
                found.filter(|home| !home.starts_with("/ho") || path.ends_with(".md"))
            {
                complaints.push(format!(
                    "{path}:{}: a path of some machine ({home})",
                    at + 1
                ));
            }
        }
    }
    complaints
}

/// Links between pages lead somewhere.
fn links(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in &tree.files {
        if !path.ends_with(".md") || path.starts_with("docs/reference/") {
            continue;
        }
        let directory = Path::new(path).parent().unwrap_or(Path::new(""));
        for (at, line) in text.lines().enumerate() {
            for piece in line.split("](").skip(1) {
                let target = piece.split(')').next().unwrap_or_default();
                let file = target.split('#').next().unwrap_or_default();
                let outside = target.contains("://") || target.starts_with("mailto:");
                if file.is_empty() || outside {
                    continue;
                }
                if !tree.root.join(directory).join(file).exists() {
                    complaints.push(format!("{path}:{}: no such page: {file}", at + 1));
                }
            }
        }
    }
    complaints
}

/// A file below tests/ or src/ that no `mod` names is never compiled.
fn forgotten_tests(tree: &Tree) -> Vec<String> {
    let known: BTreeSet<&str> = tree.files.iter().map(|(path, _)| path.as_str()).collect();
    let mut complaints = Vec::new();
    for (path, _) in tree.rust() {
        let parts: Vec<&str> = path.split('/').collect();
        let file = parts[parts.len() - 1];
        let directory = parts[..parts.len() - 1].join("/");
        let is_root = matches!(file, "lib.rs" | "main.rs" | "build.rs")
            || directory.ends_with("/tests")
            || directory.ends_with("/benches")
            || directory.ends_with("/examples")
            || directory.ends_with("/bin")
            || directory.ends_with("fuzz_targets");
        if is_root {
            continue;
        }
        let (name, owner) = if file == "mod.rs" {
            let (up, last) = directory.rsplit_once('/').unwrap_or(("", &directory));
            (last.to_owned(), up.to_owned())
        } else {
            (file.trim_end_matches(".rs").to_owned(), directory)
        };
        let mut owners = vec![
            format!("{owner}/mod.rs"),
            format!("{owner}/lib.rs"),
            format!("{owner}/main.rs"),
            format!("{owner}.rs"),
        ];
        if owner.ends_with("/tests") {
            // Every file right there is the root of a test executable.
            owners.extend(known.iter().filter_map(|path| {
                let file = path.strip_prefix(&owner)?.strip_prefix('/')?;
                (!file.contains('/')).then(|| (*path).to_owned())
            }));
        }
        let named = owners
            .iter()
            .filter(|candidate| known.contains(candidate.as_str()))
            .any(|one| {
                let text = tree
                    .files
                    .iter()
                    .find(|(path, _)| path == one)
                    .map(|(_, text)| text.as_str());
                text.is_some_and(|text| text.contains(&format!("mod {name};")))
            });
        if !named {
            complaints.push(format!(
                "{path}: no `mod {name};` above it, so it is never compiled"
            ));
        }
    }
    complaints
}

/// A test that does not run says nothing.
fn ignored_tests(tree: &Tree) -> Vec<String> {
    let mark = concat!("#[ig", "nore");
    tree.rust()
        .filter(|(_, text)| text.contains(mark))
        .map(|(path, _)| format!("{path}: a test is left out with {mark}]"))
        .collect()
}
