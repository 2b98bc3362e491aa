//! Finding where the last entries of a log begin, from the end.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::files::{Segment, Source};
use super::local;
use super::reader::{Decoder, Step};
use super::settings::LogDriver;
use crate::limits;

/// Drops segments and moves positions so that at most the last `count` entries remain.
pub(super) fn keep_last(
    chain: &mut Vec<Segment>,
    driver: LogDriver,
    count: u64,
) -> std::io::Result<()> {
    if count == 0 {
        // Nothing of what is there, but everything that comes: stay at the end of the current file.
        if let Some(mut last) = chain.pop() {
            if let Source::Plain { file, position } = &mut last.source {
                *position = end_of(file, driver)?;
            }
            chain.clear();
            chain.push(last);
        }
        return Ok(());
    }
    let mut wanted = count;
    let mut first = chain.len();
    while wanted > 0 && first > 0 {
        first -= 1;
        let found = match &mut chain[first].source {
            Source::Plain { file, position } => {
                let (start, found) = match driver {
                    LogDriver::Local => last_records(file, wanted)?,
                    LogDriver::JsonFile | LogDriver::None => last_lines(file, wanted)?,
                };
                *position = start;
                found
            }
            Source::Gzip { .. } => {
                let total = count_entries(&mut chain[first].source, driver)?;
                rewind(&mut chain[first].source)?;
                if let Source::Gzip { skip, .. } = &mut chain[first].source {
                    *skip = total.saturating_sub(wanted);
                }
                total.min(wanted)
            }
        };
        wanted -= found;
    }
    if wanted == 0 {
        chain.drain(..first);
    }
    Ok(())
}

/// The offset behind the last whole entry.
fn end_of(file: &File, driver: LogDriver) -> std::io::Result<u64> {
    match driver {
        LogDriver::Local => whole_records(file),
        LogDriver::JsonFile | LogDriver::None => last_lines(file, 0).map(|(start, _)| start),
    }
}

/// The offset at which the last `count` lines begin, and how many there are. A line without its end does not count.
fn last_lines(file: &File, count: u64) -> std::io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    let mut buffer = vec![0; limits::LOG_READ_CHUNK];
    // Newlines seen so far: the n-th from the end closes the n-th line from the end.
    let mut newlines = 0;
    while end > 0 {
        let length = usize::try_from(end.min(buffer.len() as u64)).unwrap_or(buffer.len());
        let start = end - length as u64;
        file.read_exact_at(&mut buffer[..length], start)?;
        for (index, byte) in buffer[..length].iter().enumerate().rev() {
            if *byte == b'\n' {
                if newlines == count {
                    return Ok((start + index as u64 + 1, newlines));
                }
                newlines += 1;
            }
        }
        end = start;
    }
    Ok((0, newlines))
}

/// The same for records, by the lengths at their ends; by a pass from the beginning where these do not fit together.
fn last_records(file: &File, count: u64) -> std::io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let mut start = length;
    let mut found = 0;
    while found < count && start > 0 {
        match record_before(file, start)? {
            Some(previous) => {
                start = previous;
                found += 1;
            }
            None => return last_records_forward(file, count),
        }
    }
    Ok((start, found))
}

/// The offset of the record that ends at `end`.
fn record_before(file: &File, end: u64) -> std::io::Result<Option<u64>> {
    let frame = local::LENGTH as u64;
    if end < 2 * frame {
        return Ok(None);
    }
    let mut tail = [0; local::LENGTH];
    file.read_exact_at(&mut tail, end - frame)?;
    let Some(body) = local::body_length(tail) else {
        return Ok(None);
    };
    let Some(start) = end.checked_sub(body as u64 + 2 * frame) else {
        return Ok(None);
    };
    let mut head = [0; local::LENGTH];
    file.read_exact_at(&mut head, start)?;
    Ok((head == tail).then_some(start))
}

fn last_records_forward(file: &File, count: u64) -> std::io::Result<(u64, u64)> {
    let mut source = Source::Plain {
        file: file.try_clone()?,
        position: 0,
    };
    let total = count_entries(&mut source, LogDriver::Local)?;
    let mut pass = total.saturating_sub(count);
    let mut source = Source::Plain {
        file: file.try_clone()?,
        position: 0,
    };
    let mut decoder = Decoder::new(LogDriver::Local);
    while pass > 0 {
        match decoder.step(&mut source, true)? {
            Step::Entry(_) => pass -= 1,
            Step::End => break,
        }
    }
    Ok((decoder.position(&source), total.min(count)))
}

/// The length of the part of a file that consists of whole records.
pub(super) fn whole_records(file: &File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 || record_before(file, length)?.is_some() {
        return Ok(length);
    }
    let mut source = Source::Plain {
        file: file.try_clone()?,
        position: 0,
    };
    let mut decoder = Decoder::new(LogDriver::Local);
    let mut end = 0;
    while let Step::Entry(_) = decoder.step(&mut source, true)? {
        end = decoder.position(&source);
    }
    Ok(end)
}

fn count_entries(source: &mut Source, driver: LogDriver) -> std::io::Result<u64> {
    let mut decoder = Decoder::new(driver);
    let mut count = 0;
    while let Step::Entry(_) = decoder.step(source, true)? {
        count += 1;
    }
    Ok(count)
}

fn rewind(source: &mut Source) -> std::io::Result<()> {
    use std::io::Seek;
    if let Source::Gzip { decoder, .. } = source {
        let mut file = decoder.get_ref().get_ref().try_clone()?;
        file.rewind()?;
        **decoder = flate2::bufread::MultiGzDecoder::new(std::io::BufReader::new(file));
    }
    Ok(())
}

/// Whether a plain json-file log ends with a whole line, so that the next entry can simply be appended.
pub(super) fn ends_with_newline(file: &File) -> std::io::Result<bool> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.read_exact_at(&mut last, length - 1)?;
    Ok(last == [b'\n'])
}

/// The time of the last entry, so that a new writer continues after it even when the clock was set back.
pub(super) fn last_time(file: &File, driver: LogDriver) -> std::io::Result<Option<i128>> {
    let (start, found) = match driver {
        LogDriver::Local => last_records(file, 1)?,
        LogDriver::JsonFile => last_lines(file, 1)?,
        LogDriver::None => (0, 0),
    };
    if found == 0 {
        return Ok(None);
    }
    let mut source = Source::Plain {
        file: file.try_clone()?,
        position: start,
    };
    Ok(match Decoder::new(driver).step(&mut source, true)? {
        Step::Entry(entry) => Some(entry.time.unix_nanoseconds()),
        Step::End => None,
    })
}
