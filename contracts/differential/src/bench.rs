//! Two systems side by side. A step is done to both and compared; it counts in both or in neither, so that their states
//! never part.

use crate::actors::Cast;
use crate::artifacts::Error;
use crate::coverage::Coverage;
use crate::deploy::{self, Rule, System};
use crate::deviations::{self, Scene};
use crate::machine::{Call, End, Machine, Outcome};
use crate::step::{self, Look, Step};
use alloy_primitives::{Address, Bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// When the chains begin.
pub const GENESIS: u64 = 1_700_000_000;

/// Where the two systems disagree and are not meant to.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What the step was about.
    pub aim: &'static str,
    /// What was asked of both.
    pub call: Call,
    /// Whether it was asked after the step, not by it.
    pub looking: bool,
    /// What the published contracts say.
    pub published: Outcome,
    /// What ours say.
    pub ours: Outcome,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.looking { "asked after" } else { "in" };
        writeln!(f, "the two systems differ, {when} step {:?}", self.aim)?;
        writeln!(
            f,
            "  call: from {} to {} gas {} data {}",
            self.call.from, self.call.to, self.call.gas, self.call.data
        )?;
        for (name, outcome) in [("published", &self.published), ("ours", &self.ours)] {
            writeln!(
                f,
                "  {name}: {:?} {} ({})",
                outcome.end,
                outcome.output,
                crate::coverage::reason_of(&outcome.output)
            )?;
        }
        // Events up to the first that differs.
        let (theirs, mine) = (&self.published.logs, &self.ours.logs);
        let agree = theirs.iter().zip(mine).take_while(|(a, b)| a == b).count();
        if agree < theirs.len().max(mine.len()) {
            writeln!(f, "  {agree} events agree, then")?;
        }
        for (name, logs) in [("published", theirs), ("ours", mine)] {
            if let Some(log) = logs.get(agree) {
                writeln!(f, "    {name}: at {} {:?} {}", log.address, log.topics(), log.data.data)?;
            }
        }
        Ok(())
    }
}

/// See the module. Alone, it has one machine and compares nothing.
pub struct Bench {
    /// Addresses, the same on both sides.
    pub system: System,
    /// What was exercised.
    pub coverage: Coverage,
    published: Option<Machine>,
    ours: Machine,
    /// What each side said that the address of an asset will be: ours, published.
    predicted: BTreeMap<Address, Address>,
}

impl Bench {
    /// The published system and ours with its penalty.
    pub fn paired() -> Result<Self, Error> {
        Self::paired_with(Rule::TwoThirds)
    }

    /// The published system and ours with any penalty: with another than its own, the two must be found to differ.
    pub fn paired_with(rule: Rule) -> Result<Self, Error> {
        let (mut published, mut ours) = (Machine::new(GENESIS), Machine::new(GENESIS));
        let system = deploy::published(&mut published)?;
        assert_eq!(system, deploy::ours(&mut ours, rule)?, "both systems have the same addresses");
        Ok(Self::of(system, Some(published), ours))
    }

    /// The same before anybody configured the hubs.
    pub fn unconfigured() -> Result<Self, Error> {
        let (mut published, mut ours) = (Machine::new(GENESIS), Machine::new(GENESIS));
        let system = deploy::published_unconfigured(&mut published)?;
        deploy::ours_unconfigured(&mut ours, Rule::TwoThirds)?;
        Ok(Self::of(system, Some(published), ours))
    }

    /// Ours alone.
    pub fn alone(rule: Rule) -> Result<Self, Error> {
        let mut ours = Machine::new(GENESIS);
        let system = deploy::ours(&mut ours, rule)?;
        Ok(Self::of(system, None, ours))
    }

    fn of(system: System, published: Option<Machine>, ours: Machine) -> Self {
        let mut bench = Self { system, coverage: Coverage::default(), published, ours, predicted: BTreeMap::new() };
        bench.machines(|machine| Cast::default().install(machine));
        bench
    }

    /// Does something to the state of both sides that no call could.
    pub fn machines(&mut self, mut change: impl FnMut(&mut Machine)) {
        self.published.iter_mut().for_each(&mut change);
        change(&mut self.ours);
    }

    /// Makes the present state the one that [`Bench::restart`] begins with.
    pub fn settle(&mut self) {
        self.machines(Machine::settle);
    }

    /// A bench in the settled state, with empty counts.
    pub fn restart(&self) -> Self {
        Self {
            system: self.system,
            coverage: Coverage::default(),
            published: self.published.as_ref().map(Machine::restart),
            ours: self.ours.restart(),
            predicted: self.predicted.clone(),
        }
    }

    /// Whether there are two sides.
    pub fn is_paired(&self) -> bool {
        self.published.is_some()
    }

    /// Unix seconds of the last block.
    pub fn now(&self) -> u64 {
        self.ours.now()
    }

    /// Our side, to ask.
    pub fn ours(&mut self) -> &mut Machine {
        &mut self.ours
    }

    /// Does a step to both sides and compares. Returns what the callers saw, which is the same on both sides unless a
    /// deviation allows otherwise; then it is what ours said, and the flag is false because nothing was kept.
    pub fn play(&mut self, step: &Step) -> Result<(Outcome, bool), Box<Difference>> {
        self.machines(|machine| machine.set_now(step.at));
        let Some(mut published) = self.published.take() else { return Ok(self.play_alone(step)) };
        let result = self.play_both(&mut published, step);
        self.published = Some(published);
        result
    }

    fn play_alone(&mut self, step: &Step) -> (Outcome, bool) {
        let pending = self.ours.run(&step.call);
        self.note(1, step, pending.outcome());
        if pending.outcome().ok() && !step.dry {
            return (self.ours.keep(pending), true);
        }
        (pending.outcome().clone(), false)
    }

    fn note(&mut self, side: usize, step: &Step, outcome: &Outcome) {
        self.coverage.note(side, &self.system, &step.call, outcome);
        self.coverage.note_aim(side, step.aim, outcome);
    }

    fn play_both(&mut self, published: &mut Machine, step: &Step) -> Result<(Outcome, bool), Box<Difference>> {
        let theirs = match step.instead.as_slice() {
            [] => published.run(&step.call),
            calls => published.run_all(calls),
        };
        let like = (step.creates && theirs.outcome().ok()).then(|| asset_in(&theirs.outcome().output)).flatten();
        let mine = match step.creates {
            true => self.ours.run_redirected(&step.call, like),
            false => self.ours.run(&step.call),
        };
        self.note(0, step, theirs.outcome());
        self.note(1, step, mine.outcome());
        let difference = self.compare(step, &step.call, theirs.outcome(), mine.outcome(), false);
        let agreed = match difference {
            Agreement::Same => true,
            Agreement::Allowed => false,
            Agreement::Different(difference) => {
                return Err(difference);
            }
        };
        let mine_seen = mine.outcome().clone();
        if !agreed || step.dry || !mine_seen.ok() {
            return Ok((mine_seen, false));
        }
        published.keep(theirs);
        self.ours.keep(mine);
        for look in self.looks(step, &mine_seen) {
            self.look(published, step, look)?;
        }
        Ok((mine_seen, true))
    }

    /// The step's own questions, and one about every account that its events name.
    fn looks(&self, step: &Step, outcome: &Outcome) -> Vec<Look> {
        let mut accounts = BTreeSet::from([step.call.from, self.system.hub, KITTY]);
        for log in &outcome.logs {
            let words = log.topics().iter().skip(1).map(|t| t.0);
            let first = log.data.data.get(..32).and_then(|w| <[u8; 32]>::try_from(w).ok());
            accounts.extend(words.chain(first).filter_map(as_address));
        }
        let mut looks: Vec<Look> = accounts.into_iter().flat_map(|a| step::account(&self.system, a)).collect();
        looks.extend(step.looks.iter().cloned());
        looks
    }

    fn look(&mut self, published: &mut Machine, step: &Step, (to, data): Look) -> Result<(), Box<Difference>> {
        let theirs = published.view(to, data.clone());
        let mine = self.ours.view(to, data.clone());
        let call = Call::new(Address::ZERO, to, data);
        self.coverage.note(0, &self.system, &call, &theirs);
        self.coverage.note(1, &self.system, &call, &mine);
        match self.compare(step, &call, &theirs, &mine, true) {
            Agreement::Different(difference) => Err(difference),
            Agreement::Same | Agreement::Allowed => Ok(()),
        }
    }

    /// Asks both sides; for what is to be compared outside a step.
    pub fn ask(&mut self, looks: impl IntoIterator<Item = Look>) -> Result<(), Box<Difference>> {
        let Some(mut published) = self.published.take() else { return Ok(()) };
        let step = Step::new("look around", Call::new(Address::ZERO, Address::ZERO, Bytes::new()));
        let result = looks.into_iter().try_for_each(|look| self.look(&mut published, &step, look));
        self.published = Some(published);
        result
    }

    fn compare(&mut self, step: &Step, call: &Call, theirs: &Outcome, mine: &Outcome, looking: bool) -> Agreement {
        if same(theirs, mine) || self.same_prediction(call, theirs, mine) {
            return Agreement::Same;
        }
        let scene = Scene { system: &self.system, call, published: theirs, ours: mine };
        if let Some(deviation) = deviations::allowing(&scene) {
            *self.coverage.deviations.entry(deviation.name).or_default() += 1;
            return if deviation.keeps { Agreement::Same } else { Agreement::Allowed };
        }
        let (published, ours) = (theirs.clone(), mine.clone());
        Agreement::Different(Box::new(Difference { aim: step.aim, call: call.clone(), looking, published, ours }))
    }

    /// Predicted addresses differ as creation codes do; what one side predicts must belong to what the other predicts.
    fn same_prediction(&mut self, call: &Call, theirs: &Outcome, mine: &Outcome) -> bool {
        if !deviations::is_prediction(call) || !theirs.ok() || !mine.ok() {
            return false;
        }
        let (Some(natural), Some(like)) = (asset_in(&mine.output), asset_in(&theirs.output)) else { return false };
        let created = self.ours.redirected(natural).is_none_or(|known| known == like);
        created && *self.predicted.entry(natural).or_insert(like) == like
    }
}

enum Agreement {
    Same,
    Allowed,
    Different(Box<Difference>),
}

/// Gas is everybody's own affair, and so is which way it ran out.
fn same(a: &Outcome, b: &Outcome) -> bool {
    match (&a.end, &b.end) {
        (End::Halted(_), End::Halted(_)) => true,
        _ => a.end == b.end && a.output == b.output && a.logs == b.logs,
    }
}

fn asset_in(output: &Bytes) -> Option<Address> {
    output.get(..32).and_then(|w| as_address(w.try_into().ok()?))
}

fn as_address(word: [u8; 32]) -> Option<Address> {
    let address = Address::from_slice(&word[12..]);
    (word[..12] == [0; 12] && word[12..16] != [0; 4]).then_some(address)
}

/// Holds what schedulers lost.
pub const KITTY: Address = alloy_primitives::address!("0x99c2268479b93fDe36232351229815DF80837e23");
