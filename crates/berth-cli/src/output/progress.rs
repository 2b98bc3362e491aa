//! Progress of pulls, pushes and loads: lines that move on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::Write;

use berth_api::{JsonMessage, JsonStream};
use berth_types::size;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::session::{self, Session};
use crate::terminal;

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere: only errors matter.
    Nowhere,
}

/// Shows a progress stream to its end.
///
/// # Errors
/// The error that ended the stream, in the engine's words.
pub(crate) async fn show(
    session: &Session,
    stream: &mut JsonStream<JsonMessage>,
    to: To,
) -> Result<(), Failure> {
    show_with(session, stream, to, |_| {}).await
}

/// As [`show`]; gives what the work gave in the end, if it gave something.
///
/// # Errors
/// As [`show`].
pub(crate) async fn show_result(
    session: &Session,
    stream: &mut JsonStream<JsonMessage>,
    to: To,
) -> Result<Option<serde_json::Value>, Failure> {
    let mut result = None;
    show_with(session, stream, to, |aux| result = Some(aux)).await?;
    Ok(result)
}

/// As [`show`]; `notice` gets whatever the stream tells programs.
///
/// # Errors
/// As [`show`].
pub(crate) async fn show_with(
    session: &Session,
    stream: &mut JsonStream<JsonMessage>,
    to: To,
    mut notice: impl FnMut(serde_json::Value),
) -> Result<(), Failure> {
    let mut view = View::new(to);
    while let Some(mut message) = stream
        .next()
        .await
        .map_err(|error| session.failure(error))?
    {
        if let Some(aux) = message.aux.take() {
            notice(aux);
            continue;
        }
        if let Some(error) = failure(&message) {
            view.end();
            return Err(Failure::new(error));
        }
        view.show(&message)?;
    }
    view.end();
    Ok(())
}

/// The error a message carries.
fn failure(message: &JsonMessage) -> Option<String> {
    match &message.error_detail {
        Some(detail) if !detail.message.is_empty() => Some(detail.message.clone()),
        _ if !message.error.is_empty() => Some(message.error.clone()),
        _ => None,
    }
}

enum View {
    Moving {
        bars: MultiProgress,
        by_id: HashMap<String, ProgressBar>,
    },
    Plain(To),
}

impl View {
    fn new(to: To) -> Self {
        let target = match to {
            To::Stdout if terminal::output_is_terminal() => ProgressDrawTarget::stdout(),
            To::Stderr if terminal::error_is_terminal() => ProgressDrawTarget::stderr(),
            _ => return Self::Plain(to),
        };
        Self::Moving {
            bars: MultiProgress::with_draw_target(target),
            by_id: HashMap::new(),
        }
    }

    fn show(&mut self, message: &JsonMessage) -> Result<(), Failure> {
        match self {
            Self::Plain(To::Nowhere) => Ok(()),
            Self::Plain(to) => match plain(message) {
                None => Ok(()),
                Some(line) if *to == To::Stdout => session::print(&line),
                Some(line) => {
                    // Progress that nobody can see is no reason to stop.
                    let _ = std::io::stderr().write_all(line.as_bytes());
                    Ok(())
                }
            },
            Self::Moving { bars, by_id } => {
                if message.id.is_empty() {
                    if let Some(line) = plain(message) {
                        // A terminal that went away is noticed by whoever comes next.
                        let _ = bars.println(line.trim_end_matches('\n'));
                    }
                    return Ok(());
                }
                let bar = by_id.entry(message.id.clone()).or_insert_with(|| {
                    bars.add(ProgressBar::new(0).with_prefix(message.id.clone()))
                });
                let detail = message.progress_detail.clone().unwrap_or_default();
                let (current, total) = (bytes(detail.current), bytes(detail.total));
                let template = match (current, total) {
                    (0, 0) => "{prefix}: {msg}".to_owned(),
                    (_, 0) => format!(
                        "{{prefix}}: {{msg}} {}",
                        size::format_decimal_short(current)
                    ),
                    _ => format!(
                        "{{prefix}}: {{msg}} [{{bar:50}}] {}/{}",
                        size::format_decimal_short(current),
                        size::format_decimal_short(total)
                    ),
                };
                if let Ok(style) = ProgressStyle::with_template(&template) {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_length(total);
                bar.set_position(current.min(total));
                bar.set_message(message.status.clone());
                Ok(())
            }
        }
    }

    /// Leaves the last state on the screen.
    fn end(&mut self) {
        if let Self::Moving { by_id, .. } = self {
            for bar in by_id.values() {
                bar.abandon();
            }
        }
    }
}

fn bytes(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// The line of a message off a terminal; steps on the way are left out.
fn plain(message: &JsonMessage) -> Option<String> {
    if !message.stream.is_empty() {
        return Some(message.stream.clone());
    }
    let moving = message
        .progress_detail
        .as_ref()
        .is_some_and(|detail| detail.current > 0 || detail.total > 0);
    if moving || message.status.is_empty() {
        return None;
    }
    Some(match message.id.as_str() {
        "" => format!("{}\n", message.status),
        id => format!("{id}: {}\n", message.status),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_api::{ErrorDetail, ProgressDetail};

    #[test]
    fn off_a_terminal_only_whole_steps_are_told() {
        let status = |id: &str, status: &str| JsonMessage {
            id: id.into(),
            status: status.into(),
            ..JsonMessage::default()
        };
        assert_eq!(
            plain(&status("", "Pulling from library/busybox")).as_deref(),
            Some("Pulling from library/busybox\n")
        );
        assert_eq!(
            plain(&status("abc", "Pull complete")).as_deref(),
            Some("abc: Pull complete\n")
        );
        let moving = JsonMessage {
            progress_detail: Some(ProgressDetail {
                current: 1,
                total: 2,
                ..ProgressDetail::default()
            }),
            ..status("abc", "Downloading")
        };
        assert_eq!(plain(&moving), None);
        let stream = JsonMessage {
            stream: "Loaded image: a:1\n".into(),
            ..JsonMessage::default()
        };
        assert_eq!(plain(&stream).as_deref(), Some("Loaded image: a:1\n"));
    }

    #[test]
    fn the_longer_error_is_told() {
        let message = JsonMessage {
            error: "short".into(),
            error_detail: Some(ErrorDetail {
                code: 0,
                message: "long".into(),
            }),
            ..JsonMessage::default()
        };
        assert_eq!(failure(&message).as_deref(), Some("long"));
        assert_eq!(failure(&JsonMessage::default()), None);
    }
}
