//! All open connections, and which of them goes when there is no room for another: the one that has been quiet for longest.
//! So silent connections, however many a stranger opens, never keep anybody out; they only push each other away.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::limits::{EVICTION_CANDIDATES, EVICTION_GRACE, EdgeLimits};

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    seats: Mutex<Seats>,
    /// Told whenever one ends.
    left: Notify,
}

#[derive(Debug, Default)]
struct Seats {
    last: u64,
    taken: HashMap<u64, Arc<Activity>>,
    /// Those that were quiet for longest when it was last looked, the quietest one last. Looking costs as much as there are
    /// connections, so it is done once for many.
    quietest: Vec<(Instant, u64)>,
}

/// The place of one connection, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    number: u64,
    pub(super) activity: Arc<Activity>,
}

impl Crowd {
    /// A seat for a new connection, once fewer than `capacity` are taken: the quietest one is asked to leave for it. While all
    /// of them are being answered it waits for the first that ends, or has nothing more to do.
    pub(super) async fn admit(self: &Arc<Self>, capacity: impl Fn() -> usize) -> Seat {
        loop {
            let left = self.left.notified();
            {
                let mut seats = self.seats();
                if seats.taken.len() < capacity().max(1) {
                    return self.seat(&mut seats);
                }
                seats.evict_one();
            }
            // Whoever was asked may have got a call meanwhile, and stays for its answer: then another one goes.
            let _ = timeout(EVICTION_GRACE, left).await;
        }
    }

    /// Asks the quietest connection to leave, because the process cannot have more.
    pub(super) fn shrink(&self) {
        self.seats().evict_one();
    }

    fn seat(self: &Arc<Self>, seats: &mut Seats) -> Seat {
        let activity = Arc::new(Activity::new());
        seats.last += 1;
        seats.taken.insert(seats.last, Arc::clone(&activity));
        Seat { crowd: Arc::clone(self), number: seats.last, activity }
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    fn evict_one(&mut self) {
        if self.quietest.is_empty() {
            self.look();
        }
        while let Some((since, number)) = self.quietest.pop() {
            let still_quiet = |activity: &&Arc<Activity>| activity.quiet_since() == since && activity.may_go();
            if let Some(activity) = self.taken.get(&number).filter(still_quiet) {
                return activity.evict();
            }
        }
    }

    fn look(&mut self) {
        let quiet = self.taken.iter().filter(|(_, activity)| activity.may_go());
        self.quietest = quiet.map(|(number, activity)| (activity.quiet_since(), *number)).collect();
        if self.quietest.len() > EVICTION_CANDIDATES {
            self.quietest.select_nth_unstable(EVICTION_CANDIDATES);
            self.quietest.truncate(EVICTION_CANDIDATES);
        }
        self.quietest.sort_unstable_by(|one, two| two.cmp(one));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.seats().taken.remove(&self.number);
        self.crowd.left.notify_waiters();
    }
}

/// What a connection is doing: whether it is idle, and whether it may go.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests under way.
    requests: AtomicUsize,
    /// Those of them that are not here yet as a whole.
    arriving: AtomicUsize,
    /// A first request arrived: the longer allowance applies.
    began: AtomicBool,
    /// When it was accepted, or a request last began or ended.
    quiet_since: Mutex<Instant>,
    /// It has been asked to leave.
    evicted: AtomicBool,
    leave: Notify,
}

impl Activity {
    fn new() -> Self {
        Self {
            requests: AtomicUsize::new(0),
            arriving: AtomicUsize::new(0),
            began: AtomicBool::new(false),
            quiet_since: Mutex::new(Instant::now()),
            evicted: AtomicBool::new(false),
            leave: Notify::new(),
        }
    }

    /// Marks a request as under way until the guard is dropped.
    pub(super) fn begin(activity: &Arc<Self>) -> Busy {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.arriving.fetch_add(1, Ordering::Relaxed);
        activity.began.store(true, Ordering::Relaxed);
        activity.touch();
        Busy { activity: Arc::clone(activity), arriving: true }
    }

    /// A request's headers arrived, once.
    pub(super) fn began(&self) -> bool {
        self.began.load(Ordering::Relaxed)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    pub(super) fn quiet_since(&self) -> Instant {
        *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it may go on being quiet. One that never sent a request is still within its first headers.
    pub(super) fn allowance(&self, limits: &EdgeLimits) -> Duration {
        if self.began() { limits.idle_timeout } else { limits.header_timeout }
    }

    /// Waits until it is asked to leave.
    pub(super) async fn evicted(&self) {
        self.leave.notified().await;
    }

    /// Whether a request is here as a whole and has no answer yet: what arrives slowly may be sent again, what was carried out
    /// may not.
    fn is_answering(&self) -> bool {
        self.requests.load(Ordering::Relaxed) != self.arriving.load(Ordering::Relaxed)
    }

    fn may_go(&self) -> bool {
        !self.is_answering() && !self.evicted.load(Ordering::Relaxed)
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Relaxed);
        self.leave.notify_one();
    }

    /// Something moved: it is not quiet.
    pub(super) fn touch(&self) {
        *self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// A connection that was asked to leave. It does not stay for anything that its peer would have to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    asked_at: Instant,
    /// It was being answered when we last looked.
    answering: bool,
}

impl Leaving {
    pub(super) fn since(asked_at: Instant) -> Self {
        Self { asked_at, answering: false }
    }

    /// When to look again; nothing if it goes now. What is being answered is answered and passed on, within the time that a
    /// request may take; what began or ended just before it was asked gets a moment.
    pub(super) fn stays_until(&mut self, activity: &Activity, limits: &EdgeLimits, now: Instant) -> Option<Instant> {
        let was_answering = std::mem::replace(&mut self.answering, activity.is_answering());
        let until = match (self.answering, was_answering) {
            (true, _) => self.asked_at + limits.request_timeout,
            (false, true) => now + EVICTION_GRACE,
            // A peer that begins something only when it is asked to leave gains no more than that moment.
            (false, false) => activity.quiet_since().min(self.asked_at) + EVICTION_GRACE,
        };
        (until > now).then(|| until.min(now + EVICTION_GRACE))
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Busy {
    activity: Arc<Activity>,
    arriving: bool,
}

impl Busy {
    /// What its connection is doing, for an answer that outlives the request.
    pub(super) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Part of it is still to come.
    pub(super) fn is_arriving(&self) -> bool {
        self.arriving
    }

    /// All of it is here.
    pub(super) fn arrived(&mut self) {
        if std::mem::take(&mut self.arriving) {
            self.activity.arriving.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.arrived();
        self.activity.touch();
        self.activity.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn asked(seat: &Seat) -> bool {
        seat.activity.evicted().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_quietest_one_makes_room() {
        let crowd = Arc::new(Crowd::default());
        let mut seats = Vec::new();
        for _ in 0..3 {
            seats.push(crowd.admit(|| 3).await);
        }
        // The first one is the oldest, but it spoke last; the second is being answered.
        drop(Activity::begin(&seats[0].activity));
        let mut busy = Activity::begin(&seats[1].activity);
        busy.arrived();
        assert!(crowd.admit(|| 3).now_or_never().is_none(), "there is no room yet");
        assert_eq!(seats.iter().map(asked).collect::<Vec<_>>(), [false, false, true]);
        drop(seats.pop());
        assert!(crowd.admit(|| 3).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_request_that_arrives_slowly_keeps_no_seat_and_one_that_is_answered_does() {
        let crowd = Arc::new(Crowd::default());
        let seat = crowd.admit(|| 1).await;
        let mut busy = Activity::begin(&seat.activity);
        busy.arrived();
        assert!(crowd.admit(|| 1).now_or_never().is_none());
        assert!(!asked(&seat));
        let slow = Activity::begin(&seat.activity);
        drop(busy);
        assert!(crowd.admit(|| 1).now_or_never().is_none());
        assert!(asked(&seat));
        drop((slow, seat));
        assert!(crowd.admit(|| 1).now_or_never().is_some());
    }

    #[tokio::test]
    async fn whoever_stays_for_an_answer_is_not_waited_for() {
        let crowd = Arc::new(Crowd::default());
        let seats = [crowd.admit(|| 2).await, crowd.admit(|| 2).await];
        let waits = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { crowd.admit(|| 2).await }
        });
        timeout(SOON, seats[0].activity.evicted()).await.expect("the quietest one is asked");
        let mut busy = Activity::begin(&seats[0].activity);
        busy.arrived();
        timeout(SOON, seats[1].activity.evicted()).await.expect("the other one is asked in its place");
        let [first, second] = seats;
        drop(second);
        timeout(SOON, waits).await.expect("there is room").unwrap();
        drop((busy, first));
    }

    #[tokio::test]
    async fn who_has_nothing_to_do_any_more_makes_room_for_one_that_waits() {
        let crowd = Arc::new(Crowd::default());
        let seat = crowd.admit(|| 1).await;
        let mut busy = Activity::begin(&seat.activity);
        busy.arrived();
        let waits = tokio::spawn({
            let crowd = Arc::clone(&crowd);
            async move { crowd.admit(|| 1).await }
        });
        tokio::task::yield_now().await;
        drop(busy);
        timeout(SOON, seat.activity.evicted()).await.expect("it is asked once it was answered");
        drop(seat);
        timeout(SOON, waits).await.expect("there is room").unwrap();
    }

    #[tokio::test]
    async fn an_answer_is_waited_for_and_silence_is_not() {
        let activity = Arc::new(Activity::new());
        let (limits, moment) = (EdgeLimits::default(), Duration::from_millis(1));
        let asked_at = activity.quiet_since() + EVICTION_GRACE;
        let mut leaving = Leaving::since(asked_at);
        assert_eq!(leaving.stays_until(&activity, &limits, asked_at), None, "it was quiet for long enough");
        let just_accepted = Leaving::since(activity.quiet_since()).stays_until(&activity, &limits, asked_at - moment);
        assert_eq!(just_accepted, Some(asked_at));

        let mut busy = Activity::begin(&activity);
        busy.arrived();
        let end = asked_at + limits.request_timeout;
        assert_eq!(leaving.stays_until(&activity, &limits, end - moment), Some(end));
        let mut beyond = leaving;
        assert_eq!(beyond.stays_until(&activity, &limits, end), None, "no longer than a request may take");
        drop(busy);
        let answered_at = end - moment;
        let passed_on = answered_at + EVICTION_GRACE;
        assert_eq!(leaving.stays_until(&activity, &limits, answered_at), Some(passed_on), "it must get there");
        let _slow = Activity::begin(&activity);
        assert_eq!(leaving.stays_until(&activity, &limits, passed_on), None, "what arrives is not waited for");
    }

    #[tokio::test]
    async fn each_is_asked_once_however_many_wait() {
        let crowd = Arc::new(Crowd::default());
        let mut seats = Vec::new();
        for _ in 0..4 {
            seats.push(crowd.admit(|| 4).await);
        }
        crowd.shrink();
        crowd.shrink();
        assert_eq!(seats.iter().map(asked).collect::<Vec<_>>(), [true, true, false, false]);
    }
}
