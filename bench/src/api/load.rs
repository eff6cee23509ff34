//! Load on a server: as fast as it answers, or at a pace that does not wait for it.

use std::thread;
use std::time::{Duration, Instant};

use super::wire::Connection;
use crate::stats::Samples;

/// What came of it.
pub(crate) struct Load {
    /// Calls answered.
    pub(crate) calls: usize,
    /// For how long, in s.
    pub(crate) seconds: f64,
    /// How long each answer took, in ms; at a pace, from when its request was due.
    pub(crate) took_ms: Samples,
}

impl Load {
    pub(crate) fn per_second(&self) -> f64 {
        self.calls as f64 / self.seconds
    }
}

/// Asks over some connections, over each again as soon as it is answered, for so long.
pub(crate) fn sustained(authority: &str, request: &[u8], connections: usize, lasts: Duration) -> Load {
    let began = Instant::now();
    let until = began + lasts;
    gather(began, connections, |_| {
        let mut connection = Connection::open(authority);
        let mut took = Vec::new();
        loop {
            let asked = Instant::now();
            if asked >= until {
                return took;
            }
            connection.exchange(request);
            took.push(asked.elapsed().as_secs_f64() * 1e3);
        }
    })
}

/// Asks `rate` times a second, whether the answers come or not: the connections take turns, and a request that finds its
/// connection busy is sent as soon as it is not, its time counted from when it was due. Each connection goes through
/// `requests` from another place.
pub(crate) fn paced(authority: &str, requests: &[&[u8]], connections: usize, rate: u32, lasts: Duration) -> Load {
    let every = Duration::from_secs(1) / rate;
    // Time for every connection to be there.
    let began = Instant::now() + Duration::from_millis(100);
    gather(began, connections, |index| {
        let mut connection = Connection::open(authority);
        let mut took = Vec::new();
        let mut requests = requests.iter().cycle().skip(index * requests.len() / connections);
        for number in (index as u32..).step_by(connections) {
            let due = began + every * number;
            if due >= began + lasts {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            connection.exchange(requests.next().expect("a cycle"));
            took.push(due.elapsed().as_secs_f64() * 1e3);
        }
        took
    })
}

/// Runs one thread for each connection.
fn gather(began: Instant, connections: usize, each: impl Fn(usize) -> Vec<f64> + Sync) -> Load {
    let took: Vec<f64> = thread::scope(|scope| {
        let each = &each;
        let threads: Vec<_> = (0..connections).map(|index| scope.spawn(move || each(index))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no client panics")).collect()
    });
    Load { calls: took.len(), seconds: began.elapsed().as_secs_f64(), took_ms: Samples::new(took) }
}
