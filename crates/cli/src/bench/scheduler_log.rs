//! What a scheduler's log says of when it learned that a task is open: the moment from which the task needs a worker.

use bourse_protocol::ids::TaskId;
use std::collections::BTreeMap;

/// When each task became open to the scheduler, in microseconds since the epoch.
pub(super) fn ready(log: &str) -> BTreeMap<TaskId, u64> {
    let mut ready = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("stage=INITIALIZED")) {
        let at = line.split_whitespace().next().and_then(micros);
        let task = line.split_whitespace().find_map(|word| word.strip_prefix("task=")).and_then(|id| id.parse().ok());
        if let (Some(at), Some(task)) = (at, task) {
            ready.entry(task).or_insert(at);
        }
    }
    ready
}

/// `2026-11-20T09:57:30.605123Z` in microseconds since the epoch.
fn micros(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Vec<u64> = date.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let (time, fraction) = time.split_once('.')?;
    let time: Vec<u64> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let ([year, month, day], [hours, minutes, seconds]) = (*date.first_chunk()?, *time.first_chunk()?);
    // The year begins in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = (year * 365 + year / 4 - year / 100 + year / 400 + day_of_year).checked_sub(719_468)?;
    let seconds = days * 86_400 + hours * 3600 + minutes * 60 + seconds;
    let fraction: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(seconds * 1_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_is_that_of_the_first_line_about_an_open_task() {
        let id = format!("0x{}", "0a".repeat(32));
        let log = format!(
            "scheduler of pool x listens\n\
             1970-01-01T00:00:01.000001Z  INFO bought task={id}\n\
             1970-01-01T00:00:02.5Z  INFO task task={id} stage=INITIALIZED\n\
             1970-01-01T00:00:03.000000Z  INFO task task={id} stage=RUNNING\n\
             1970-01-01T00:00:04.000000Z  INFO task task={id} stage=INITIALIZED\n"
        );
        assert_eq!(ready(&log).into_iter().collect::<Vec<_>>(), [(id.parse().unwrap(), 2_500_000)]);
    }

    #[test]
    fn times_are_those_of_the_clock() {
        for seconds in [0u64, 951_782_399, 951_782_400, 1_795_168_650, 4_107_542_399] {
            let text = bourse_service::clock::iso8601(seconds * 1000 + 7);
            assert_eq!(micros(&text), Some(seconds * 1_000_000 + 7_000), "{text}");
        }
        assert_eq!(micros("now"), None);
        assert_eq!(micros("2026-11T1:2:3.0Z"), None);
    }
}
