//! From the `linux.seccomp` of the OCI specification to a compiled filter, with a cache of compiled filters.
//!
//! Owns the translation and the cache files. Does not install anything: that is [`berth_sys::seccomp::install`].
//!
//! A cache file is found by a hash of what was compiled, holds that text whole, and ends in a checksum: a
//! file that is torn, of another version or of another profile with the same hash is compiled anew, never used.
//!
//! ```text
//! magic 8 │ length of the key 4 │ length of the program 4 │ key │ program │ checksum 8
//! ```

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use berth_sys::fs::{self, Durability};
use berth_sys::seccomp::{
    Action, Architecture, Comparison, Condition, Flags, Profile, Program, Rule, SeccompError,
    compile,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSeccompOperator,
};

/// Starts every cache file. The number rises with the compiler's meaning and the layout.
const MAGIC: &[u8; 8] = b"berthf01";

/// Magic and the two lengths.
const HEADER: usize = 16;

/// The checksum.
const TRAILER: usize = 8;

/// Bytes of a cache file that are looked at; the default profile's have some tens of kilobytes.
const CACHE_FILE_BYTES: u64 = 4 << 20;

/// Files kept in a cache directory. Beyond that it is emptied: whoever makes ever new profiles gains nothing from it.
const CACHE_FILES: usize = 256;

/// A filter ready to be installed.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The program.
    pub program: Program,
    /// Flags to install it with.
    pub flags: Flags,
    /// What is worth telling, one sentence each.
    pub notes: Vec<String>,
}

/// Compiles a filter, or takes it from the cache directory (made when missing). Trouble with the cache is never an error: the
/// filter is compiled then.
///
/// # Errors
/// For rules that make no sense, an error number with an action that has none (config-linux.md, "Seccomp"), and
/// notification as the default action, which would stop the process before its program starts.
pub fn prepare(spec: &LinuxSeccomp, cache: Option<&Path>) -> Result<Filter, SeccompError> {
    let mut notes = Vec::new();
    let architectures = architectures(spec, &mut notes);
    let flags = flags(spec);
    let Some(cache) = cache else {
        return Ok(Filter {
            program: compiled(spec, architectures)?,
            flags,
            notes,
        });
    };
    let Some(key) = key(spec, &architectures) else {
        return Ok(Filter {
            program: compiled(spec, architectures)?,
            flags,
            notes,
        });
    };
    let file = cache.join(format!("{:016x}.filter", hash(&key)));
    if let Some(program) = load(&file, &key) {
        return Ok(Filter {
            program,
            flags,
            notes,
        });
    }
    let program = compiled(spec, architectures)?;
    store(cache, &file, &key, &program);
    Ok(Filter {
        program,
        flags,
        notes,
    })
}

fn compiled(
    spec: &LinuxSeccomp,
    architectures: Vec<Architecture>,
) -> Result<Program, SeccompError> {
    compile(&profile(spec, architectures)?).map(|compiled| compiled.program)
}

/// Everything the program depends on, as text.
fn key(spec: &LinuxSeccomp, architectures: &[Architecture]) -> Option<Vec<u8>> {
    let native = Architecture::native();
    serde_json::to_vec(&(
        native,
        architectures,
        spec.default_action(),
        spec.default_errno_ret(),
        spec.syscalls(),
    ))
    .ok()
}

/// A hash that is the same in every process of one build; another build may make another, and then compiles anew.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn load(file: &Path, key: &[u8]) -> Option<Program> {
    let bytes = fs::read_bounded(file, CACHE_FILE_BYTES).ok()?;
    let length = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let (key_length, program_length) = (length(8)?, length(12)?);
    let program_at = HEADER.checked_add(key_length)?;
    let checksum_at = program_at.checked_add(program_length)?;
    if !bytes.starts_with(MAGIC) || bytes.len() != checksum_at.checked_add(TRAILER)? {
        return None;
    }
    let checksum: [u8; TRAILER] = bytes.get(checksum_at..)?.try_into().ok()?;
    if bytes.get(HEADER..program_at)? != key
        || u64::from_le_bytes(checksum) != hash(bytes.get(..checksum_at)?)
    {
        return None;
    }
    Program::from_bytes(bytes.get(program_at..checksum_at)?).ok()
}

fn store(cache: &Path, file: &Path, key: &[u8], program: &Program) {
    let program = program.to_bytes();
    let (Ok(key_length), Ok(program_length)) =
        (u32::try_from(key.len()), u32::try_from(program.len()))
    else {
        return;
    };
    let mut bytes = Vec::with_capacity(HEADER + key.len() + program.len() + TRAILER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&key_length.to_le_bytes());
    bytes.extend_from_slice(&program_length.to_le_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&program);
    let checksum = hash(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    if fs::create_dir_all_mode(cache, 0o700).is_err() {
        return;
    }
    make_room(cache);
    // Losing it to a power cut costs one compilation, and the checksum finds what is half written.
    let _ = fs::replace(file, &bytes, 0o600, Durability::Unsynced);
}

fn make_room(cache: &Path) {
    let Ok(names) = fs::list(cache) else { return };
    let files: Vec<PathBuf> = names
        .iter()
        .map(|name| cache.join(name))
        .filter(|path| path.extension().is_some_and(|end| end == "filter"))
        .collect();
    if files.len() >= CACHE_FILES {
        for file in files {
            let _ = fs::remove_file(&file);
        }
    }
}

/// The architectures known here. One that is not stays shut out, since its calls cannot be told apart.
fn architectures(spec: &LinuxSeccomp, notes: &mut Vec<String>) -> Vec<Architecture> {
    let mut known = Vec::new();
    for architecture in spec.architectures().iter().flatten() {
        match architecture {
            Arch::ScmpArchNative => {}
            Arch::ScmpArchX86_64 => known.push(Architecture::X86_64),
            Arch::ScmpArchX86 => known.push(Architecture::X86),
            Arch::ScmpArchX32 => known.push(Architecture::X32),
            Arch::ScmpArchAarch64 => known.push(Architecture::Aarch64),
            Arch::ScmpArchArm => known.push(Architecture::Arm),
            other => notes.push(format!(
                "the seccomp architecture {other} is left out: its system calls are not known."
            )),
        }
    }
    known
}

fn flags(spec: &LinuxSeccomp) -> Flags {
    let mut flags = Flags::default();
    for flag in spec.flags().iter().flatten() {
        match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => flags.log = true,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => flags.synchronize_threads = true,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => flags.allow_speculation = true,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => flags.wait_killable = true,
        }
    }
    flags
}

fn profile(spec: &LinuxSeccomp, architectures: Vec<Architecture>) -> Result<Profile, SeccompError> {
    let default_action =
        action(spec.default_action(), spec.default_errno_ret()).map_err(|reason| {
            SeccompError::Profile {
                reason: format!("default action: {reason}"),
            }
        })?;
    if default_action == Action::Notify {
        return Err(SeccompError::Profile {
            reason:
                "notification cannot be the default action: the program could not even be started"
                    .to_owned(),
        });
    }
    let mut rules = Vec::new();
    for (at, rule) in spec.syscalls().iter().flatten().enumerate() {
        let invalid = |reason: String| SeccompError::Rule { rule: at, reason };
        if rule.names().is_empty() {
            return Err(invalid("it names no system call".to_owned()));
        }
        let mut conditions = Vec::new();
        for argument in rule.args().iter().flatten() {
            conditions.push(Condition {
                index: u8::try_from(argument.index()).unwrap_or(u8::MAX),
                comparison: comparison(argument.op()),
                value: argument.value(),
                value_two: argument.value_two().unwrap_or(0),
            });
        }
        rules.push(Rule {
            names: rule.names().clone(),
            action: action(rule.action(), rule.errno_ret()).map_err(invalid)?,
            conditions,
        });
    }
    Ok(Profile {
        default_action,
        architectures,
        rules,
    })
}

/// EPERM is what an action that takes an error number has without one.
const DEFAULT_ERRNO: u32 = 1;

/// The greatest error number (`MAX_ERRNO`).
const ERRNO_MAX: u32 = 4095;

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Action, String> {
    let plain = match action {
        LinuxSeccompAction::ScmpActErrno => {
            let number = errno.unwrap_or(DEFAULT_ERRNO);
            return match u16::try_from(number) {
                Ok(errno) if number <= ERRNO_MAX => Ok(Action::Errno(errno)),
                _ => Err(format!("{number} is not an error number")),
            };
        }
        LinuxSeccompAction::ScmpActTrace => {
            let number = errno.unwrap_or(DEFAULT_ERRNO);
            return match u16::try_from(number) {
                Ok(value) => Ok(Action::Trace(value)),
                Err(_) => Err(format!("{number} is too large a number for a tracer")),
            };
        }
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            Action::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActNotify => Action::Notify,
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
    };
    match errno {
        None | Some(0) => Ok(plain),
        Some(number) => Err(format!("{action} takes no error number, {number} is given")),
    }
}

fn comparison(operator: LinuxSeccompOperator) -> Comparison {
    match operator {
        LinuxSeccompOperator::ScmpCmpNe => Comparison::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => Comparison::Less,
        LinuxSeccompOperator::ScmpCmpLe => Comparison::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq => Comparison::Equal,
        LinuxSeccompOperator::ScmpCmpGe => Comparison::GreaterOrEqual,
        LinuxSeccompOperator::ScmpCmpGt => Comparison::Greater,
        LinuxSeccompOperator::ScmpCmpMaskedEq => Comparison::MaskedEqual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> LinuxSeccomp {
        serde_json::from_str(json).unwrap()
    }

    fn sample() -> LinuxSeccomp {
        parse(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [
                    {"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
                     "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_NE"}]}]}"#,
        )
    }

    #[test]
    fn the_cache_gives_what_was_compiled() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("filters");
        let plain = prepare(&sample(), None).unwrap();
        assert!(plain.flags.log && !plain.flags.synchronize_threads);
        for _ in 0..2 {
            assert_eq!(
                prepare(&sample(), Some(&cache)).unwrap().program,
                plain.program
            );
        }
        assert_eq!(std::fs::read_dir(&cache).unwrap().count(), 1);
    }

    #[test]
    fn damaged_and_foreign_files_are_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path();
        let program = prepare(&sample(), Some(cache)).unwrap().program;
        let file = std::fs::read_dir(cache)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let whole = std::fs::read(&file).unwrap();
        let specification = sample();
        let key = key(
            &specification,
            &architectures(&specification, &mut Vec::new()),
        )
        .unwrap();
        assert_eq!(load(&file, &key), Some(program.clone()));
        assert_eq!(load(&file, b"another profile"), None);
        for length in 0..whole.len() {
            std::fs::write(&file, &whole[..length]).unwrap();
            assert_eq!(load(&file, &key), None, "{length}");
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 0x10;
            std::fs::write(&file, &wrong).unwrap();
            assert_eq!(load(&file, &key), None, "{at}");
        }
        // It is repaired by the next use.
        assert_eq!(
            prepare(&specification, Some(cache)).unwrap().program,
            program
        );
        assert_eq!(std::fs::read(&file).unwrap(), whole);
    }

    #[test]
    fn a_cache_that_cannot_be_used_does_no_harm() {
        let file = tempfile::NamedTempFile::new().unwrap();
        prepare(&sample(), Some(&file.path().join("below"))).unwrap();
    }

    #[test]
    fn a_full_cache_is_emptied() {
        let directory = tempfile::tempdir().unwrap();
        for at in 0..CACHE_FILES {
            std::fs::write(directory.path().join(format!("{at}.filter")), "").unwrap();
        }
        std::fs::write(directory.path().join("other"), "").unwrap();
        prepare(&sample(), Some(directory.path())).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for (json, words) in [
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 5}"#,
                "takes no error number",
            ),
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "default action"),
            (
                r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}"#,
                "not an error number",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_TRAP"}]}"#,
                "rule 0: it names no system call",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRAP",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
                "rule 0: a system call has six arguments",
            ),
        ] {
            let error = prepare(&parse(json), None).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn unknown_architectures_are_told() {
        let spec =
            parse(r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_MIPS"]}"#);
        assert_eq!(prepare(&spec, None).unwrap().notes.len(), 1);
    }
}
