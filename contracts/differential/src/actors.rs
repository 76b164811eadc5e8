//! Who takes part: keys, and small contracts in place of people, groups and receivers.

use crate::machine::Machine;
use alloy::signers::{SignerSync, local::PrivateKeySigner};
use alloy_primitives::{Address, B256, Bytes, U256, eip191_hash_message};

/// Somebody who can call and sign.
#[derive(Clone, Debug)]
pub struct Actor {
    /// Its address.
    pub address: Address,
    key: Option<PrivateKeySigner>,
}

impl Actor {
    fn with_key(number: u64) -> Self {
        let key =
            PrivateKeySigner::from_bytes(&B256::from(U256::from(0xb0_0000 + number))).expect("a small key is valid");
        Self { address: key.address(), key: Some(key) }
    }

    fn wallet(number: u64) -> Self {
        Self { address: place(0x3a11_0000 + number), key: None }
    }

    /// Vouches for a digest: with ECDSA, or in the way of the contract wallet.
    pub fn sign(&self, digest: B256) -> Bytes {
        match &self.key {
            Some(key) => key.sign_hash_sync(&digest).expect("a local key signs").as_bytes().into(),
            None => (!digest).0.into(),
        }
    }

    /// The 64-byte form of EIP-2098.
    pub fn sign_compact(&self, digest: B256) -> Bytes {
        match &self.key {
            Some(key) => key.sign_hash_sync(&digest).expect("a local key signs").as_erc2098().into(),
            None => self.sign(digest),
        }
    }

    /// As a personal message (EIP-191).
    pub fn sign_message(&self, message: B256) -> Bytes {
        self.sign(eip191_hash_message(message))
    }
}

/// Everybody. Roles overlap on purpose: who asks may work, who sells may sponsor.
pub struct Cast {
    /// All actors.
    pub all: Vec<Actor>,
}

impl Default for Cast {
    fn default() -> Self {
        let mut all: Vec<_> = (0..COUNT as u64).map(Actor::with_key).collect();
        for wallet in WALLETS {
            all[wallet] = Actor::wallet(wallet as u64);
        }
        Self { all }
    }
}

/// Numbers of the actors with a role.
pub const REQUESTERS: std::ops::Range<usize> = 0..4;
/// Owners of apps and datasets.
pub const SELLERS: std::ops::Range<usize> = 4..8;
/// Owners of workerpools.
pub const SCHEDULERS: std::ops::Range<usize> = 8..11;
/// Workers; the first five become veterans.
pub const WORKERS: std::ops::Range<usize> = 11..25;
/// Those of the workers that have a score when the random part begins.
pub const VETERANS: std::ops::Range<usize> = 11..16;
/// Signs for enclaves.
pub const BROKER: usize = 25;
/// Keys of enclaves.
pub const ENCLAVES: std::ops::Range<usize> = 26..28;
/// Nobody in particular.
pub const STRANGER: usize = 28;
/// Has nothing.
pub const POOR: usize = 29;
const COUNT: usize = 30;
const WALLETS: [usize; 4] = [3, 7, 10, 24];

impl Cast {
    /// The actor at an address, if it is one.
    pub fn at(&self, address: Address) -> Option<&Actor> {
        self.all.iter().find(|a| a.address == address)
    }

    /// Replaces the token by one that says no to everything.
    pub fn break_token(machine: &mut Machine, token: Address) {
        let program = PROGRAMS.iter().find(|(at, _)| *at == REFUSER).map(|(_, program)| *program);
        machine.install(token, assemble(program.unwrap_or_default()), []);
    }

    /// Replaces the token by one that has everybody's permission and no end.
    pub fn endless_token(machine: &mut Machine, token: Address) {
        machine.install(token, assemble(YES), []);
    }

    /// Gives everybody ether, and the contracts among them their code.
    pub fn install(&self, machine: &mut Machine) {
        machine.fund(crate::deploy::OWNER, U256::from(10u64.pow(18)));
        for actor in &self.all {
            machine.fund(actor.address, U256::from(10u64.pow(18)));
            if actor.key.is_none() {
                machine.install(actor.address, assemble(WALLET), []);
            }
        }
        for (address, program) in PROGRAMS {
            machine.install(*address, assemble(program), []);
        }
        machine.install(OWNED, assemble(ANSWER_SLOT_0), [(U256::ZERO, self.all[STRANGER].address.into_word().into())]);
    }
}

const fn place(number: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[0] = 0xc0;
    bytes[16] = (number >> 24) as u8;
    bytes[17] = (number >> 16) as u8;
    bytes[18] = (number >> 8) as u8;
    bytes[19] = number as u8;
    Address::new(bytes)
}

/// A group whose members are the keys with something in their slot.
pub const GROUP: Address = place(1);
/// A group that always reverts.
pub const BROKEN_GROUP: Address = place(2);
/// A group that answers with a word that is no boolean.
pub const ODD_GROUP: Address = place(3);
/// A group that answers too little.
pub const SHORT_GROUP: Address = place(4);
/// A contract that burns all the gas that it gets.
pub const BURNER: Address = place(5);
/// A contract that answers nothing to everything.
pub const SILENT: Address = place(6);
/// A receiver that keeps what it was sent.
pub const RECEIVER: Address = place(7);
/// A receiver that answers far more than anybody wants.
pub const BOMB: Address = place(8);
/// A receiver that calls the hub back.
pub const INTRUDER: Address = place(9);
/// Looks like an asset, is in no registry.
pub const OWNED: Address = place(10);
/// Answers zero to everything: a group of nobody, a token that moves nothing.
pub const REFUSER: Address = place(11);

/// Contracts that answer a question about a signature, but not as a wallet does: too little, or more than four bytes.
pub const ODD_WALLETS: [Address; 2] = [SHORT_GROUP, DIRTY_WALLET];
/// A wallet that answers the right four bytes and others after them.
pub const DIRTY_WALLET: Address = place(12);

/// All contracts that can be named as a callback.
pub const RECEIVERS: [Address; 6] = [RECEIVER, BOMB, INTRUDER, BROKEN_GROUP, BURNER, SILENT];
/// All contracts that can be named as a restriction.
pub const GROUPS: [Address; 5] = [GROUP, BROKEN_GROUP, SHORT_GROUP, SILENT, REFUSER];

const PROGRAMS: &[(Address, &str)] = &[
    // keyHasPurpose(key, purpose): purpose 4 and a key whose slot is not empty.
    (GROUP, "04 CALLDATALOAD SLOAD 24 CALLDATALOAD 04 EQ AND 00 MSTORE 20 00 RETURN"),
    (BROKEN_GROUP, "00 00 REVERT"),
    (ODD_GROUP, "02 00 MSTORE 20 00 RETURN"),
    (SHORT_GROUP, "01 00 MSTORE 01 1f RETURN"),
    (BURNER, ":again @again JUMP"),
    (SILENT, "STOP"),
    // Asked with one word: what is kept under it. Else: keeps the hash of the call data under the first word.
    (
        RECEIVER,
        "CALLDATASIZE 24 EQ @read JUMPI CALLDATASIZE 00 00 CALLDATACOPY CALLDATASIZE 00 KECCAK256 04 CALLDATALOAD SSTORE STOP \
         :read 04 CALLDATALOAD SLOAD 00 MSTORE 20 00 RETURN",
    ),
    (BOMB, "010000 00 RETURN"),
    // Asked with one word: what is kept under it. Else: calls claim(first word) at the caller, keeps 1 + success.
    (
        INTRUDER,
        "CALLDATASIZE 24 EQ @read JUMPI bd66528a e0 SHL 00 MSTORE 04 CALLDATALOAD 04 MSTORE \
         00 00 24 00 00 CALLER GAS CALL 01 ADD 04 CALLDATALOAD SSTORE STOP \
         :read 04 CALLDATALOAD SLOAD 00 MSTORE 20 00 RETURN",
    ),
    (REFUSER, "20 00 RETURN"),
    (DIRTY_WALLET, "1626ba7e000000000000000000000000000000000000000000000000000000ff 00 MSTORE 20 00 RETURN"),
];
const ANSWER_SLOT_0: &str = "00 SLOAD 00 MSTORE 20 00 RETURN";

/// Answers one, or true, to everything.
const YES: &str = "01 00 MSTORE 20 00 RETURN";

/// A wallet: its signature of a digest is the digest's complement (ERC-1271); it takes tokens (ERC-721) and approvals.
const WALLET: &str = "00 CALLDATALOAD e0 SHR DUP1 1626ba7e EQ @signature JUMPI DUP1 8f4ffcb1 EQ @yes JUMPI 150b7a02 EQ @token JUMPI STOP \
     :signature 64 CALLDATALOAD 04 CALLDATALOAD NOT EQ 1626ba7e MUL e0 SHL 00 MSTORE 20 00 RETURN \
     :yes 01 00 MSTORE 20 00 RETURN \
     :token 150b7a02 e0 SHL 00 MSTORE 20 00 RETURN";

/// Translates a program: hex numbers are pushed, `:name` is a place to jump to, `@name` pushes it.
fn assemble(program: &str) -> Bytes {
    let size = |word: &str| match word.as_bytes()[0] {
        b':' => 1,
        b'@' => 3,
        _ if opcode(word).is_some() => 1,
        _ => 1 + word.len() / 2,
    };
    let words: Vec<&str> = program.split_whitespace().collect();
    let place_of = |name: &str| {
        let at = words.iter().position(|w| w.strip_prefix(':') == Some(name)).expect("a jump has a target");
        words[..at].iter().map(|w| size(w)).sum::<usize>() as u16
    };
    let mut code = Vec::new();
    for word in &words {
        if word.starts_with(':') {
            code.push(0x5b);
        } else if let Some(name) = word.strip_prefix('@') {
            code.push(0x61);
            code.extend(place_of(name).to_be_bytes());
        } else if let Some(op) = opcode(word) {
            code.push(op);
        } else {
            let bytes = hex::decode(word).expect("a word is an instruction or a number");
            code.push(0x5f + bytes.len() as u8);
            code.extend(bytes);
        }
    }
    code.into()
}

fn opcode(word: &str) -> Option<u8> {
    Some(match word {
        "STOP" => 0x00,
        "ADD" => 0x01,
        "MUL" => 0x02,
        "EQ" => 0x14,
        "AND" => 0x16,
        "NOT" => 0x19,
        "SHL" => 0x1b,
        "SHR" => 0x1c,
        "KECCAK256" => 0x20,
        "CALLER" => 0x33,
        "CALLDATALOAD" => 0x35,
        "CALLDATASIZE" => 0x36,
        "CALLDATACOPY" => 0x37,
        "MSTORE" => 0x52,
        "SLOAD" => 0x54,
        "SSTORE" => 0x55,
        "JUMP" => 0x56,
        "JUMPI" => 0x57,
        "GAS" => 0x5a,
        "DUP1" => 0x80,
        "CALL" => 0xf1,
        "RETURN" => 0xf3,
        "REVERT" => 0xfd,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_translated() {
        assert_eq!(assemble(":a 04 @a JUMP").as_ref(), [0x5b, 0x60, 4, 0x61, 0, 0, 0x56]);
    }

    #[test]
    fn a_wallet_vouches_for_what_it_signed() {
        let mut machine = Machine::new(1);
        let cast = Cast::default();
        cast.install(&mut machine);
        let wallet = &cast.all[WALLETS[0]];
        let digest = B256::repeat_byte(7);
        let ask = |signature: Bytes| crate::calls::call("isValidSignature(bytes32,bytes)", (digest, signature));
        let good = machine.view(wallet.address, ask(wallet.sign(digest)));
        assert_eq!(good.output[..4], [0x16, 0x26, 0xba, 0x7e]);
        let bad = machine.view(wallet.address, ask(wallet.sign(B256::ZERO)));
        assert_eq!(bad.output[..4], [0; 4]);
    }
}
