//! Which nodes can be trusted now: observations in, an order of preference out. Pure: no I/O, and time is given.
//!
//! A node is left aside when it is silent or errs, is on another chain, announces blocks that it does not have or that
//! nobody else can confirm, shows a time to come, lags, or disagrees with most others about a block. It is asked again after
//! a back-off and taken back when it does well. Nodes that do well are used in the order in which they were given: first the
//! nearest.

use crate::clock::{DEVELOPMENT, TOLERANCE};
use alloy::primitives::B256;
use serde::Serialize;
use std::{collections::BTreeMap, fmt, time::Duration};

/// From when on a node does badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// More blocks behind the best than this: it lags.
    pub few_blocks: u64,
    /// Two blocks or more behind the best for longer than this: it lags.
    pub lag_for: Duration,
    /// More blocks than this ahead of two others that agree: nobody can confirm it.
    pub far: u64,
    /// Unless those two have not moved for this long: then it is they who lag.
    pub stall: Duration,
    /// A newest block that is more seconds ahead of this machine's clock than this is none, unless all nodes show such.
    pub ahead: u64,
    /// A node that was left aside is asked again after this time, then after twice as long, and so on,
    pub retry_first: Duration,
    /// up to this.
    pub retry_most: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            few_blocks: 3,
            lag_for: Duration::from_secs(30),
            far: 64,
            stall: Duration::from_secs(60),
            ahead: TOLERANCE,
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(60),
        }
    }
}

/// Why a node is left aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "camelCase")]
pub enum Why {
    /// It does not answer, or with errors.
    Silent,
    /// It is a node of another chain.
    #[serde(rename_all = "camelCase")]
    OtherChain {
        /// Its chain.
        found: u64,
        /// Ours.
        wanted: u64,
    },
    /// It is behind the best node.
    Lags {
        /// By so many blocks.
        by: u64,
    },
    /// It has another block than most at this height.
    Disagrees {
        /// The height.
        at: u64,
    },
    /// It announces a height that it cannot serve, or that nobody else can confirm.
    LiesAboutHeight {
        /// What it announces.
        claims: u64,
        /// What there is.
        known: u64,
    },
    /// Its newest block is of a time that is to come, and those of others are not.
    AheadOfClock {
        /// Seconds ahead of this machine's clock.
        seconds: u64,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("does not answer"),
            Self::OtherChain { found, wanted } => write!(f, "is on chain {found}, not {wanted}"),
            Self::Lags { by } => write!(f, "lags by {by} blocks"),
            Self::Disagrees { at } => write!(f, "has another block {at} than the others"),
            Self::LiesAboutHeight { claims, known } => write!(f, "announces block {claims} where {known} is known"),
            Self::AheadOfClock { seconds } => write!(f, "shows a block {seconds} s ahead of this machine's clock"),
        }
    }
}

/// How a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was asked yet.
    Unknown,
    /// It is used.
    Good,
    /// It is left aside.
    Aside {
        /// Why.
        why: Why,
        /// When it is asked again.
        retry_at: Duration,
    },
}

/// What was seen of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It answered a question.
    Answered {
        /// So fast.
        latency: Duration,
    },
    /// It did not answer, or with an error of its own.
    Failed {
        /// In words.
        error: String,
    },
    /// The id of its chain.
    Chain(u64),
    /// The block that it announces as newest, and can serve.
    Head {
        /// Number.
        number: u64,
        /// Hash.
        hash: B256,
        /// Seconds by which its time is ahead of this machine's clock.
        ahead: u64,
    },
    /// It announces a block that it cannot serve.
    Hollow {
        /// What it announces.
        claims: u64,
        /// The newest block that it has.
        known: u64,
    },
    /// Its block at a height at which all are compared.
    Block {
        /// The height.
        number: u64,
        /// Its hash there.
        hash: B256,
    },
}

/// How one node does, for people and for metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// The node's name, without secrets.
    pub node: String,
    /// `good`, `unknown` or `aside`.
    pub state: &'static str,
    /// Why it is left aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Why>,
    /// Its newest block.
    pub height: Option<u64>,
    /// Blocks behind the best.
    pub lag: Option<u64>,
    /// How long the last answer took, in milliseconds.
    pub latency_ms: Option<u64>,
    /// The last thing that went wrong, also when that is over.
    pub last_error: Option<String>,
    /// How often it was left aside.
    pub times_aside: u64,
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    state: State,
    strikes: u32,
    times_aside: u64,
    chain: Option<u64>,
    head: Option<(u64, B256)>,
    /// Seconds by which that was ahead of the clock.
    ahead: u64,
    /// When its head last changed.
    moved: Duration,
    hollow: Option<(u64, u64)>,
    compared: Option<(u64, B256)>,
    behind_since: Option<Duration>,
    latency: Option<Duration>,
    last_error: Option<String>,
    /// It failed since it was last judged.
    failed: bool,
}

/// The health of all nodes of a client.
#[derive(Clone, Debug)]
pub struct Health {
    limits: Limits,
    nodes: Vec<Node>,
    chain: Option<u64>,
}

impl Health {
    /// Nodes by name, the preferred first.
    pub fn new(names: impl IntoIterator<Item = String>, limits: Limits) -> Self {
        let node = |name| Node {
            name,
            state: State::Unknown,
            strikes: 0,
            times_aside: 0,
            chain: None,
            head: None,
            ahead: 0,
            moved: Duration::ZERO,
            hollow: None,
            compared: None,
            behind_since: None,
            latency: None,
            last_error: None,
            failed: false,
        };
        Self { limits, nodes: names.into_iter().map(node).collect(), chain: None }
    }

    /// Takes in what was seen of a node.
    pub fn observe(&mut self, node: usize, seen: Observation, now: Duration) {
        match seen {
            Observation::Failed { error } => {
                self.nodes[node].last_error = Some(error);
                self.nodes[node].failed = true;
                // Many questions may fail at once: that is one failure.
                if !matches!(self.nodes[node].state, State::Aside { why: Why::Silent, retry_at } if now < retry_at) {
                    self.set_aside(node, Why::Silent, now);
                }
            }
            Observation::Answered { latency } => self.nodes[node].latency = Some(latency),
            Observation::Chain(id) => self.nodes[node].chain = Some(id),
            Observation::Head { number, hash, ahead } => {
                let node = &mut self.nodes[node];
                if node.head != Some((number, hash)) {
                    node.moved = now;
                }
                (node.head, node.ahead, node.hollow, node.failed) = (Some((number, hash)), ahead, None, false);
            }
            Observation::Hollow { claims, known } => {
                let node = &mut self.nodes[node];
                (node.hollow, node.failed) = (Some((claims, known)), false);
            }
            Observation::Block { number, hash } => self.nodes[node].compared = Some((number, hash)),
        }
    }

    /// Nodes that are worth asking how they do: all that do well, and those whose back-off is over.
    pub fn due(&self, now: Duration) -> Vec<usize> {
        let due = |node: &Node| match &node.state {
            State::Unknown | State::Good => true,
            State::Aside { retry_at, .. } => *retry_at <= now,
        };
        self.indices(due)
    }

    /// When the first node whose back-off is over should be asked again.
    pub fn next_retry(&self) -> Option<Duration> {
        let retry = |node: &Node| match &node.state {
            State::Aside { retry_at, .. } => Some(*retry_at),
            State::Unknown | State::Good => None,
        };
        self.nodes.iter().filter_map(retry).min()
    }

    /// The newest block of a node, as last seen.
    pub fn head(&self, node: usize) -> Option<(u64, B256)> {
        self.nodes[node].head
    }

    /// Whether the chain of a node is known.
    pub fn knows_chain(&self, node: usize) -> bool {
        self.nodes[node].chain.is_some()
    }

    /// The height at which the `asked` nodes should be compared: their lowest, leaving out those that are far behind.
    pub fn common_height(&self, asked: &[usize]) -> Option<u64> {
        let heads = || asked.iter().filter(|n| self.speaks(**n)).filter_map(|n| self.nodes[*n].head).map(|(n, _)| n);
        let best = heads().max()?;
        heads().filter(|n| n + self.limits.far >= best).min()
    }

    /// Judges the nodes that were `asked`, after what was seen of them was taken in.
    pub fn judge(&mut self, asked: &[usize], now: Duration) {
        self.judge_chains(asked, now);
        let mut sound = Vec::new();
        let speaking: Vec<usize> = asked.iter().copied().filter(|n| self.speaks(*n)).collect();
        for node in speaking {
            match self.nodes[node].hollow {
                Some((claims, known)) => self.set_aside(node, Why::LiesAboutHeight { claims, known }, now),
                None => sound.push(node),
            }
        }
        self.judge_times(&mut sound, now);
        self.judge_claims(&mut sound, now);
        self.judge_hashes(&mut sound, now);
        self.judge_lag(&sound, now);
    }

    /// Nodes to ask, the best first. Those that are only silent come last: they may be the only ones left.
    pub fn order(&self) -> Vec<usize> {
        let mut order = self.indices(|node| matches!(node.state, State::Good | State::Unknown));
        order.extend(self.indices(|node| matches!(node.state, State::Aside { why: Why::Silent, .. })));
        order
    }

    /// Whether a node is left aside.
    pub fn is_aside(&self, node: usize) -> bool {
        matches!(self.nodes[node].state, State::Aside { .. })
    }

    /// Nodes to hand transactions to: all but those of other chains.
    pub fn audience(&self) -> Vec<usize> {
        self.indices(|node| !matches!(node.state, State::Aside { why: Why::OtherChain { .. }, .. }))
    }

    /// How all do.
    pub fn status(&self) -> Vec<NodeStatus> {
        let best = self.nodes.iter().filter(|n| n.state == State::Good).filter_map(|n| n.head).map(|(n, _)| n).max();
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let status = |node: &Node| {
            let height = node.head.map(|(n, _)| n);
            let (state, reason) = match &node.state {
                State::Unknown => ("unknown", None),
                State::Good => ("good", None),
                State::Aside { why, .. } => ("aside", Some(why.clone())),
            };
            NodeStatus {
                node: node.name.clone(),
                state,
                reason,
                height,
                lag: best.zip(height).map(|(best, height)| best.saturating_sub(height)),
                latency_ms: node.latency.map(millis),
                last_error: node.last_error.clone(),
                times_aside: node.times_aside,
            }
        };
        self.nodes.iter().map(status).collect()
    }

    /// The node's state.
    pub fn state(&self, node: usize) -> &State {
        &self.nodes[node].state
    }

    /// The chain that most nodes are on, or that was settled on before. Nobody changes chains later.
    fn judge_chains(&mut self, asked: &[usize], now: Duration) {
        if self.chain.is_none() {
            let ids: Vec<u64> = asked.iter().filter_map(|n| self.nodes[*n].chain).collect();
            // Of equally many, the chain of the node that was named first.
            let count = |id: u64| ids.iter().filter(|other| **other == id).count();
            let most = ids.iter().map(|id| count(*id)).max();
            self.chain = ids.iter().copied().find(|id| Some(count(*id)) == most);
        }
        let Some(wanted) = self.chain else { return };
        for &node in asked {
            if let Some(found) = self.nodes[node].chain.filter(|found| *found != wanted) {
                self.set_aside(node, Why::OtherChain { found, wanted }, now);
                // It may be repaired.
                self.nodes[node].chain = None;
                self.nodes[node].failed = true;
            }
        }
    }

    /// Those that show a time to come, unless all do: then it is this machine's clock that is wrong. On a development chain
    /// time is moved by hand.
    fn judge_times(&mut self, sound: &mut Vec<usize>, now: Duration) {
        let is_right = |node: &&usize| self.nodes[**node].ahead <= self.limits.ahead;
        let (right, early): (Vec<usize>, Vec<usize>) = sound.iter().partition(is_right);
        if right.is_empty() || self.chain == Some(DEVELOPMENT) {
            return;
        }
        for node in early {
            let seconds = self.nodes[node].ahead;
            self.set_aside(node, Why::AheadOfClock { seconds }, now);
        }
        *sound = right;
    }

    /// One that is far ahead of two others that are together, and that go on, cannot be confirmed.
    fn judge_claims(&mut self, sound: &mut Vec<usize>, now: Duration) {
        let mut heads: Vec<_> = sound.iter().map(|n| (self.height(*n), *n)).collect();
        heads.sort_by(|a, b| b.cmp(a));
        let [(claims, first), (second, _), (third, _), ..] = heads[..] else { return };
        let together = second - third <= self.limits.few_blocks;
        let others_go_on = heads[1..].iter().any(|(_, n)| now.saturating_sub(self.nodes[*n].moved) < self.limits.stall);
        if together && others_go_on && claims > second.saturating_add(self.limits.far) {
            self.set_aside(first, Why::LiesAboutHeight { claims, known: second }, now);
            sound.retain(|n| *n != first);
        }
    }

    /// The largest group with the same block at the same height is right; of equal groups the one that is further, then
    /// the one of the node that was named first.
    fn judge_hashes(&mut self, sound: &mut Vec<usize>, now: Duration) {
        let Some(height) = self.common_height(sound) else { return };
        let mut groups: BTreeMap<B256, Vec<usize>> = BTreeMap::new();
        for &node in sound.iter() {
            if let Some((_, hash)) = self.nodes[node].compared.filter(|(number, _)| *number == height) {
                groups.entry(hash).or_default().push(node);
            }
        }
        let rank = |nodes: &Vec<usize>| {
            let furthest = nodes.iter().map(|n| self.height(*n)).max();
            (nodes.len(), furthest, std::cmp::Reverse(nodes.first().copied()))
        };
        let Some(right) = groups.iter().max_by_key(|(_, nodes)| rank(nodes)).map(|(hash, _)| *hash) else { return };
        groups.remove(&right);
        for node in groups.into_values().flatten() {
            self.set_aside(node, Why::Disagrees { at: height }, now);
            sound.retain(|n| *n != node);
        }
    }

    fn judge_lag(&mut self, sound: &[usize], now: Duration) {
        let best = sound.iter().map(|n| self.height(*n)).max().unwrap_or(0);
        for &node in sound {
            let by = best - self.height(node);
            let behind_since = (by >= 2).then(|| self.nodes[node].behind_since.unwrap_or(now));
            self.nodes[node].behind_since = behind_since;
            let for_long = behind_since.is_some_and(|since| now.saturating_sub(since) > self.limits.lag_for);
            match by > self.limits.few_blocks || for_long {
                true => self.set_aside(node, Why::Lags { by }, now),
                false => {
                    let node = &mut self.nodes[node];
                    // Each time that it does well makes up for one failure.
                    node.strikes = node.strikes.saturating_sub(1);
                    node.state = State::Good;
                }
            }
        }
    }

    fn set_aside(&mut self, node: usize, why: Why, now: Duration) {
        let limits = self.limits;
        let node = &mut self.nodes[node];
        let wait = limits.retry_first.saturating_mul(1 << node.strikes.min(16)).min(limits.retry_most);
        if !matches!(node.state, State::Aside { .. }) {
            node.times_aside += 1;
        }
        if why != Why::Silent {
            node.last_error = Some(why.to_string());
        }
        node.strikes = node.strikes.saturating_add(1).min(16);
        node.state = State::Aside { why, retry_at: now + wait };
    }

    /// It answered when it was last asked how it does.
    fn speaks(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        !node.failed && (node.head.is_some() || node.hollow.is_some())
    }

    fn height(&self, node: usize) -> u64 {
        self.nodes[node].head.map_or(0, |(number, _)| number)
    }

    fn indices(&self, which: impl Fn(&Node) -> bool) -> Vec<usize> {
        self.nodes.iter().enumerate().filter(|(_, node)| which(node)).map(|(index, _)| index).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn hash(n: u64, fork: u8) -> B256 {
        let mut hash = B256::left_padding_from(&n.to_be_bytes());
        hash[0] = fork;
        hash
    }

    /// Nodes that are asked once a second.
    struct World {
        health: Health,
        now: Duration,
    }

    /// What a node answers: a height on a fork, nothing, a height that it cannot serve, or one with a time to come.
    #[derive(Clone, Copy)]
    enum Says {
        At(u64),
        Fork(u64, u8),
        Nothing,
        Hollow(u64, u64),
        OtherChain(u64),
        Ahead(u64, u64),
    }
    use Says::*;

    impl World {
        fn new(count: usize) -> Self {
            Self { health: Health::new((0..count).map(|n| n.to_string()), Limits::default()), now: Duration::ZERO }
        }

        /// One look at all nodes that are due.
        fn look(&mut self, says: &[Says]) {
            self.now += SECOND;
            let asked = self.health.due(self.now);
            let mut see = |node: usize, seen| self.health.observe(node, seen, self.now);
            for &node in &asked {
                let chain = if let OtherChain(id) = says[node] { id } else { 1 };
                see(node, Observation::Chain(chain));
                match says[node] {
                    At(number) => see(node, Observation::Head { number, hash: hash(number, 0), ahead: 0 }),
                    Fork(number, fork) => see(node, Observation::Head { number, hash: hash(number, fork), ahead: 0 }),
                    OtherChain(_) => see(node, Observation::Head { number: 5, hash: hash(5, 9), ahead: 0 }),
                    Ahead(number, ahead) => see(node, Observation::Head { number, hash: hash(number, 0), ahead }),
                    Nothing => see(node, Observation::Failed { error: "time out".into() }),
                    Hollow(claims, known) => see(node, Observation::Hollow { claims, known }),
                }
            }
            if let Some(number) = self.health.common_height(&asked) {
                for &node in &asked {
                    let fork = if let Fork(_, fork) = says[node] { fork } else { 0 };
                    if !matches!(says[node], Nothing) {
                        self.health.observe(node, Observation::Block { number, hash: hash(number, fork) }, self.now);
                    }
                }
            }
            self.health.judge(&asked, self.now);
        }

        fn why(&self, node: usize) -> Option<Why> {
            match self.health.state(node) {
                State::Aside { why, .. } => Some(why.clone()),
                State::Good | State::Unknown => None,
            }
        }
    }

    #[test]
    fn nodes_that_do_well_are_asked_in_the_order_given() {
        let mut world = World::new(3);
        assert_eq!(world.health.order(), [0, 1, 2]);
        world.look(&[At(10), At(11), At(12)]);
        assert_eq!(world.health.order(), [0, 1, 2]);
    }

    #[test]
    fn a_silent_node_is_left_aside_asked_less_and_less_and_taken_back() {
        let mut world = World::new(2);
        world.look(&[At(10), At(10)]);
        let mut asked = 0;
        for n in 0..30 {
            asked += usize::from(world.health.due(world.now + SECOND).contains(&0));
            world.look(&[Nothing, At(10 + n)]);
        }
        assert_eq!((world.why(0), world.health.order()), (Some(Why::Silent), vec![1, 0]));
        assert!((4..=6).contains(&asked), "asked {asked} times in 30 s");
        while !world.health.due(world.now + SECOND).contains(&0) {
            world.look(&[At(40), At(40)]);
        }
        world.look(&[At(40), At(40)]);
        assert_eq!(world.health.order(), [0, 1]);
        assert_eq!(world.health.status()[0].times_aside, 1);
    }

    #[test]
    fn many_blocks_behind_is_a_lag_at_once_and_two_after_a_while() {
        let mut world = World::new(2);
        world.look(&[At(10), At(14)]);
        assert_eq!((world.why(0), world.health.order()), (Some(Why::Lags { by: 4 }), vec![1]));
        let mut world = World::new(2);
        for n in 0..31 {
            world.look(&[At(10 + n), At(12 + n)]);
            assert_eq!(world.why(0), None, "after {n} s");
        }
        world.look(&[At(41), At(43)]);
        assert_eq!(world.why(0), Some(Why::Lags { by: 2 }));
    }

    #[test]
    fn one_block_behind_is_no_lag() {
        let mut world = World::new(2);
        (0..200).for_each(|n| world.look(&[At(10 + n), At(11 + n)]));
        assert_eq!(world.health.order(), [0, 1]);
    }

    #[test]
    fn who_was_behind_a_dead_node_becomes_the_best() {
        let mut world = World::new(2);
        world.look(&[At(50), At(10)]);
        assert_eq!(world.health.order(), [0]);
        world.look(&[Nothing, At(11)]);
        world.look(&[Nothing, At(12)]);
        assert_eq!(world.health.order(), [1, 0]);
    }

    #[test]
    fn the_majority_is_right_also_against_one_that_is_further() {
        let mut world = World::new(3);
        world.look(&[Fork(20, 7), At(10), At(10)]);
        assert_eq!((world.why(0), world.health.order()), (Some(Why::Disagrees { at: 10 }), vec![1, 2]));
        // It comes to its senses.
        for n in 0..4 {
            world.look(&[At(11 + n), At(11 + n), At(11 + n)]);
        }
        assert_eq!(world.health.order(), [0, 1, 2]);
    }

    #[test]
    fn of_two_that_disagree_the_longer_chain_is_right() {
        let mut world = World::new(2);
        world.look(&[Fork(10, 7), At(11)]);
        assert_eq!((world.why(0), world.health.order()), (Some(Why::Disagrees { at: 10 }), vec![1]));
    }

    #[test]
    fn a_height_that_cannot_be_served_is_a_lie() {
        let mut world = World::new(2);
        world.look(&[Hollow(900, 10), At(10)]);
        assert_eq!(world.why(0), Some(Why::LiesAboutHeight { claims: 900, known: 10 }));
        assert_eq!(world.health.order(), [1]);
    }

    #[test]
    fn a_height_that_nobody_confirms_is_a_lie_unless_the_others_stand_still() {
        let mut world = World::new(3);
        world.look(&[At(1000), At(10), At(10)]);
        assert_eq!(world.why(0), Some(Why::LiesAboutHeight { claims: 1000, known: 10 }));
        let mut world = World::new(3);
        for n in 0..130 {
            world.look(&[At(1000 + n), At(10), At(10)]);
        }
        assert_eq!(world.health.order(), [0], "two that are stuck do not overrule one that goes on");
    }

    #[test]
    fn of_two_the_one_that_is_ahead_is_believed() {
        let mut world = World::new(2);
        world.look(&[At(1000), At(10)]);
        assert_eq!(world.why(1), Some(Why::Lags { by: 990 }));
    }

    #[test]
    fn a_time_to_come_is_a_lie_unless_all_show_it() {
        let mut world = World::new(2);
        world.look(&[Ahead(10, 86_400), At(10)]);
        assert_eq!((world.why(0), world.health.order()), (Some(Why::AheadOfClock { seconds: 86_400 }), vec![1]));
        let mut world = World::new(2);
        world.look(&[Ahead(10, 60), At(10)]);
        assert_eq!(world.why(0), None, "clocks differ a little");
        world.look(&[Ahead(11, 90), Ahead(11, 90)]);
        assert_eq!(world.health.order(), [0, 1], "this machine's clock is wrong");
    }

    #[test]
    fn another_chain_is_never_used() {
        let mut world = World::new(3);
        world.look(&[OtherChain(5), At(10), At(10)]);
        assert_eq!(world.why(0), Some(Why::OtherChain { found: 5, wanted: 1 }));
        assert_eq!((world.health.order(), world.health.audience()), (vec![1, 2], vec![1, 2]));
        // Also not when all others are gone.
        world.look(&[OtherChain(5), Nothing, Nothing]);
        assert_eq!(world.health.order(), [1, 2]);
    }

    #[test]
    fn all_silent_nodes_are_still_worth_asking() {
        let mut world = World::new(2);
        world.look(&[Nothing, Nothing]);
        assert_eq!(world.health.order(), [0, 1]);
        assert!(world.health.status().iter().all(|s| s.state == "aside" && s.last_error.is_some()));
    }
}
