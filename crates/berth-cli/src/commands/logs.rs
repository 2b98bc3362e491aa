//! `logs`: what a container has written.

use std::io::Write;

use berth_api::LogsOptions;
use berth_api::framing::Stream;
use berth_types::timestamp::Timestamp;

use super::{Arity, Spec};
use crate::failure::Failure;
use crate::flags::{Flag, Operands, Parsed};
use crate::output::text;
use crate::session::{Session, output_failure};

pub(crate) const SPEC: Spec = Spec {
    group: "container",
    names: &["logs"],
    top: &["logs"],
    usage: "[OPTIONS] CONTAINER",
    about: "Show what a container has written",
    flags: || {
        vec![
            Flag::switch("details", "Show attributes of the log driver too"),
            Flag::switch("follow", "Go on with what is written from now on").short('f'),
            Flag::text(
                "since",
                "Show lines since a time (2013-01-02T13:23:37Z) or for so long (42m)",
            ),
            Flag::text("tail", "Show so many lines from the end")
                .short('n')
                .or("all"),
            Flag::switch("timestamps", "Show the time of each line").short('t'),
            Flag::text(
                "until",
                "Show lines before a time (2013-01-02T13:23:37Z) or so long ago (42m)",
            ),
        ]
    },
    operands: Operands::Mixed,
    arity: Arity::Exactly(1),
    run,
};

/// A time as the API takes it: seconds with nine places. Empty stays empty.
pub(crate) fn moment(value: &str) -> Result<String, Failure> {
    if value.is_empty() {
        return Ok(String::new());
    }
    let moment = Timestamp::parse_relative(value, text::now())
        .map_err(|error| Failure::new(error.to_string()))?;
    let nanoseconds = moment.unix_nanoseconds().rem_euclid(1_000_000_000);
    Ok(format!("{}.{nanoseconds:09}", moment.unix_seconds()))
}

fn named(flag: &str, value: &str) -> Result<String, Failure> {
    moment(value).map_err(|failure| {
        Failure::new(format!("invalid value for \"{flag}\": {}", failure.message))
    })
}

fn run(session: &Session, parsed: &Parsed) -> Result<(), Failure> {
    let options = LogsOptions {
        follow: parsed.switch("follow"),
        stdout: true,
        stderr: true,
        since: named("since", parsed.text("since"))?,
        until: named("until", parsed.text("until"))?,
        timestamps: parsed.switch("timestamps"),
        details: parsed.switch("details"),
        tail: parsed.text("tail").to_owned(),
        tty: false,
    };
    session.block_on(async {
        let client = session.client()?;
        let mut log = client
            .container_logs(&parsed.operands[0], &options)
            .await
            .map_err(|error| session.failure(error))?;
        let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
        while let Some((stream, bytes)) =
            log.next().await.map_err(|error| session.failure(error))?
        {
            let written = match stream {
                Stream::Stderr => stderr.write_all(&bytes).and_then(|()| stderr.flush()),
                _ => stdout.write_all(&bytes).and_then(|()| stdout.flush()),
            };
            written.map_err(output_failure)?;
        }
        Ok(())
    })
}
