//! The decision: pure, and small.

use crate::docker::Measured;

/// An instance with its memory, in MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its ARN.
    pub arn: String,
    /// What its containers use.
    pub used: u64,
    /// What they may use.
    pub most: u64,
}

/// The fullest instance that has room for one more; of several equally full ones the first.
pub fn fullest_with_room(hosts: &mut [Host], each: u64) -> Option<&mut Host> {
    let fits = hosts.iter_mut().filter(|host| host.used + each <= host.most);
    fits.reduce(|best, host| if host.used > best.used { host } else { best })
}

/// What one more copy will use, in MiB: as much as the largest that was measured when it was warm. Tasks go by ARN.
pub fn expected(guess: u64, warm_up: u64, own: &[(String, String)], measured: &[Measured]) -> u64 {
    let warm = own.iter().filter(|(task, _)| is_warm(task, warm_up, measured));
    warm.map(|(task, _)| mib(task, measured)).max().unwrap_or(guess)
}

/// How much more a task will use than it does, in MiB.
pub fn still_to_come(task: &str, each: u64, warm_up: u64, measured: &[Measured]) -> u64 {
    match is_warm(task, warm_up, measured) {
        true => 0,
        false => each.saturating_sub(mib(task, measured)),
    }
}

fn is_warm(task: &str, warm_up: u64, measured: &[Measured]) -> bool {
    let mut ages = measured.iter().filter(|one| one.task == task).map(|one| one.age).peekable();
    ages.peek().is_some() && ages.all(|age| age >= warm_up)
}

fn mib(task: &str, measured: &[Measured]) -> u64 {
    measured.iter().filter(|one| one.task == task).map(|one| one.bytes).sum::<u64>().div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(arn: &str, used: u64) -> Host {
        Host { arn: arn.to_owned(), used, most: 100 }
    }

    #[test]
    fn the_fullest_that_has_room_is_taken() {
        let mut hosts = [host("a", 10), host("b", 60), host("c", 60), host("d", 90)];
        assert_eq!(fullest_with_room(&mut hosts, 40).map(|host| host.arn.as_str()), Some("b"));
        assert_eq!(fullest_with_room(&mut hosts, 41).map(|host| host.arn.as_str()), Some("a"));
        assert_eq!(fullest_with_room(&mut hosts, 91), None);
    }

    #[test]
    fn what_was_measured_counts_before_what_was_guessed() {
        let own = [("t1".to_owned(), "a".to_owned()), ("t2".to_owned(), "a".to_owned())];
        assert_eq!(expected(7, 10, &own, &[]), 7);
        let part = |task: &str, age, bytes| Measured { task: task.to_owned(), instance: "a".to_owned(), age, bytes };
        let mut measured =
            [part("t1", 10, 3 << 20), part("t1", 11, 1), part("t2", 9, 2 << 20), part("x", 99, 99 << 20)];
        assert_eq!(expected(7, 10, &own, &measured), 4);
        assert_eq!((still_to_come("t1", 4, 10, &measured), still_to_come("t2", 4, 10, &measured)), (0, 2));
        assert_eq!(still_to_come("new", 4, 10, &measured), 4);
        measured[1].age = 0;
        assert_eq!(expected(7, 10, &own, &measured), 7, "not all of it is warm");
    }
}
