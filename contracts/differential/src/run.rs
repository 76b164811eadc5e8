//! Whole runs: many seeds, each a life of its own in the same world, and what to print when one fails.

use crate::actors::Cast;
use crate::bench::{Bench, Difference};
use crate::calls::{bare, call};
use crate::coverage::Coverage;
use crate::life::{self, Estate, Life};
use crate::machine::{CHAIN_ID, Call};
use crate::referee::{Referee, Verdict};
use crate::step::Step;
use alloy_primitives::{Bytes, U256};
use std::fmt;

/// Steps of a life unless told otherwise.
pub const STEPS: usize = 120;

/// A bench in which the world has been made, ready for lives.
pub struct World {
    bench: Bench,
    estate: Estate,
    rule: bourse_protocol::reward::Penalty,
    /// What making the world exercised.
    pub coverage: Coverage,
}

/// Why a life ended before its time.
#[derive(Debug)]
pub enum Failure {
    /// The two systems differ.
    Differ(Box<Difference>),
    /// Ours do what the Rust rules do not say.
    Unruly(Verdict),
}

/// A failed life, with what led to it.
#[derive(Debug)]
pub struct Trace {
    /// Its seed.
    pub seed: u64,
    /// Number of the step that failed, from 0.
    pub at: usize,
    /// The steps up to there.
    pub steps: Vec<Step>,
    /// What happened.
    pub failure: Failure,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Differ(difference) => difference.fmt(f),
            Self::Unruly(verdict) => verdict.fmt(f),
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {} fails at step {}: replay with --seed {} --steps {}",
            self.seed,
            self.at,
            self.seed,
            self.at + 1
        )?;
        write!(f, "{}", self.failure)
    }
}

impl World {
    /// Makes the world of a bench: categories, assets, money, and workers with a past.
    pub fn make(mut bench: Bench, rule: bourse_protocol::reward::Penalty) -> Result<Self, Box<Difference>> {
        let estate = life::found(&mut bench)?;
        life::veterans(&mut bench, &estate)?;
        bench.settle();
        let coverage = bench.coverage.clone();
        Ok(Self { bench, estate, rule, coverage })
    }

    /// What cannot happen in a life: a token that says no, one without end, a chain that splits, a hub that nobody configured.
    pub fn corners(&self, unconfigured: Bench) -> Result<Coverage, Box<Difference>> {
        let mut bench = self.bench.restart();
        let token = bench.system.rlc;
        bench.machines(|machine| Cast::break_token(machine, token));
        let (hub, owner) = (bench.system.hub, crate::deploy::OWNER);
        let calls = [
            call("deposit(uint256)", (U256::from(1),)),
            call("depositFor(uint256,address)", (U256::from(1), owner)),
            call("depositForArray(uint256[],address[])", (vec![U256::from(1)], vec![owner])),
            call("receiveApproval(address,uint256,address,bytes)", (owner, U256::from(1), token, Bytes::new())),
        ];
        let mut coverage = Coverage::default();
        for data in calls {
            bench.play(&Step::new("a token that says no", Call::new(owner, hub, data)))?;
        }
        coverage.add(&bench.coverage);

        let mut bench = self.bench.restart();
        bench.machines(|machine| Cast::endless_token(machine, token));
        let most = U256::from(u128::MAX >> 32);
        for data in [call("deposit(uint256)", (most,)), call("depositFor(uint256,address)", (most, owner))] {
            bench.play(&Step::new("more SRLC than an account holds", Call::new(owner, hub, data)).dry())?;
        }
        coverage.add(&bench.coverage);

        let mut bench = self.bench.restart();
        bench.machines(|machine| machine.set_chain(CHAIN_ID + 1));
        let separator = || (hub, bare("eip712domain_separator()"));
        bench.ask([separator(), (hub, bare("domain()"))])?;
        let update = Step::new("a chain has split", Call::new(owner, hub, bare("updateDomainSeparator()")));
        bench.play(&update.look([separator()]))?;
        coverage.add(&bench.coverage);

        let mut bench = unconfigured;
        for data in [bare("updateDomainSeparator()"), bare("eip712domain_separator()"), bare("countCategory()")] {
            bench.play(&Step::new("an unconfigured hub", Call::new(owner, hub, data)))?;
        }
        coverage.add(&bench.coverage);
        Ok(coverage)
    }

    /// Lives one life. Returns what it exercised.
    pub fn live(&self, seed: u64, steps: usize) -> Result<Coverage, Box<Trace>> {
        let mut bench = self.bench.restart();
        let mut life = Life::new(seed, bench.system, &self.estate);
        let mut referee = Referee::new(self.rule);
        let mut past = Vec::new();
        for at in 0..steps {
            let (step, memo) = life.next(&mut bench);
            past.push(step.clone());
            let played = play(&mut bench, &mut referee, &step);
            match played {
                Ok((outcome, kept)) => life.learn(memo, &outcome, kept),
                Err(failure) => return Err(Box::new(Trace { seed, at, steps: past, failure })),
            }
        }
        if let Err(difference) = bench.ask(life.everything()) {
            return Err(Box::new(Trace { seed, at: steps, steps: past, failure: Failure::Differ(difference) }));
        }
        bench.coverage.note_judged(&referee.judged);
        Ok(bench.coverage)
    }

    /// Leaves out of a trace what is not needed for its failure. The result replays what it lists, nothing else.
    pub fn shrink(&self, trace: &Trace) -> Vec<Step> {
        let wanted = kind(&trace.failure);
        let fails = |steps: &[Step]| self.replay(steps).is_some_and(|failure| kind(&failure) == wanted);
        let mut steps = trace.steps.clone();
        if !fails(&steps) {
            return steps;
        }
        let mut size = steps.len() / 2;
        while size > 0 {
            let mut at = 0;
            while at < steps.len() {
                let mut fewer = steps.clone();
                fewer.drain(at..(at + size).min(steps.len()));
                if fails(&fewer) {
                    steps = fewer;
                } else {
                    at += size;
                }
            }
            size /= 2;
        }
        steps
    }

    /// Plays steps as they are; the failure, if there is one.
    pub fn replay(&self, steps: &[Step]) -> Option<Failure> {
        let mut bench = self.bench.restart();
        let mut referee = Referee::new(self.rule);
        for step in steps {
            let step = Step { at: step.at.max(bench.now()), ..step.clone() };
            if let Err(failure) = play(&mut bench, &mut referee, &step) {
                return Some(failure);
            }
        }
        None
    }
}

type Played = (crate::machine::Outcome, bool);

fn play(bench: &mut Bench, referee: &mut Referee, step: &Step) -> Result<Played, Failure> {
    referee.look(bench, step);
    let (outcome, kept) = bench.play(step).map_err(Failure::Differ)?;
    referee.judge(bench, step, &outcome, kept).map_err(Failure::Unruly)?;
    Ok((outcome, kept))
}

/// What makes two failures the same for the purpose of shrinking.
fn kind(failure: &Failure) -> String {
    match failure {
        Failure::Differ(d) => format!("{} {} {:?}", d.aim, d.looking, &d.call.data.get(..4)),
        Failure::Unruly(v) => v.rule.to_owned(),
    }
}
