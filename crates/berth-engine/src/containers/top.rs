//! A container's processes as `ps` shows them.

use std::collections::HashSet;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;

use super::requests::ProcessTable;
use crate::error::EngineError;
use crate::limits;

/// Runs the host's `ps` with these arguments and keeps the container's rows. Where the host has no `ps`, the
/// columns of `ps -ef` are read from /proc.
///
/// # Errors
/// When the arguments are refused, or `ps` cannot be understood.
pub async fn table(pids: &[u32], arguments: &str) -> Result<ProcessTable, EngineError> {
    let arguments = if arguments.trim().is_empty() {
        "-ef"
    } else {
        arguments
    };
    let words: Vec<&str> = arguments.split_whitespace().collect();
    // A column with spaces before the pid's would make the rows ambiguous, and -o can rename columns.
    if words.iter().any(|w| w.len() > 256) || words.len() > 64 {
        return Err(EngineError::Invalid(
            "the arguments of ps are too long".to_owned(),
        ));
    }
    let child = tokio::process::Command::new("ps")
        .args(&words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return if arguments == "-ef" {
                let pids = pids.to_vec();
                tokio::task::spawn_blocking(move || own_table(&pids))
                    .await
                    .map_err(|e| EngineError::Internal(e.to_string()))
            } else {
                Err(EngineError::NotImplemented(format!(
                    "the host has no ps program, so only the default columns can be shown, not \"{arguments}\""
                )))
            };
        }
        Err(error) => return Err(EngineError::io("run ps", error)),
    };
    let mut output = Vec::new();
    let mut complaint = Vec::new();
    if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
        let (mut out, mut err) = (out.take(limits::PS_OUTPUT), err.take(4096));
        let (a, b) = tokio::join!(
            out.read_to_end(&mut output),
            err.read_to_end(&mut complaint)
        );
        a.and(b)
            .map_err(|e| EngineError::io("read what ps says", e))?;
    }
    let status = child
        .wait()
        .await
        .map_err(|e| EngineError::io("wait for ps", e))?;
    if !status.success() {
        return Err(EngineError::Invalid(format!(
            "Error running ps: {}",
            String::from_utf8_lossy(&complaint).trim()
        )));
    }
    parse(&String::from_utf8_lossy(&output), pids)
}

/// Takes the container's rows out of what `ps` wrote.
fn parse(output: &str, pids: &[u32]) -> Result<ProcessTable, EngineError> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let Some(column) = titles.iter().position(|t| t == "PID") else {
        return Err(EngineError::Invalid(
            "Couldn't find PID field in ps output".to_owned(),
        ));
    };
    let wanted: HashSet<u32> = pids.iter().copied().collect();
    let mut processes = Vec::new();
    let mut kept = false;
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let Some(field) = fields.get(column) else {
            continue;
        };
        // Threads (`-L`, `m`) have "-" for a pid and follow their process.
        kept = match field.parse::<u32>() {
            Ok(pid) => wanted.contains(&pid),
            Err(_) => *field == "-" && kept,
        };
        if !kept {
            continue;
        }
        // The last column may have spaces in it.
        let split = titles.len().saturating_sub(1).min(fields.len());
        let mut row: Vec<String> = fields[..split].iter().map(|f| (*f).to_owned()).collect();
        row.push(fields[split..].join(" "));
        processes.push(row);
    }
    Ok(ProcessTable { titles, processes })
}

/// The columns of `ps -ef`, from proc(5).
fn own_table(pids: &[u32]) -> ProcessTable {
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
        .map(str::to_owned)
        .to_vec();
    let read = |pid: u32, name: &str| {
        berth_sys::fs::read_bounded(
            std::path::Path::new(&format!("/proc/{pid}/{name}")),
            64 * 1024,
        )
        .ok()
    };
    let processes = pids
        .iter()
        .filter_map(|pid| {
            let stat = String::from_utf8_lossy(&read(*pid, "stat")?).into_owned();
            let status = String::from_utf8_lossy(&read(*pid, "status")?).into_owned();
            let uid = berth_sys::proc::parse_status_field(&status, "Uid")?
                .split_whitespace()
                .next()?
                .to_owned();
            // The name is in brackets and may have any character in it.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let parent = fields.get(1)?.to_string();
            let ticks =
                fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
            // The kernel counts in hundredths of a second for user space, time(7).
            let seconds = ticks / 100;
            let command = read(*pid, "cmdline")?;
            let command = command
                .split(|b| *b == 0)
                .filter(|w| !w.is_empty())
                .map(|w| String::from_utf8_lossy(w).into_owned())
                .collect::<Vec<_>>()
                .join(" ");
            Some(vec![
                uid,
                pid.to_string(),
                parent,
                "0".to_owned(),
                "-".to_owned(),
                "?".to_owned(),
                format!(
                    "{:02}:{:02}:{:02}",
                    seconds / 3600,
                    seconds / 60 % 60,
                    seconds % 60
                ),
                command,
            ])
        })
        .collect();
    ProcessTable { titles, processes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_container_are_kept_with_their_command_whole() {
        let output = "UID        PID  PPID  C STIME TTY          TIME CMD\n\
                      root         1     0  0 10:00 ?        00:00:01 /sbin/init splash\n\
                      root        42     1  0 10:00 ?        00:00:00 sleep 1000 now\n";
        let table = parse(output, &[42]).expect("a table");
        assert_eq!(table.titles.len(), 8);
        assert_eq!(table.processes.len(), 1);
        assert_eq!(table.processes[0][7], "sleep 1000 now");
        assert!(parse("A B\n", &[1]).is_err());
    }
}
