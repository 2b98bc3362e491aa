//! Writing a log: output in pieces → lines → entries → the current file, rotated by size.
//!
//! Nothing here stops a container. When the disk is full (or the file system is read-only, or failing) entries are counted
//! instead of written, and the first entry that can be written again is preceded by one that says how many are missing.
//! Nothing is flushed to disk by us: what a power cut may take is the same as for any program that writes a file.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::compress::Compression;
use super::entry::StreamKind;
use super::json_file::{self, TimeText};
use super::local;
use super::rotation::Running;
use super::settings::{LogDriver, LogMode, LogSettings};
use super::tail;
use crate::limits;

/// A log being written.
pub(crate) struct LogWriter {
    pub(super) settings: LogSettings,
    pub(super) file: Option<File>,
    /// Bytes of the file that are whole entries.
    pub(super) size: u64,
    /// The beginning of a line of each stream.
    pending: [Vec<u8>; 2],
    /// The attributes of every entry, as JSON.
    attributes: Vec<u8>,
    last_time: i128,
    /// Encoded entries that are not written yet, and how many.
    out: Vec<u8>,
    out_entries: u64,
    /// `out` begins with an entry that tells of missing ones.
    marked: bool,
    /// What the clock says, second by second.
    text: TimeText,
    missing: Missing,
    /// Entries that wait, in non-blocking mode.
    queue: VecDeque<Queued>,
    queued_bytes: u64,
    pub(super) how: Compression,
    pub(super) running: Option<Running>,
}

#[derive(Default)]
struct Missing {
    entries: u64,
    reason: String,
}

struct Queued {
    stream: StreamKind,
    time: i128,
    line: Box<[u8]>,
    complete: bool,
}

impl LogWriter {
    /// Opens or creates the current file. What a crash tore at its end is closed off.
    pub(crate) fn open(settings: &LogSettings, how: Compression) -> berth_sys::Result<Self> {
        let mut writer = Self {
            settings: settings.clone(),
            file: None,
            size: 0,
            pending: [Vec::new(), Vec::new()],
            attributes: json_file::encode_attributes(&settings.attributes),
            last_time: 0,
            out: Vec::new(),
            out_entries: 0,
            marked: false,
            text: TimeText::default(),
            missing: Missing::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            how,
            running: None,
        };
        if settings.driver != LogDriver::None {
            let file = writer.open_file()?;
            let attempt = |error| {
                berth_sys::Error::new(
                    format!("take up the log {}", settings.path.display()),
                    error,
                )
            };
            writer.size = writer.mend(&file).map_err(attempt)?;
            writer.last_time = tail::last_time(&file, settings.driver)
                .map_err(attempt)?
                .unwrap_or(0);
            writer.file = Some(file);
            // What the last writer did not get to.
            writer.compress_next();
        }
        Ok(writer)
    }

    /// Takes output as it was read from the container.
    pub(crate) fn output(&mut self, stream: StreamKind, mut data: &[u8]) {
        if self.settings.driver == LogDriver::None {
            return;
        }
        while !data.is_empty() {
            let held = self.pending[stream.index()].len();
            let room = limits::MAX_LOG_LINE - held;
            let window = &data[..data.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n');
            let (line, complete, used) = match end {
                Some(end) => (&window[..end], true, end + 1),
                // As much as one entry may hold, and the line goes on.
                None if window.len() == room => (window, false, window.len()),
                None => {
                    self.pending[stream.index()].extend_from_slice(window);
                    break;
                }
            };
            if held == 0 {
                self.entry(stream, line, complete);
            } else {
                let mut whole = std::mem::take(&mut self.pending[stream.index()]);
                whole.extend_from_slice(line);
                self.entry(stream, &whole, complete);
            }
            data = &data[used..];
        }
        self.write_out();
    }

    /// The stream has ended: what there is of its last line becomes an entry without a newline.
    pub(crate) fn end_of_stream(&mut self, stream: StreamKind) {
        let rest = std::mem::take(&mut self.pending[stream.index()]);
        if !rest.is_empty() && self.settings.driver != LogDriver::None {
            self.entry(stream, &rest, false);
        }
        self.write_out();
    }

    /// Writes everything, the queue of non-blocking mode included, and leaves the files alone from then on.
    pub(crate) fn finish(&mut self) {
        self.flush();
        self.stop_compression();
    }

    fn flush(&mut self) {
        while self.has_queue() {
            self.write_queued();
        }
        self.write_out();
    }

    /// Whether entries wait for a quiet moment.
    pub(crate) fn has_queue(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Writes some of what waits.
    pub(crate) fn write_queued(&mut self) {
        for _ in 0..limits::LOG_BATCH {
            let Some(entry) = self.queue.pop_front() else {
                break;
            };
            self.queued_bytes -= entry.line.len() as u64;
            self.encode(entry.stream, &entry.line, entry.complete, entry.time);
        }
        self.write_out();
    }

    /// Gives memory back that is only needed while there is output.
    pub(crate) fn shrink(&mut self) {
        self.out = Vec::new();
        self.queue.shrink_to_fit();
        for pending in &mut self.pending {
            pending.shrink_to_fit();
        }
    }

    pub(super) fn open_file(&self) -> berth_sys::Result<File> {
        let path = &self.settings.path;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o640);
        match (berth_sys::fs::open(path, &options), path.parent()) {
            // The driver's own directory inside the container's.
            (Err(error), Some(parent)) if error.is_not_found() => {
                berth_sys::fs::create_dir_all_mode(parent, 0o700)?;
                berth_sys::fs::open(path, &options)
            }
            (result, _) => result,
        }
    }

    /// Makes the end of the file the end of an entry; returns its length.
    fn mend(&self, mut file: &File) -> io::Result<u64> {
        match self.settings.driver {
            LogDriver::Local => {
                let whole = tail::whole_records(file)?;
                if whole != file.metadata()?.len() {
                    file.set_len(whole)?;
                }
            }
            LogDriver::JsonFile | LogDriver::None => {
                // Closed off rather than cut: somebody may have edited the file.
                if !tail::ends_with_newline(file)? {
                    file.write_all(b"\n")?;
                }
            }
        }
        Ok(file.metadata()?.len())
    }

    fn entry(&mut self, stream: StreamKind, line: &[u8], complete: bool) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i128::try_from(since.as_nanos()).unwrap_or(0));
        // Strictly increasing, so that a reader can tell what it has seen across a rotation.
        let time = now.max(self.last_time + 1);
        self.last_time = time;
        if let LogMode::NonBlocking { buffer } = self.settings.mode {
            if !self.queue.is_empty() && self.queued_bytes + line.len() as u64 > buffer {
                self.lose(1, "the log buffer is full");
                return;
            }
            self.queued_bytes += line.len() as u64;
            self.queue.push_back(Queued {
                stream,
                time,
                line: line.into(),
                complete,
            });
            return;
        }
        self.encode(stream, line, complete, time);
    }

    fn encode(&mut self, stream: StreamKind, line: &[u8], complete: bool, time: i128) {
        if self
            .settings
            .max_size
            .is_some_and(|max| self.size + self.out.len() as u64 >= max)
        {
            self.write_out();
            self.rotate();
        }
        if self.out.is_empty() && self.missing.entries > 0 {
            let text = format!(
                "berth: {} log entries are missing here: {}",
                self.missing.entries, self.missing.reason
            );
            self.append(StreamKind::Stderr, text.as_bytes(), true, time);
            // Not counted: if it cannot be written, it is made anew with the right number.
            self.out_entries = 0;
            self.marked = true;
        }
        self.append(stream, line, complete, time);
    }

    fn append(&mut self, stream: StreamKind, line: &[u8], complete: bool, time: i128) {
        match self.settings.driver {
            LogDriver::None => return,
            LogDriver::JsonFile => json_file::encode(
                line,
                complete,
                stream,
                time,
                &self.attributes,
                &mut self.text,
                &mut self.out,
            ),
            LogDriver::Local => {
                local::encode(
                    line,
                    complete,
                    stream,
                    time,
                    &self.attributes,
                    &mut self.out,
                );
            }
        }
        self.out_entries += 1;
    }

    fn write_out(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let (written, result) = match &self.file {
            Some(file) => write_as_far_as_possible(file, &self.out),
            None => (0, Err(io::Error::from(io::ErrorKind::NotFound))),
        };
        let entries = std::mem::take(&mut self.out_entries);
        let marked = std::mem::take(&mut self.marked);
        match result {
            Ok(()) => {
                self.size += self.out.len() as u64;
                self.missing = Missing::default();
            }
            Err(error) => {
                let (length, kept) = whole_entries(self.settings.driver, &self.out[..written]);
                self.size += length as u64;
                // Readers must not see half an entry before the next whole one.
                if let Some(file) = &self.file {
                    let _ = file.set_len(self.size);
                }
                if marked && kept > 0 {
                    self.missing = Missing::default();
                }
                let kept = kept.saturating_sub(u64::from(marked));
                self.lose(entries - kept.min(entries), &error.to_string());
            }
        }
        self.out.clear();
        if self.out.capacity() > 4 * limits::READ_CHUNK {
            self.out = Vec::new();
        }
    }

    fn lose(&mut self, entries: u64, reason: &str) {
        self.missing.entries += entries;
        if self.missing.reason.is_empty() {
            reason.clone_into(&mut self.missing.reason);
        }
    }
}

fn write_as_far_as_possible(mut file: &File, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// How many bytes of `bytes` are whole entries, and how many entries these are.
fn whole_entries(driver: LogDriver, bytes: &[u8]) -> (usize, u64) {
    let mut length = 0;
    let mut count = 0;
    loop {
        let rest = &bytes[length..];
        let next = match driver {
            LogDriver::Local => match local::frame(rest) {
                local::Record::Whole(length, _) => Some(length),
                _ => None,
            },
            LogDriver::JsonFile | LogDriver::None => rest
                .iter()
                .position(|byte| *byte == b'\n')
                .map(|end| end + 1),
        };
        match next {
            Some(next) => {
                length += next;
                count += 1;
            }
            None => return (length, count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::{LogReader, ReadRequest};
    use super::*;
    use std::collections::BTreeMap;

    fn settings(dir: &tempfile::TempDir, driver: LogDriver) -> LogSettings {
        LogSettings {
            driver,
            path: dir.path().join("log"),
            max_size: None,
            max_files: 1,
            compress: false,
            mode: LogMode::Blocking,
            attributes: BTreeMap::new(),
        }
    }

    fn read(settings: &LogSettings, request: ReadRequest) -> Vec<String> {
        let mut reader = LogReader::open(settings, request).unwrap();
        let mut all = Vec::new();
        loop {
            let batch = reader.next_batch().unwrap();
            if batch.is_empty() {
                return all;
            }
            all.extend(
                batch
                    .into_iter()
                    .map(|entry| String::from_utf8(entry.bytes).unwrap()),
            );
        }
    }

    fn both() -> [LogDriver; 2] {
        [LogDriver::JsonFile, LogDriver::Local]
    }

    #[test]
    fn pieces_become_lines_and_long_lines_pieces() {
        for driver in both() {
            let dir = tempfile::tempdir().unwrap();
            let settings = settings(&dir, driver);
            let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
            writer.output(StreamKind::Stdout, b"one\ntw");
            writer.output(StreamKind::Stderr, b"err\n");
            writer.output(StreamKind::Stdout, b"o\n\nlast");
            writer.end_of_stream(StreamKind::Stdout);
            let long = vec![b'x'; limits::MAX_LOG_LINE + 5];
            for piece in long.chunks(1000) {
                writer.output(StreamKind::Stdout, piece);
            }
            writer.output(StreamKind::Stdout, b"\n");
            let lines = read(&settings, ReadRequest::default());
            assert_eq!(lines[..5], ["one\n", "err\n", "two\n", "\n", "last"]);
            assert_eq!(lines[5].len(), limits::MAX_LOG_LINE);
            assert_eq!(lines[6], "xxxxx\n");
            let stderr = ReadRequest {
                stdout: false,
                ..ReadRequest::default()
            };
            assert_eq!(read(&settings, stderr), ["err\n"]);
        }
    }

    #[test]
    fn a_torn_end_is_skipped_and_writing_goes_on() {
        for driver in both() {
            let dir = tempfile::tempdir().unwrap();
            let settings = settings(&dir, driver);
            let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
            writer.output(StreamKind::Stdout, b"first\nsecond\n");
            drop(writer);
            let file = OpenOptions::new().write(true).open(&settings.path).unwrap();
            file.set_len(file.metadata().unwrap().len() - 5).unwrap();
            assert_eq!(read(&settings, ReadRequest::default()), ["first\n"]);
            let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
            writer.output(StreamKind::Stdout, b"third\n");
            assert_eq!(
                read(&settings, ReadRequest::default()),
                ["first\n", "third\n"]
            );
        }
    }

    #[test]
    fn rotation_keeps_the_last_files_in_order() {
        for driver in both() {
            for compress in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let mut settings = settings(&dir, driver);
                settings.max_size = Some(2000);
                settings.max_files = 4;
                settings.compress = compress;
                let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
                for number in 0..1000 {
                    writer.output(StreamKind::Stdout, format!("line {number}\n").as_bytes());
                }
                let names = berth_sys::fs::list(dir.path()).unwrap();
                assert_eq!(names.len(), 4, "{names:?}");
                let lines = read(&settings, ReadRequest::default());
                let first = 1000 - lines.len();
                assert!(lines.len() > 50, "{} lines kept", lines.len());
                let expected: Vec<_> = (first..1000)
                    .map(|number| format!("line {number}\n"))
                    .collect();
                assert_eq!(lines, expected);
                for count in [0, 1, 7, lines.len() - 1, lines.len(), 5000] {
                    let tail = ReadRequest {
                        tail: Some(count as u64),
                        ..ReadRequest::default()
                    };
                    let from = lines.len().saturating_sub(count);
                    assert_eq!(
                        read(&settings, tail),
                        lines[from..],
                        "tail {count} {driver:?} {compress}"
                    );
                }
            }
        }
    }

    #[test]
    fn since_and_until_bound_what_is_read() {
        for driver in both() {
            let dir = tempfile::tempdir().unwrap();
            let settings = settings(&dir, driver);
            let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
            writer.output(StreamKind::Stdout, b"a\nb\nc\nd\n");
            let mut reader = LogReader::open(&settings, ReadRequest::default()).unwrap();
            let times: Vec<_> = reader
                .next_batch()
                .unwrap()
                .iter()
                .map(|entry| entry.time)
                .collect();
            assert!(times.is_sorted_by(|a, b| a < b));
            let request = ReadRequest {
                since: Some(times[1]),
                until: Some(times[2]),
                ..ReadRequest::default()
            };
            assert_eq!(read(&settings, request), ["b\n", "c\n"]);
        }
    }

    #[test]
    fn a_reader_follows_through_rotations() {
        for driver in both() {
            for compress in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let mut settings = settings(&dir, driver);
                settings.max_size = Some(500);
                settings.max_files = 200;
                settings.compress = compress;
                let mut reader = LogReader::open(&settings, ReadRequest::default()).unwrap();
                let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
                let mut seen = Vec::new();
                for number in 0..300 {
                    writer.output(StreamKind::Stdout, format!("{number}\n").as_bytes());
                    if number % 37 == 0 {
                        seen.extend(reader.next_batch().unwrap());
                    }
                }
                loop {
                    let batch = reader.next_batch().unwrap();
                    if batch.is_empty() {
                        break;
                    }
                    seen.extend(batch);
                }
                let seen: Vec<_> = seen
                    .into_iter()
                    .map(|e| String::from_utf8(e.bytes).unwrap())
                    .collect();
                let expected: Vec<_> = (0..300).map(|number| format!("{number}\n")).collect();
                assert_eq!(seen, expected, "{driver:?} {compress}");
            }
        }
    }

    #[test]
    fn a_full_disk_loses_entries_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir, LogDriver::JsonFile);
        let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
        writer.output(StreamKind::Stdout, b"before\n");
        let good = writer.file.take();
        writer.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        writer.output(StreamKind::Stdout, b"lost\nlost\n");
        writer.output(StreamKind::Stdout, b"lost\n");
        writer.file = good;
        writer.output(StreamKind::Stdout, b"after\n");
        let lines = read(&settings, ReadRequest::default());
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(
            lines[1].contains("3 log entries are missing here: No space left"),
            "{lines:?}"
        );
        assert_eq!(lines[2], "after\n");
    }

    #[test]
    fn a_full_buffer_drops_in_non_blocking_mode_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(&dir, LogDriver::Local);
        settings.mode = LogMode::NonBlocking { buffer: 10 };
        let mut writer = LogWriter::open(&settings, Compression::Here).unwrap();
        writer.output(StreamKind::Stdout, b"12345\n1234\n1234567\n");
        assert!(writer.has_queue());
        assert!(read(&settings, ReadRequest::default()).is_empty());
        writer.finish();
        let lines = read(&settings, ReadRequest::default());
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.contains(&"12345\n".to_owned()) && lines.contains(&"1234\n".to_owned()));
        assert!(
            lines
                .iter()
                .any(|line| line.contains("1 log entries are missing"))
        );
    }
}
