//! Time and chance are functions of the job.

use crate::rig::{Rig, TASK, command};

const PRINT_RANDOM: &str = "(call $check (call $random (i32.const 64) (i32.const 100)))
    (call $check (call $write (i32.const 1) (i32.const 64) (i32.const 100)))";

async fn printed(task: &str) -> Vec<u8> {
    let mut rig = Rig::new(&command(&[], PRINT_RANDOM));
    rig.job.env.insert("IEXEC_TASK_ID".into(), task.into());
    rig.run().await.stdout.bytes
}

#[tokio::test]
async fn random_numbers_follow_from_the_task() {
    let first = printed(TASK).await;
    assert_eq!(first.len(), 100);
    assert_eq!(first, printed(TASK).await);
    assert_ne!(first, printed(&TASK.replace('1', "2")).await);
    assert_ne!(first[..32], first[32..64], "each block is another");
}

#[tokio::test]
async fn clocks_start_where_the_job_says_and_move_when_read() {
    let body = "
        (call $check (call $time (i32.const 0) (i64.const 0) (i32.const 64)))
        (call $check (call $time (i32.const 0) (i64.const 0) (i32.const 72)))
        (call $check (call $time (i32.const 1) (i64.const 0) (i32.const 80)))
        (call $check (call $write (i32.const 1) (i32.const 64) (i32.const 24)))";
    let stdout = Rig::new(&command(&[], body)).run().await.stdout.bytes;
    let times: Vec<u64> = stdout.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(times, [1_000_000_001_000, 1_000_000_002_000, 3_000]);
}

#[tokio::test]
async fn sleeping_moves_the_clock_and_takes_no_time() {
    // Two subscriptions on the monotonic clock, of one hour and of two: the first fires.
    let subscription = |at: i32, userdata: i32, nanoseconds: u64| {
        format!(
            "(i64.store (i32.const {at}) (i64.const {userdata}))
             (i32.store (i32.const {}) (i32.const 1))
             (i64.store (i32.const {}) (i64.const {nanoseconds}))",
            at + 16,
            at + 24
        )
    };
    let hour = 3_600_000_000_000;
    let body = format!(
        "{} {}
        (call $check (call $poll (i32.const 1000) (i32.const 2000) (i32.const 2) (i32.const 64)))
        (call $check (call $time (i32.const 1) (i64.const 0) (i32.const 72)))
        (i64.store (i32.const 80) (i64.load (i32.const 2000)))
        (call $check (call $write (i32.const 1) (i32.const 64) (i32.const 24)))",
        subscription(1_000, 7, 2 * hour),
        subscription(1_048, 8, hour)
    );
    let report = Rig::new(&command(&[], &body)).run().await;
    let words: Vec<u64> =
        report.stdout.bytes.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    assert_eq!(words, [1, hour + 1_000, 8], "one event, an hour later, of the second subscription");
    assert!(report.seconds < 60.0, "{}", report.seconds);
}
