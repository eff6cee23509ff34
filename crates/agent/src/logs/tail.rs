//! One open stream of a container's output, read page by page.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::position::{Again, Position};
use super::stream::{Entry, Parser};
use crate::engine::docker::{DockerError, LogChunks};

/// Once there is something to say, what is printed within this goes with it: a line at a time would cost a call each.
const GATHER: Duration = Duration::from_millis(100);
/// What an entry costs in an answer beside its bytes: names, braces, its time.
const ENTRY_OVERHEAD: usize = 96;

/// What was read at once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    /// The stream has ended with these.
    pub(super) end: bool,
}

/// A stream and where it stands.
pub(super) struct Tail {
    chunks: LogChunks,
    parser: Parser,
    position: Position,
    again: Again,
    /// Read already, and for the next page.
    pending: Option<Entry>,
    follow: bool,
    ended: bool,
    /// The Engine failed when something had been read: whoever asks for more opens another stream.
    broken: bool,
}

impl Tail {
    /// `follow` says that more may come at any time.
    pub(super) fn new(chunks: LogChunks, position: Position, tty: bool, follow: bool) -> Self {
        let again = position.again();
        let (pending, parser) = (None, Parser::new(tty));
        Self { chunks, parser, position, again, pending, follow, ended: false, broken: false }
    }

    /// Where the last page ended.
    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// What is there, or comes until then, and costs no more than `room` in an answer.
    ///
    /// # Errors
    /// When the Engine fails before anything was read.
    pub(super) async fn read(&mut self, room: usize, until: Instant) -> Result<Page, DockerError> {
        let (mut page, mut left, mut until) = (Page::default(), room, until);
        loop {
            loop {
                let entry = match self.next() {
                    Ok(Some(entry)) => entry,
                    Ok(None) => break,
                    Err(error) if page.entries.is_empty() => return Err(error),
                    // What was read before is shown; whoever reads on meets the error.
                    Err(_) => {
                        self.broken = true;
                        return Ok(page);
                    }
                };
                let cost = entry.data.len().div_ceil(3) * 4 + ENTRY_OVERHEAD;
                if cost > left && !page.entries.is_empty() {
                    self.pending = Some(entry);
                    return Ok(page);
                }
                if page.entries.is_empty() && self.follow {
                    until = until.min(Instant::now() + GATHER);
                }
                left = left.saturating_sub(cost);
                self.position.advance(entry.time);
                page.entries.push(entry);
            }
            if self.ended {
                page.end = true;
                return Ok(page);
            }
            match timeout_at(until, self.chunks.recv()).await {
                Err(_elapsed) => return Ok(page),
                Ok(Some(Ok(bytes))) => self.parser.push(&bytes),
                Ok(None) => self.ended = true,
                Ok(Some(Err(error))) if page.entries.is_empty() => return Err(error),
                Ok(Some(Err(_))) => {
                    self.broken = true;
                    return Ok(page);
                }
            }
        }
    }

    /// The next entry that was not read before.
    fn next(&mut self) -> Result<Option<Entry>, DockerError> {
        if let Some(entry) = self.pending.take() {
            return Ok(Some(entry));
        }
        let unreadable = |detail| DockerError::Protocol { call: "logs", detail };
        loop {
            let next = self.parser.next().map_err(unreadable)?;
            let next = if self.ended { next.or_else(|| self.parser.rest()) } else { next };
            match next {
                Some(entry) if self.again.is(entry.time) => {}
                next => return Ok(next),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::mpsc;

    use super::super::stream::tests::frame;
    use super::*;

    type Printer = mpsc::Sender<Result<Bytes, DockerError>>;

    fn tail(follow: bool) -> (Printer, Tail) {
        let (printer, chunks) = mpsc::channel(64);
        (printer, Tail::new(chunks, Position::at_millis(0), false, follow))
    }

    fn print(printer: &Printer, second: i64, text: &str) {
        printer.try_send(Ok(frame(second, false, text.as_bytes()).into())).unwrap();
    }

    fn words(page: &Page) -> Vec<&str> {
        page.entries.iter().map(|entry| std::str::from_utf8(&entry.data).unwrap()).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn pages_are_cut_by_their_size_and_nothing_is_lost_between_them() {
        let (printer, mut tail) = tail(false);
        for second in 1..=5 {
            print(&printer, second, &format!("line {second}\n"));
        }
        drop(printer);
        let room = 2 * (12 + ENTRY_OVERHEAD);
        let mut all = Vec::new();
        loop {
            let page = tail.read(room, soon()).await.unwrap();
            assert!(page.entries.len() <= 2);
            all.extend(words(&page).into_iter().map(str::to_owned));
            if page.end {
                break;
            }
        }
        assert_eq!(all, ["line 1\n", "line 2\n", "line 3\n", "line 4\n", "line 5\n"]);
        // An entry that is larger than any page is a page of its own.
        let (printer, mut tail) = self::tail(false);
        print(&printer, 1, &"x".repeat(2000));
        print(&printer, 2, "y");
        assert_eq!(tail.read(100, soon()).await.unwrap().entries.len(), 1);
    }

    #[tokio::test]
    async fn who_follows_is_answered_as_soon_as_there_is_something() {
        let (printer, mut tail) = tail(true);
        let began = Instant::now();
        let short = Duration::from_millis(50);
        assert_eq!(tail.read(1000, began + short).await.unwrap(), Page::default());
        assert!(began.elapsed() >= short);
        print(&printer, 1, "a\n");
        let began = Instant::now();
        let page = tail.read(1000, soon()).await.unwrap();
        assert_eq!((words(&page), page.end), (vec!["a\n"], false));
        assert!((GATHER..GATHER * 30).contains(&began.elapsed()), "{:?}", began.elapsed());
        print(&printer, 2, "b\n");
        drop(printer);
        let page = tail.read(1000, soon()).await.unwrap();
        assert_eq!((words(&page), page.end), (vec!["b\n"], true));
    }

    #[tokio::test]
    async fn another_stream_goes_on_where_the_last_one_was() {
        let (printer, mut first) = tail(false);
        for second in [1, 1, 2] {
            print(&printer, second, "old\n");
        }
        first.read(10_000, soon()).await.unwrap();
        let position: Position = first.position().to_string().parse().unwrap();
        let (printer, chunks) = mpsc::channel(64);
        let mut second = Tail::new(chunks, position, false, false);
        for (second, text) in [(1, "old\n"), (1, "old\n"), (2, "old\n"), (2, "new\n"), (3, "new\n")] {
            print(&printer, second, text);
        }
        drop(printer);
        assert_eq!(words(&second.read(10_000, soon()).await.unwrap()), ["new\n", "new\n"]);
    }

    #[tokio::test]
    async fn an_engine_that_fails_is_an_error_unless_something_was_read() {
        let failure = || Err(DockerError::Broken("gone".into()));
        let (printer, mut tail) = tail(true);
        printer.try_send(failure()).unwrap();
        assert!(tail.read(1000, soon()).await.is_err());
        let (printer, mut tail) = self::tail(true);
        print(&printer, 1, "a\n");
        printer.try_send(failure()).unwrap();
        let page = tail.read(1000, soon()).await.unwrap();
        assert!(words(&page) == ["a\n"] && !page.end && tail.is_broken());
    }
}
