use super::*;
use bourse_protocol::B256;
use bourse_protocol::link::{Backoff, Resume, VERSION};
use proptest::{collection::vec, prelude::*};

fn free(stake: Nrlc) -> Account {
    Account { stake, locked: Nrlc::ZERO }
}

fn who(n: u8) -> Address {
    Address::with_last_byte(n)
}

fn machine(slots: u32) -> Capabilities {
    Capabilities { cpus: 2, slots, app_types: vec!["WASM".into()], ..Capabilities::default() }
}

fn applicant(connection: u64, resume: Option<Resume>) -> Applicant {
    let last_alive = Arc::new(AtomicU64::new(100));
    let (name, capabilities, draining) = ("w".into(), machine(1), false);
    Applicant { name, capabilities, version: VERSION, resume, draining, connection, last_alive }
}

fn welcome() -> Welcome {
    Welcome {
        version: 0,
        session: 0,
        resumed: false,
        received: 0,
        reconnect: Backoff::default(),
        gateway_url: String::new(),
        upload_url: String::new(),
        upload_token: String::new(),
    }
}

fn need() -> Need {
    Need { app_type: "WASM".into(), ..Need::default() }
}

/// The session and the inbox of one that was let in.
fn entered(admission: Admission) -> (Welcome, Session<ToWorker>, Vec<Frame<ToWorker>>, mpsc::Receiver<ToWorker>) {
    match admission {
        Admission::In { welcome, session, missed, inbox } => (welcome, session, missed, inbox),
        Admission::Out(greeting) => panic!("{greeting:?}"),
    }
}

fn join(crew: &mut Crew, n: u8) -> mpsc::Receiver<ToWorker> {
    entered(crew.join(who(n), applicant(u64::from(n), None), welcome(), 100)).3
}

#[test]
fn who_waited_longest_is_served_first_and_nobody_beyond_its_slots() {
    let mut crew = Crew::default();
    let _inboxes: Vec<_> = [3, 1, 2].map(|n| join(&mut crew, n)).into();
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(3)));
    crew.load(who(3), Nrlc::ZERO);
    assert_eq!(crew.candidate(&need(), |w| w == who(1)), Some(who(2)));
    crew.load(who(1), Nrlc::ZERO);
    crew.load(who(2), Nrlc::ZERO);
    assert_eq!(crew.candidate(&need(), |_| false), None);
    assert!(!crew.has_idle());
    crew.unload(who(1), Nrlc::ZERO, false);
    crew.unload(who(3), Nrlc::ZERO, false);
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(1)));
}

#[test]
fn a_task_finds_only_machines_that_can_do_it() {
    let mut crew = Crew::default();
    let _inbox = join(&mut crew, 1);
    let unable =
        [Need { app_type: "DOCKER".into(), ..need() }, Need { tee: true, ..need() }, Need { gpu: true, ..need() }];
    for need in unable {
        assert_eq!(crew.candidate(&need, |_| false), None, "{need:?}");
    }
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(1)));
    let tag = B256::with_last_byte(1) | B256::from(U256::from(256));
    let deal = Deal { tag, worker_stake: Nrlc(U256::from(5)), ..crate::store::tests::deal() };
    let stake = deal.worker_stake;
    assert_eq!(Need::new("WASM".into(), &deal), Need { tee: true, gpu: true, stake, ..need() });
}

#[test]
fn a_machine_below_the_floor_gets_nothing_and_is_told_why() {
    let floors = [
        (Floor { cpus: 3, ..Floor::default() }, "3 CPUs"),
        (Floor { memory_mib: 1, ..Floor::default() }, "1 MiB of memory"),
        (Floor { disk_mib: 1, ..Floor::default() }, "1 MiB of disk"),
    ];
    for (floor, lack) in floors {
        let mut crew = Crew::of(None, floor);
        let mut inbox = join(&mut crew, 1);
        assert_eq!((crew.candidate(&need(), |_| false), crew.has_idle()), (None, false), "{floor:?}");
        crew.say_no_work(who(1), &[&need()]);
        let Ok(ToWorker::NoWork { reason }) = inbox.try_recv() else { panic!("it is told why") };
        assert!(reason.contains(lack), "{reason}");
    }
}

/// A crew of which tasks want these stakes, in nRLC.
fn staking(stakes: impl IntoIterator<Item = u64>) -> Crew {
    let mut crew = Crew::default();
    stakes.into_iter().for_each(|stake| crew.expect_stake(nrlc(stake)));
    crew
}

fn nrlc(n: u64) -> Nrlc {
    Nrlc(U256::from(n))
}

fn staked(n: u64) -> Need {
    Need { stake: nrlc(n), ..need() }
}

#[test]
fn nobody_is_given_more_than_its_deposit_covers() {
    let mut crew = staking([0, 1, 13, 12, 2, 5, 7, 8]);
    let mut several = applicant(1, None);
    several.capabilities.slots = 9;
    let (.., mut inbox) = entered(crew.join(who(1), several, welcome(), 100));
    let gets = |crew: &Crew, n| crew.candidate(&staked(n), |_| false).is_some();
    assert!(gets(&crew, 0) && !gets(&crew, 1), "nothing is known of its deposit yet");
    crew.say_no_work(who(1), &[&staked(1)]);
    assert!(inbox.try_recv().is_err(), "nor is anything said of it");

    crew.set_standing(who(1), U256::ZERO, free(nrlc(12)));
    assert!(gets(&crew, 12) && !gets(&crew, 13));
    assert_eq!((crew.idle_count(nrlc(12)), crew.idle_count(nrlc(13))), (1, 0));
    crew.load(who(1), nrlc(5));
    assert!(gets(&crew, 7) && !gets(&crew, 8), "a task has a part pledged");
    crew.unload(who(1), nrlc(5), true);
    assert!(gets(&crew, 7) && !gets(&crew, 8), "what it contributed to has its stake locked");

    assert_eq!((crew.poor(9), crew.is_short(who(1))), (vec![who(1)], true));
    crew.say_no_work(who(1), &[&staked(8)]);
    let Ok(ToWorker::NoWork { reason }) = inbox.try_recv() else { panic!("it is told why") };
    assert!(
        reason.contains("0.000000008 RLC at stake") && reason.contains("0.000000007 RLC of its deposit"),
        "{reason}"
    );
    crew.set_standing(who(1), U256::ZERO, free(nrlc(8)));
    assert!(gets(&crew, 8), "it has deposited more");
}

#[test]
fn who_gives_up_gets_nothing_that_needs_a_stake_until_its_deposit_is_read_again() {
    let mut crew = staking([5]);
    let _inbox = join(&mut crew, 1);
    crew.set_standing(who(1), U256::ZERO, free(nrlc(100)));
    crew.load(who(1), nrlc(5));
    crew.unload(who(1), nrlc(5), false);
    assert_eq!(crew.candidate(&staked(5), |_| false), None);
    assert_eq!((crew.take_doubted(), crew.take_doubted()), ([(who(1), 0)].into(), BTreeMap::new()));
    crew.set_standing(who(1), U256::ZERO, free(nrlc(5)));
    assert_eq!(crew.candidate(&staked(5), |_| false), Some(who(1)));
}

#[test]
fn a_stake_that_is_new_puts_everybody_where_they_belong() {
    let mut crew = staking([10]);
    let _inboxes: Vec<_> = (1..=3).map(|n| join(&mut crew, n)).collect();
    for n in 1..=3 {
        crew.set_standing(who(n), U256::ZERO, free(nrlc(10 * u64::from(n))));
    }
    crew.expect_stake(nrlc(25));
    crew.expect_stake(nrlc(5));
    for (stake, able) in [(5, 3), (10, 3), (25, 1)] {
        assert_eq!(crew.idle_count(nrlc(stake)), able, "{stake}");
    }
    assert_eq!(crew.candidate(&staked(25), |_| false), Some(who(3)));
    crew.load(who(3), nrlc(25));
    assert_eq!(crew.idle_count(nrlc(5)), 2, "and they are found again when they change");
}

#[test]
fn those_are_asked_for_their_deposits_first_who_were_asked_longest_ago() {
    let mut crew = staking([3]);
    let _inboxes: Vec<_> = (1..=4).map(|n| join(&mut crew, n)).collect();
    for n in [3, 1, 2] {
        crew.set_standing(who(n), U256::ZERO, free(nrlc(u64::from(n))));
    }
    assert_eq!(crew.poor(9), [who(1), who(2)], "one that was never asked is in line already");
    assert_eq!(crew.poor(1), [who(1)]);
}

#[test]
fn one_that_worked_here_before_is_believed_until_its_deposit_is_read() {
    let mut crew = staking([1_000]);
    crew.remember(who(1), 100);
    let _inbox = join(&mut crew, 1);
    assert_eq!(crew.candidate(&staked(1_000), |_| false), Some(who(1)));
    crew.set_standing(who(1), U256::ZERO, free(Nrlc::ZERO));
    assert_eq!(crew.candidate(&staked(1_000), |_| false), None);
}

#[test]
fn one_that_failed_comes_after_the_others_until_it_does_well_again() {
    let mut crew = Crew::default();
    let _inboxes = [join(&mut crew, 1), join(&mut crew, 2)];
    crew.blame(who(1), 100);
    crew.load(who(2), Nrlc::ZERO);
    assert_eq!(crew.candidate(&need(), |_| false), None, "it rests");
    assert!(!crew.wake(100 + REST - 1));
    assert!(crew.wake(100 + REST));
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(1)));
    crew.unload(who(2), Nrlc::ZERO, false);
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(2)), "though it has waited less long");
    crew.praise(who(1));
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(1)));
}

#[test]
fn nobody_rests_until_a_time_that_was_none() {
    let mut crew = Crew::default();
    let _inbox = join(&mut crew, 1);
    crew.blame(who(1), 90_000);
    assert!(crew.wake(100));
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(1)));
}

#[test]
fn a_wallet_serves_one_worker_at_a_time() {
    let mut crew = Crew::default();
    let _inbox = join(&mut crew, 1);
    match crew.join(who(1), applicant(7, None), welcome(), 100 + LOST_SECONDS - 1) {
        Admission::Out(Greeting::Refused { reason, .. }) => {
            assert!(reason.contains("one worker at a time"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
    // The first one has been silent for too long: its place is free.
    entered(crew.join(who(1), applicant(8, None), welcome(), 100 + LOST_SECONDS));
    assert!(crew.is_current(who(1), 8));
}

#[test]
fn a_short_disconnect_changes_nothing() {
    let mut crew = Crew::default();
    let (first, session, _, inbox) = entered(crew.join(who(1), applicant(5, None), welcome(), 100));
    assert!(!first.resumed);
    drop(inbox);
    assert!(crew.leave(who(1), 5, Some(session)));
    crew.tell(who(1), ToWorker::NoWork { reason: "said meanwhile".into() });
    let resume = Resume { session: first.session, received: 0 };
    let (again, _, missed, _inbox) = entered(crew.join(who(1), applicant(6, Some(resume)), welcome(), 130));
    assert!(again.resumed && again.session == first.session);
    assert_eq!(missed.len(), 1);
    assert_eq!(missed[0].message, Some(ToWorker::NoWork { reason: "said meanwhile".into() }));
}

#[test]
fn a_worker_whose_old_connection_hangs_gets_its_session_back() {
    let mut crew = Crew::default();
    let (first, session, _, mut inbox) = entered(crew.join(who(1), applicant(5, None), welcome(), 100));
    let resume = Some(Resume { session: first.session, received: 0 });
    let answer = crew.join(who(1), applicant(6, resume), welcome(), 101);
    assert!(matches!(answer, Admission::Out(Greeting::Busy { .. })), "{answer:?}");
    assert!(inbox.try_recv().is_err() && inbox.is_closed(), "the old connection ends");
    assert!(!crew.leave(who(1), 5, Some(session)));
    let (again, ..) = entered(crew.join(who(1), applicant(7, resume), welcome(), 102));
    assert!(again.resumed);
}

#[test]
fn strangers_stay_out_of_a_pool_with_a_list() {
    let mut crew = Crew { allowed: Some(BTreeSet::from([who(1)])), ..Crew::default() };
    let _inbox = join(&mut crew, 1);
    let answer = crew.join(who(2), applicant(2, None), welcome(), 100);
    assert!(matches!(answer, Admission::Out(Greeting::Refused { .. })), "{answer:?}");
}

#[test]
fn a_worker_that_drains_gets_nothing_more() {
    let mut crew = Crew::default();
    let _inbox = join(&mut crew, 1);
    crew.drain(who(1));
    assert_eq!(crew.candidate(&need(), |_| false), None);
    assert!(crew.leave(who(1), 1, None));
    let login = Applicant { draining: true, ..applicant(2, None) };
    let _inbox = entered(crew.join(who(1), login, welcome(), 110));
    assert_eq!(crew.candidate(&need(), |_| false), None, "the session was forgotten, but it still drains");
    assert!(crew.leave(who(1), 2, None));
    let _inbox = entered(crew.join(who(1), applicant(3, None), welcome(), 120));
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(1)), "it was started again");
}

#[test]
fn the_idle_hear_why_there_is_nothing_for_them() {
    let mut crew = Crew::default();
    let mut inbox = join(&mut crew, 1);
    let gpu = Need { gpu: true, ..need() };
    crew.say_no_work(who(1), &[]);
    crew.say_no_work(who(1), &[]);
    crew.say_no_work(who(1), &[&gpu]);
    let reasons = [inbox.try_recv().unwrap(), inbox.try_recv().unwrap()].map(|m| match m {
        ToWorker::NoWork { reason } => reason,
        other => panic!("{other:?}"),
    });
    assert!(reasons[0].contains("no task waits") && reasons[1].contains("graphics processor"), "{reasons:?}");
    assert!(inbox.try_recv().is_err(), "the same reason is said once");
}

#[test]
fn after_a_restart_workers_have_as_long_to_come_back_as_after_a_silence() {
    let mut crew = Crew::default();
    crew.remember(who(1), 100);
    crew.load(who(1), Nrlc::ZERO);
    assert!(crew.lost(100 + LOST_SECONDS - 1, |_| true).is_empty(), "nobody could have been heard before the start");
    assert_eq!(crew.lost(100 + LOST_SECONDS, |_| true), [(who(1), 100)]);
}

#[test]
fn who_says_it_has_endless_slots_gets_its_turn_and_no_more() {
    let mut crew = Crew::default();
    let mut boaster = applicant(5, None);
    boaster.capabilities.slots = u32::MAX;
    let _entered = [entered(crew.join(who(1), boaster, welcome(), 100))];
    let _inbox = join(&mut crew, 2);
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(1)));
    crew.load(who(1), Nrlc::ZERO);
    assert_eq!(crew.candidate(&need(), |_| false), Some(who(2)), "the other has waited longer now");
    crew.load(who(2), Nrlc::ZERO);
    let more = (0..1_000).take_while(|_| {
        let next = crew.candidate(&need(), |_| false);
        next.inspect(|worker| crew.load(*worker, Nrlc::ZERO)).is_some()
    });
    assert_eq!(more.count() as u32, MAX_SLOTS - 1);
}

#[test]
fn nobody_was_silent_while_the_scheduler_itself_stood_still() {
    let mut crew = Crew::default();
    let _inbox = join(&mut crew, 1);
    crew.load(who(1), Nrlc::ZERO);
    crew.forgive(100 + 10 * LOST_SECONDS);
    assert!(crew.lost(100 + 10 * LOST_SECONDS, |_| true).is_empty());
    assert_eq!(crew.lost(100 + 11 * LOST_SECONDS, |_| true).len(), 1);
}

#[test]
fn those_who_left_make_room_for_those_who_come() {
    let mut crew = Crew::default();
    let address = |n: usize| Address::left_padding_from(&(n as u64 + 1).to_be_bytes());
    let mut inboxes = Vec::new();
    for n in 0..MAX_WORKERS {
        inboxes.push(entered(crew.join(address(n), applicant(n as u64, None), welcome(), 100)));
    }
    let late = || applicant(MAX_WORKERS as u64, None);
    let answer = crew.join(address(MAX_WORKERS), late(), welcome(), 100);
    assert!(matches!(answer, Admission::Out(Greeting::Busy { .. })), "{answer:?}");
    assert!(crew.leave(address(7), 7, None));
    entered(crew.join(address(MAX_WORKERS), late(), welcome(), 100));
    assert_eq!(crew.count(), (MAX_WORKERS, MAX_WORKERS));
}

#[test]
fn who_has_nothing_at_stake_makes_room_for_those_who_come() {
    let mut crew = Crew::default();
    let address = |n: usize| Address::left_padding_from(&(n as u64 + 1).to_be_bytes());
    let mut inboxes = Vec::new();
    for n in 0..MAX_WORKERS {
        inboxes.push(entered(crew.join(address(n), applicant(n as u64, None), welcome(), 100)).3);
        // What one has may be locked.
        let stake = if [3, 4, 5].contains(&n) { Nrlc::ZERO } else { Nrlc::rlc(1) };
        let locked = if n == 4 { Nrlc::rlc(1) } else { Nrlc::ZERO };
        crew.set_standing(address(n), U256::ZERO, Account { stake, locked });
    }
    let mut join = |n: usize| crew.join(address(n), applicant(n as u64, None), welcome(), 100);
    let _late = [MAX_WORKERS, MAX_WORKERS + 1].map(|n| entered(join(n)));
    let answer = join(MAX_WORKERS + 2);
    assert!(matches!(answer, Admission::Out(Greeting::Busy { .. })), "those that came are not known yet: {answer:?}");
    assert!(!crew.is_here(address(3)) && !crew.is_here(address(5)) && crew.is_here(address(MAX_WORKERS)));
    assert!(inboxes[3].try_recv().is_err_and(|e| e == mpsc::error::TryRecvError::Disconnected), "it is hung up on");
    assert_eq!(crew.count(), (MAX_WORKERS, MAX_WORKERS));
}

#[test]
fn a_search_passes_as_few_lines_among_ten_thousand_different_machines() {
    let mut crew = staking([1, 2]);
    let address = |n: u32| Address::left_padding_from(&(n + 1).to_be_bytes());
    let mut inboxes = Vec::new();
    for n in 0..10_000 {
        let mut login = applicant(n.into(), None);
        let machine = &mut login.capabilities;
        (machine.cpus, machine.memory_mib, machine.disk_mib) = (1 + n % 64, 1_000 + u64::from(n), 5_000 + u64::from(n));
        (machine.gpus, machine.platform) = (n % 5, format!("platform {}", n % 7));
        machine.tee = (0..n % 3).map(|n| format!("enclave {n}")).collect();
        inboxes.push(entered(crew.join(address(n), login, welcome(), 100)));
    }
    // No stake, one of two: each with or without enclave and graphics processor.
    assert!(crew.idle.longest_search() <= 3 * 4, "{}", crew.idle.longest_search());
}

#[test]
fn who_names_endless_app_types_is_found_by_some_of_them() {
    let mut crew = Crew::default();
    let mut boaster = applicant(1, None);
    boaster.capabilities.app_types = (0..1_000).map(|n| format!("type {n}")).collect();
    let _entered = entered(crew.join(who(1), boaster, welcome(), 100));
    let finds = |n: usize| crew.candidate(&Need { app_type: format!("type {n}"), ..need() }, |_| false).is_some();
    assert_eq!((0..1_000).filter(|n| finds(*n)).count(), MAX_APP_TYPES);
}

/// What may happen to a crew.
#[derive(Clone, Debug)]
enum Event {
    Joins(u8, Capabilities),
    Leaves(u8),
    Drains(u8),
    Loads(u8, u64),
    Unloads(u8, u64, bool),
    Has(u8, u64),
    Fails(u8),
    DoesWell(u8),
    TimePasses(u64),
    StakeIsNew(u64),
}

const APP_TYPES: [&str; 3] = ["WASM", "DOCKER", "OTHER"];

fn machines() -> impl Strategy<Value = Capabilities> {
    let app_types = proptest::sample::subsequence(APP_TYPES.to_vec(), 0..=3).prop_shuffle();
    (1u32..5, 0u64..5, 0u64..1_000, 0u32..3, 0usize..3, 0u32..4, app_types).prop_map(
        |(cpus, memory_mib, disk_mib, gpus, enclaves, slots, app_types)| Capabilities {
            tee: ["scone", "gramine"].iter().take(enclaves).map(ToString::to_string).collect(),
            app_types: app_types.into_iter().map(String::from).collect(),
            platform: "linux".into(),
            ..Capabilities { cpus, memory_mib, disk_mib, gpus, slots, ..Capabilities::default() }
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let (n, stake) = (1u8..9, 0u64..6);
    prop_oneof![
        4 => (n.clone(), machines()).prop_map(|(n, machine)| Event::Joins(n, machine)),
        1 => n.clone().prop_map(Event::Leaves),
        1 => n.clone().prop_map(Event::Drains),
        2 => (n.clone(), stake.clone()).prop_map(|(n, stake)| Event::Loads(n, stake)),
        2 => (n.clone(), stake.clone(), any::<bool>()).prop_map(|(n, stake, voted)| Event::Unloads(n, stake, voted)),
        4 => (n.clone(), 0u64..9).prop_map(|(n, free)| Event::Has(n, free)),
        1 => n.clone().prop_map(Event::Fails),
        1 => n.prop_map(Event::DoesWell),
        1 => (0u64..100).prop_map(Event::TimePasses),
        1 => stake.prop_map(Event::StakeIsNew),
    ]
}

fn happen(crew: &mut Crew, event: Event, now: &mut u64, inboxes: &mut Vec<mpsc::Receiver<ToWorker>>) {
    match event {
        Event::Joins(n, capabilities) => {
            let login = Applicant { capabilities, ..applicant(n.into(), None) };
            if let Admission::In { inbox, .. } = crew.join(who(n), login, welcome(), *now) {
                inboxes.push(inbox);
            }
        }
        Event::Leaves(n) => drop(crew.leave(who(n), n.into(), None)),
        Event::Drains(n) => crew.drain(who(n)),
        Event::Loads(n, stake) => crew.load(who(n), nrlc(stake)),
        Event::Unloads(n, stake, voted) => crew.unload(who(n), nrlc(stake), voted),
        Event::Has(n, of) => crew.set_standing(who(n), U256::ZERO, free(nrlc(of))),
        Event::Fails(n) => crew.blame(who(n), *now),
        Event::DoesWell(n) => crew.praise(who(n)),
        Event::TimePasses(seconds) => {
            *now += seconds;
            crew.wake(*now);
        }
        Event::StakeIsNew(stake) => crew.expect_stake(nrlc(stake)),
    }
}

/// Everybody who could get work on a pool with this floor, one by one.
fn able(crew: &Crew, floor: Floor) -> impl Iterator<Item = (Address, &Worker)> {
    let able = move |w: &Worker| w.takes_work() && floor.lacks(&w.capabilities).is_none();
    crew.workers.iter().map(|(address, w)| (*address, w)).filter(move |(_, w)| able(w))
}

proptest! {
    /// Whatever has happened, the index gives whom a look at everybody gives: of those who can do the task, who has failed
    /// least, then who has waited longest.
    #[test]
    fn the_index_finds_whom_a_look_at_everybody_finds(
        (cpus, memory_mib, disk_mib) in (0u32..4, 0u64..4, 0u64..500),
        events in vec(events(), 1..60),
        taken in proptest::collection::btree_set(1u8..9, 0..3),
    ) {
        let floor = Floor { cpus, memory_mib, disk_mib };
        let (mut crew, mut now, mut inboxes) = (Crew::of(None, floor), 100, Vec::new());
        let mut stakes = BTreeSet::from([0]);
        crew.expect_stake(Nrlc::ZERO);
        for event in events {
            stakes.extend(if let Event::StakeIsNew(stake) = event { Some(stake) } else { None });
            happen(&mut crew, event, &mut now, &mut inboxes);
            let is_taken = |worker| taken.iter().any(|n| who(*n) == worker);
            for (app_type, tee, gpu) in (0..12).map(|n| (APP_TYPES[n % 3], n / 3 % 2 == 1, n / 6 == 1)) {
                for stake in &stakes {
                    let need = Need { app_type: app_type.into(), tee, gpu, stake: nrlc(*stake) };
                    let fit = able(&crew, floor).filter(|(worker, w)| {
                        need.lacks(&w.capabilities).is_none() && w.deposit.left() >= need.stake && !is_taken(*worker)
                    });
                    let first = fit.min_by_key(|(worker, w)| (w.rank(), *worker)).map(|(worker, _)| worker);
                    prop_assert_eq!(crew.candidate(&need, is_taken), first, "{:?}", need);
                }
            }
            let dearest = nrlc(stakes.iter().copied().max().unwrap_or(0));
            let poor = able(&crew, floor).filter(|(_, w)| w.deposit.left() < dearest).map(|(worker, _)| worker);
            prop_assert_eq!(crew.idle.poor().collect::<BTreeSet<_>>(), poor.collect::<BTreeSet<_>>());
            for stake in &stakes {
                let rich = able(&crew, floor).filter(|(_, w)| w.deposit.left() >= nrlc(*stake)).count();
                prop_assert_eq!(crew.idle_count(nrlc(*stake)), rich);
            }
            prop_assert_eq!(crew.has_idle(), able(&crew, floor).next().is_some());
        }
    }
}
