//! A log file that its writer rotates: `ecs-agent.log` is always the current one, `ecs-agent.log.<time>` are older.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

const HOUR_S: i64 = 3600;

/// When a file is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollover {
    /// Before it grows beyond so many bytes.
    Size(u64),
    /// With the first line of an hour.
    Hourly,
    Never,
}

/// Appends to a file. What cannot be written, because the disk is full for instance, is counted, and the count is written
/// when it works again: a log is no reason to stop working.
#[derive(Debug)]
pub(super) struct RollingFile {
    path: PathBuf,
    file: File,
    len: u64,
    hour: i64,
    rollover: Rollover,
    kept: usize,
    last_roll: Timestamp,
    lost_lines: u64,
}

impl RollingFile {
    /// Opens the file, with its folder, to add to it.
    pub(super) fn open(path: &Path, rollover: Rollover, kept: usize) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let metadata = file.metadata()?;
        // A file of an earlier hour is set aside with the first line, as if this process had written it.
        let hour = if metadata.len() == 0 { this_hour() } else { metadata.mtime().div_euclid(HOUR_S) };
        let (path, len) = (path.to_owned(), metadata.len());
        Ok(Self { path, file, len, hour, rollover, kept, last_roll: Timestamp::MIN, lost_lines: 0 })
    }

    /// Whether standard error goes to this very file: whoever starts us may want what we say outside of logging, such as
    /// a panic, in the same place.
    pub(super) fn is_stderr(&self) -> bool {
        leads_to(io::stderr(), &self.file)
    }

    fn is_due(&self, more: u64) -> bool {
        match self.rollover {
            Rollover::Size(limit) => self.len > 0 && self.len + more > limit,
            Rollover::Hourly => this_hour() != self.hour,
            Rollover::Never => false,
        }
    }

    fn roll(&mut self) -> io::Result<()> {
        let old = self.file.try_clone()?;
        if self.kept == 0 {
            fs::remove_file(&self.path)?;
        } else {
            let aside = self.name_for_now();
            fs::rename(&self.path, aside)?;
        }
        self.file = append(&self.path)?;
        self.len = 0;
        self.hour = this_hour();
        // What was ours stays ours: the streams that led to the old file now lead to the new one.
        if leads_to(io::stdout(), &old) {
            rustix::stdio::dup2_stdout(&self.file)?;
        }
        if leads_to(io::stderr(), &old) {
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        for oldest in self.older_files()?.iter().rev().skip(self.kept) {
            fs::remove_file(oldest)?;
        }
        Ok(())
    }

    /// `<path>.<time>`, which sorts by time and names no file that is there.
    fn name_for_now(&mut self) -> PathBuf {
        const STEP: jiff::SignedDuration = jiff::SignedDuration::from_millis(1);
        // Later than the one before, also when that one is gone by now, and the clock was set back.
        let mut time = Timestamp::now().max(self.last_roll.saturating_add(STEP).unwrap_or(Timestamp::MAX));
        loop {
            let text = time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H-%M-%S.%3fZ").to_string();
            let name = self.beside(&text);
            if !name.exists() {
                self.last_roll = time;
                return name;
            }
            time += STEP;
        }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    /// Files that were set aside, the oldest first.
    fn older_files(&self) -> io::Result<Vec<PathBuf>> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = |path: &PathBuf| {
            let suffix = path.file_name().and_then(|other| other.to_str()?.strip_prefix(&name)?.strip_prefix('.'));
            suffix.is_some_and(|suffix| suffix.len() > 10 && suffix.starts_with(|c: char| c.is_ascii_digit()))
        };
        let entries: Vec<PathBuf> = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
        let mut files: Vec<PathBuf> = entries.into_iter().filter(is_ours).collect();
        files.sort_unstable();
        Ok(files)
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        self.len += line.len() as u64;
        Ok(())
    }
}

impl Write for RollingFile {
    /// Takes a whole line, as the formatter gives it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.is_due(line.len() as u64) {
            // A file that cannot be set aside grows on; better than no log.
            let _ = self.roll();
        }
        if self.lost_lines > 0 {
            let note = format!("level=warn msg=\"log lines could not be written\" lines={}\n", self.lost_lines);
            if self.put(note.as_bytes()).is_ok() {
                self.lost_lines = 0;
            }
        }
        if self.put(line).is_err() {
            self.lost_lines += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

fn leads_to(stream: impl AsFd, file: &File) -> bool {
    match (rustix::fs::fstat(stream), rustix::fs::fstat(file)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

fn this_hour() -> i64 {
    Timestamp::now().as_second().div_euclid(HOUR_S)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_file_is_set_aside_before_it_is_too_big_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/agent.log");
        let mut log = RollingFile::open(&path, Rollover::Size(20), 2).unwrap();
        fs::write(folder.path().join("log/agent.log.gz"), "not ours").unwrap();
        for line in 0..7 {
            log.write_all(format!("line number {line}\n").as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "line number 6\n");
        let all = names(&folder.path().join("log"));
        assert_eq!(all.len(), 4, "{all:?}");
        let older = log.older_files().unwrap();
        let texts: Vec<String> = older.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(texts, ["line number 4\n", "line number 5\n"]);
    }

    #[test]
    fn a_line_longer_than_the_limit_is_written_whole_and_nothing_is_kept_if_nothing_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RollingFile::open(&path, Rollover::Size(4), 0).unwrap();
        for line in ["one and more\n", "two and more\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(names(folder.path()), ["log"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two and more\n");
    }

    #[test]
    fn a_file_of_an_earlier_hour_is_set_aside_with_the_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "old\n").unwrap();
        let before = SystemTime::now() - Duration::from_secs(3 * 3600);
        File::options().append(true).open(&path).unwrap().set_modified(before).unwrap();
        let mut log = RollingFile::open(&path, Rollover::Hourly, 24).unwrap();
        log.write_all(b"new\n").unwrap();
        log.write_all(b"newer\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\nnewer\n");
        assert_eq!(log.older_files().unwrap().len(), 1);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RollingFile::open(&path, Rollover::Never, 1).unwrap();
        let good = std::mem::replace(&mut log.file, File::open(&path).unwrap());
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        log.file = good;
        log.write_all(b"three\n").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "level=warn msg=\"log lines could not be written\" lines=2\nthree\n");
    }
}
