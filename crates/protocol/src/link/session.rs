//! Numbers, acknowledgements and replay for one side of a link. Pure: frames in, frames out.
//!
//! A session outlives its connections. Each side numbers its messages from 1, keeps what was not acknowledged, and
//! after a reconnect says that again; what arrives twice is heard once. When either side has forgotten the session (it
//! restarted), both begin a new one and say everything that still holds.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Messages that may wait for an acknowledgement. A peer that is further behind has lost the session.
pub const MAX_UNACKNOWLEDGED: usize = 256;
/// After so many messages an acknowledgement is sent at once instead of with the next message.
const OWED: u64 = 16;

/// What travels: a message with its number, or, without one, a sign of life that says how far each side is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Frame<T> {
    /// The number of the newest message that was sent; with a message, its own.
    pub sent: u64,
    /// The number of the newest message that arrived in order.
    pub ack: u64,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none", default = "Option::default")]
    pub message: Option<T>,
}

/// What a frame that arrived means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// A message that was not heard before.
    New(T),
    /// Nothing new.
    Nothing,
    /// A message is missing: connect again, so that it is said again.
    Gap,
    /// No honest peer says that: numbers that were never given out.
    Nonsense,
}

/// The peer is too far behind: its session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_UNACKNOWLEDGED} messages wait for the other side")]
pub struct TooFarBehind;

/// The peer acknowledges what was never sent, or has forgotten what it acknowledged: the session cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side remembers another session")]
pub struct OtherSession;

/// One side of a session that says `T`.
#[derive(Clone, Debug)]
pub struct Session<T> {
    /// The number of the newest message that was said.
    sent: u64,
    unacknowledged: VecDeque<(u64, T)>,
    /// The number of the newest message that was heard.
    received: u64,
    /// What the other side was told of `received`.
    acknowledged: u64,
}

impl<T> Default for Session<T> {
    fn default() -> Self {
        Self { sent: 0, unacknowledged: VecDeque::new(), received: 0, acknowledged: 0 }
    }
}

impl<T: Clone> Session<T> {
    /// The number of the newest message that was heard: what a resumption tells the other side.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Messages that the other side has not acknowledged.
    pub fn waiting(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Numbers a message and keeps it until it is acknowledged.
    pub fn say(&mut self, message: T) -> Result<Frame<T>, TooFarBehind> {
        if self.unacknowledged.len() >= MAX_UNACKNOWLEDGED {
            return Err(TooFarBehind);
        }
        self.sent += 1;
        self.unacknowledged.push_back((self.sent, message.clone()));
        Ok(self.frame(self.sent, Some(message)))
    }

    /// A sign of life.
    pub fn beat(&mut self) -> Frame<T> {
        self.frame(self.sent, None)
    }

    /// Whether the other side should hear soon what arrived here.
    pub fn owes(&self) -> bool {
        self.received - self.acknowledged >= OWED
    }

    /// Takes in a frame.
    pub fn hear<U>(&mut self, frame: Frame<U>) -> Heard<U> {
        if self.forget_until(frame.ack).is_err() {
            return Heard::Nonsense;
        }
        match frame.message {
            Some(message) if self.received.checked_add(1) == Some(frame.sent) => {
                self.received = frame.sent;
                Heard::New(message)
            }
            Some(_) if frame.sent == 0 => Heard::Nonsense,
            Some(_) | None if frame.sent > self.received => Heard::Gap,
            Some(_) | None => Heard::Nothing,
        }
    }

    /// After a reconnect: what the other side, which heard up to `received`, has to hear again.
    pub fn resume(&mut self, received: u64) -> Result<Vec<Frame<T>>, OtherSession> {
        let forgotten = self.unacknowledged.front().map_or(self.sent, |(oldest, _)| oldest - 1);
        if received < forgotten {
            return Err(OtherSession);
        }
        self.forget_until(received)?;
        let missed: Vec<_> = self.unacknowledged.iter().cloned().collect();
        Ok(missed.into_iter().map(|(number, message)| self.frame(number, Some(message))).collect())
    }

    fn frame(&mut self, sent: u64, message: Option<T>) -> Frame<T> {
        self.acknowledged = self.received;
        Frame { sent, ack: self.received, message }
    }

    fn forget_until(&mut self, number: u64) -> Result<(), OtherSession> {
        if number > self.sent {
            return Err(OtherSession);
        }
        while self.unacknowledged.front().is_some_and(|(n, _)| *n <= number) {
            self.unacknowledged.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_is_heard_once_and_in_order() {
        let (mut a, mut b) = (Session::default(), Session::<u32>::default());
        let (one, two) = (a.say("one").unwrap(), a.say("two").unwrap());
        assert_eq!(b.hear(two.clone()), Heard::Gap);
        assert_eq!(b.hear(one.clone()), Heard::New("one"));
        assert_eq!(b.hear(one), Heard::Nothing);
        assert_eq!(b.hear(two), Heard::New("two"));
        assert_eq!(a.hear(b.beat()), Heard::Nothing);
        assert_eq!(a.waiting(), 0);
    }

    #[test]
    fn a_sign_of_life_shows_that_the_last_message_is_missing() {
        let (mut a, mut b) = (Session::default(), Session::<u32>::default());
        a.say("lost").unwrap();
        assert_eq!(b.hear(a.beat()), Heard::Gap);
        let again = a.resume(b.received()).unwrap();
        assert_eq!(again.into_iter().map(|f| b.hear(f)).collect::<Vec<_>>(), [Heard::New("lost")]);
    }

    #[test]
    fn acknowledging_what_was_never_said_is_nonsense() {
        let mut a = Session::<u32>::default();
        assert_eq!(a.hear(Frame::<u32> { sent: 0, ack: 1, message: None }), Heard::Nonsense);
        assert_eq!(a.hear(Frame { sent: 0, ack: 0, message: Some(1u32) }), Heard::Nonsense);
        assert_eq!(a.resume(7), Err(OtherSession));
        assert_eq!(a.hear(Frame { sent: u64::MAX, ack: 0, message: Some(1u32) }), Heard::Gap);
    }

    #[test]
    fn a_peer_that_never_acknowledges_is_given_up() {
        let mut a = Session::default();
        for n in 0..MAX_UNACKNOWLEDGED {
            a.say(n).unwrap();
        }
        assert_eq!(a.say(0), Err(TooFarBehind));
    }

    #[test]
    fn frames_have_a_stable_form() {
        let mut a = Session::default();
        assert_eq!(serde_json::to_string(&a.say("x").unwrap()).unwrap(), r#"{"sent":1,"ack":0,"message":"x"}"#);
        assert_eq!(serde_json::to_string(&a.beat()).unwrap(), r#"{"sent":1,"ack":0}"#);
        assert!(serde_json::from_str::<Frame<String>>(r#"{"sent":1,"ack":0,"other":1}"#).is_err());
    }

    /// What happens to a link.
    #[derive(Clone, Debug)]
    enum Event {
        Say(bool),
        Deliver(bool),
        Lose(bool),
        Double(bool),
        Reconnect,
    }

    fn event() -> impl Strategy<Value = Event> {
        let side = any::<bool>;
        prop_oneof![
            4 => side().prop_map(Event::Say),
            8 => side().prop_map(Event::Deliver),
            1 => side().prop_map(Event::Lose),
            1 => side().prop_map(Event::Double),
            1 => Just(Event::Reconnect),
        ]
    }

    #[derive(Default)]
    struct Side {
        session: Session<u64>,
        said: u64,
        heard: Vec<u64>,
        arriving: VecDeque<Frame<u64>>,
    }

    fn connect(sides: &mut [Side; 2]) {
        for (from, to) in [(0, 1), (1, 0)] {
            let received = sides[to].session.received();
            let again = sides[from].session.resume(received).unwrap();
            sides[to].arriving = again.into();
        }
    }

    fn deliver(sides: &mut [Side; 2], to: usize, frame: Frame<u64>) {
        match sides[to].session.hear(frame) {
            Heard::New(message) => sides[to].heard.push(message),
            Heard::Nothing => {}
            Heard::Gap => connect(sides),
            Heard::Nonsense => panic!("both are honest"),
        }
    }

    proptest! {
        #[test]
        fn whatever_the_link_does_everything_is_heard_once_and_in_order(events in prop::collection::vec(event(), 0..200)) {
            let mut sides = [Side::default(), Side::default()];
            for event in events {
                match event {
                    Event::Say(side) => {
                        let (from, to) = (usize::from(side), usize::from(!side));
                        if let Ok(frame) = { let m = sides[from].said + 1; sides[from].session.say(m) } {
                            sides[from].said += 1;
                            sides[to].arriving.push_back(frame);
                        }
                    }
                    Event::Deliver(side) => {
                        let to = usize::from(side);
                        if let Some(frame) = sides[to].arriving.pop_front() {
                            deliver(&mut sides, to, frame);
                        }
                    }
                    Event::Lose(side) => drop(sides[usize::from(side)].arriving.pop_front()),
                    Event::Double(side) => {
                        let to = usize::from(side);
                        if let Some(frame) = sides[to].arriving.front().cloned() {
                            deliver(&mut sides, to, frame);
                        }
                    }
                    Event::Reconnect => connect(&mut sides),
                }
            }
            // One good connection is enough in the end.
            connect(&mut sides);
            for to in [0, 1] {
                while let Some(frame) = sides[to].arriving.pop_front() {
                    deliver(&mut sides, to, frame);
                }
                let said = sides[1 - to].said;
                prop_assert_eq!(&sides[to].heard, &(1..=said).collect::<Vec<_>>());
            }
        }
    }
}
