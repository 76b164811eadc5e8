//! Our RLC beside the published one: what clients use of a token must be the same.
//!
//! Not the same, and why: refusals say why (the published ones have no data); no `burn`, nobody who can mint, freeze or burn
//! what others have; another long name; and ours refuses a `transferFrom` of somebody to itself of more than there is, which
//! changes nothing in the published one.

use alloy_primitives::{Address, Bytes, U256};
use bourse_differential::actors::{BROKEN_GROUP, Cast, SILENT};
use bourse_differential::artifacts;
use bourse_differential::bench::GENESIS;
use bourse_differential::calls::{bare, call, selector};
use bourse_differential::deploy::OWNER;
use bourse_differential::machine::{Call, Machine};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

const STEPS: usize = 20_000;
const SUPPLY: u64 = 87_000_000_000_000_000;

/// The two, each on its machine, at the same address.
struct Tokens {
    machines: [Machine; 2],
    token: Address,
}

impl Tokens {
    fn new() -> Self {
        let codes = [artifacts::rlc(), artifacts::ours("RLC")].map(|a| a.and_then(|a| a.code(Address::ZERO)));
        let codes = codes.map(|code| code.unwrap_or_else(|error| panic!("{error}")));
        let machines = codes.map(|code| {
            let mut machine = Machine::new(GENESIS);
            Cast::default().install(&mut machine);
            machine.deploy(OWNER, 0, code);
            machine
        });
        Self { machines, token: OWNER.create(0) }
    }

    /// What both answer; they must answer the same.
    fn agree(&mut self, question: &Bytes) -> Bytes {
        let token = self.token;
        let [theirs, mine] = self.machines.each_mut().map(|m| m.view(token, question.clone()));
        assert_eq!((&theirs.end, &theirs.output), (&mine.end, &mine.output), "{question}");
        mine.output
    }

    /// Sends the same call to both. What counts in one counts in the other.
    fn play(&mut self, from: Address, data: &Bytes) -> &'static str {
        let call = Call::new(from, self.token, data.clone());
        let [theirs, mine] = self.machines.each_mut().map(|m| m.run(&call));
        if theirs.outcome().ok() && !mine.outcome().ok() && sends_itself(data) {
            return "itself";
        }
        assert_eq!(theirs.outcome().ok(), mine.outcome().ok(), "{from} {data}");
        if !mine.outcome().ok() {
            return "refused";
        }
        assert_eq!(theirs.outcome().logs, mine.outcome().logs, "{from} {data}");
        assert_eq!(theirs.outcome().output, mine.outcome().output, "{from} {data}");
        let [published, ours] = &mut self.machines;
        published.keep(theirs);
        ours.keep(mine);
        "done"
    }
}

/// A transferFrom with the same address twice.
fn sends_itself(data: &Bytes) -> bool {
    data[..4] == selector("transferFrom(address,address,uint256)") && data[4..36] == data[36..68]
}

#[test]
fn our_token_does_what_the_published_one_does() {
    let mut tokens = Tokens::new();
    let cast = Cast::default();
    let mut people: Vec<Address> = cast.all[..5].iter().map(|a| a.address).collect();
    people.extend([OWNER, SILENT, BROKEN_GROUP, Address::ZERO]);
    let mut rng = StdRng::seed_from_u64(7);
    let mut seen: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for question in [bare("symbol()"), bare("decimals()"), bare("totalSupply()")] {
        tokens.agree(&question);
    }
    assert_eq!(tokens.agree(&bare("totalSupply()"))[..], U256::from(SUPPLY).to_be_bytes::<32>());
    for _ in 0..STEPS {
        let mut any = || people[rng.random_range(0..people.len())];
        let (from, a, b) = (any(), any(), any());
        let amount = U256::from(match rng.random_range(0..5) {
            0 => 0,
            1 => SUPPLY / 3,
            2 => u64::MAX,
            _ => rng.random_range(1..1_000_000),
        });
        let (name, data) = match rng.random_range(0..10) {
            0..4 => ("transfer", call("transfer(address,uint256)", (a, amount))),
            4..6 => ("approve", call("approve(address,uint256)", (a, amount))),
            6..9 => ("transferFrom", call("transferFrom(address,address,uint256)", (a, b, amount))),
            _ => {
                let extra = Bytes::from_static(b"extra");
                ("approveAndCall", call("approveAndCall(address,uint256,bytes)", (a, amount, extra)))
            }
        };
        let from = if from.is_zero() { OWNER } else { from };
        *seen.entry((name, tokens.play(from, &data))).or_default() += 1;
        for who in [from, a, b] {
            tokens.agree(&call("balanceOf(address)", (who,)));
        }
        for (holder, spender) in [(from, a), (a, from)] {
            tokens.agree(&call("allowance(address,address)", (holder, spender)));
        }
    }
    let total = people.iter().map(|p| U256::from_be_slice(&tokens.agree(&call("balanceOf(address)", (*p,)))));
    assert_eq!(total.sum::<U256>(), U256::from(SUPPLY));
    for name in ["transfer", "approve", "transferFrom", "approveAndCall"] {
        assert!(seen.contains_key(&(name, "done")), "{name} never succeeded: {seen:?}");
        assert!(seen.contains_key(&(name, "refused")) || name == "approve", "{name} was never refused: {seen:?}");
    }
}
