//! One Ethereum machine: state in memory, a clock that is set by hand, calls that are kept or forgotten.
//!
//! Invariant: nothing changes the state but [`Machine::keep`] and the setup methods.

use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256};
use revm::bytecode::Bytecode;
use revm::context::result::{ExecutionResult, Output};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::context_interface::{ContextTr, CreateScheme};
use revm::database::{CacheDB, InMemoryDB};
use revm::handler::MainnetContext;
use revm::interpreter::{CreateInputs, CreateOutcome};
use revm::primitives::hardfork::SpecId;
use revm::state::{AccountInfo, EvmState};
use revm::{DatabaseCommit, ExecuteEvm, InspectEvm, Inspector, MainBuilder, MainContext, MainnetEvm};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The chain id that both systems see.
pub const CHAIN_ID: u64 = 31337;
/// Gas of a transaction for which the amount is no matter: Osaka's cap.
pub const GAS: u64 = 16_777_216;

type Database = CacheDB<Arc<InMemoryDB>>;

/// A call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who calls: any address, contracts too.
    pub from: Address,
    /// Whom.
    pub to: Address,
    /// Wei to send along.
    pub value: U256,
    /// Call data.
    pub data: Bytes,
    /// Gas limit.
    pub gas: u64,
}

impl Call {
    /// A call without value and with plenty of gas.
    pub fn new(from: Address, to: Address, data: impl Into<Bytes>) -> Self {
        Self { from, to, value: U256::ZERO, data: data.into(), gas: GAS }
    }
}

/// What a caller can see of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What was returned, or the revert data.
    pub output: Bytes,
    /// Events in order; none unless it succeeded.
    pub logs: Vec<Log>,
    /// Gas used.
    pub gas: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It returned.
    Returned,
    /// It reverted.
    Reverted,
    /// It ran out of gas, or worse; the word of the machine for it.
    Halted(String),
}

impl Outcome {
    /// Whether the call returned.
    pub fn ok(&self) -> bool {
        self.end == End::Returned
    }
}

/// What a call would change.
pub struct Pending {
    outcome: Outcome,
    state: EvmState,
}

impl Pending {
    /// What the caller sees.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

/// Gives contracts that our registries create the addresses that they have in the published system, so that every hash
/// that contains an asset agrees between the two. Addresses of assets follow from their creation code, which differs.
#[derive(Clone, Debug, Default)]
pub struct Redirect {
    creators: Vec<Address>,
    /// By the address that the creation code gives.
    known: BTreeMap<Address, Address>,
    /// What the next creation gets, if it is a new one.
    next: Option<Address>,
    /// The address that the creation code of the last creation gives.
    natural: Option<Address>,
}

impl<C: ContextTr> Inspector<C> for Redirect {
    fn create(&mut self, _: &mut C, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        let CreateScheme::Create2 { salt } = inputs.scheme() else { return None };
        if !self.creators.contains(&inputs.caller()) {
            return None;
        }
        let natural = inputs.caller().create2(salt.to_be_bytes(), inputs.init_code_hash());
        self.natural = Some(natural);
        if let Some(address) = self.known.get(&natural).copied().or(self.next) {
            inputs.set_scheme(CreateScheme::Custom { address });
        }
        None
    }
}

/// See the module.
pub struct Machine {
    evm: MainnetEvm<MainnetContext<Database>, Redirect>,
}

impl Machine {
    /// An empty chain at `now`, in unix seconds.
    pub fn new(now: u64) -> Self {
        Self::on(Arc::new(InMemoryDB::default()), now, Redirect::default())
    }

    fn on(base: Arc<InMemoryDB>, now: u64, redirect: Redirect) -> Self {
        let mut rules = CfgEnv::new_with_spec(SpecId::OSAKA);
        rules.chain_id = CHAIN_ID;
        rules.disable_nonce_check = true;
        rules.disable_eip3607 = true;
        let block = BlockEnv {
            number: U256::from(1),
            timestamp: U256::from(now),
            gas_limit: 60_000_000,
            basefee: 0,
            prevrandao: Some(B256::ZERO),
            ..Default::default()
        };
        let context = Context::mainnet().with_db(CacheDB::new(base)).with_cfg(rules).with_block(block);
        Self { evm: context.build_mainnet_with_inspector(redirect) }
    }

    /// Another machine in the same state.
    pub fn fork(&self) -> Self {
        let now = self.now();
        let flat = self.flatten();
        Self::on(Arc::new(flat), now, self.evm.inspector.clone())
    }

    /// Puts all state where forks share it.
    pub fn settle(&mut self) {
        *self = self.fork();
    }

    /// Another machine in the state of the last [`Machine::settle`].
    pub fn restart(&self) -> Self {
        Self::on(self.database_ref().db.clone(), self.now(), self.evm.inspector.clone())
    }

    fn flatten(&self) -> InMemoryDB {
        let database = self.database_ref();
        let mut flat = InMemoryDB::clone(&database.db);
        for (address, account) in &database.cache.accounts {
            flat.cache.accounts.insert(*address, account.clone());
            if let Some(below) = database.db.cache.accounts.get(address) {
                let merged = flat.cache.accounts.get_mut(address).expect("just inserted");
                for (slot, value) in &below.storage {
                    merged.storage.entry(*slot).or_insert(*value);
                }
            }
        }
        flat.cache.contracts.extend(database.cache.contracts.iter().map(|(h, c)| (*h, c.clone())));
        flat
    }

    fn database_ref(&self) -> &Database {
        &self.evm.ctx.journaled_state.database
    }

    fn database(&mut self) -> &mut Database {
        &mut self.evm.ctx.journaled_state.database
    }

    /// Unix seconds of the next block.
    pub fn now(&self) -> u64 {
        self.evm.ctx.block.timestamp.saturating_to()
    }

    /// Begins another block.
    pub fn set_now(&mut self, now: u64) {
        self.evm.ctx.block.timestamp = U256::from(now);
        self.evm.ctx.block.number += U256::from(1);
    }

    /// From now on this is another chain, as after a split.
    pub fn set_chain(&mut self, id: u64) {
        self.evm.ctx.cfg.chain_id = id;
    }

    /// Creates a contract at the address that `creator` gives with this nonce.
    ///
    /// # Panics
    /// If the constructor fails: both systems are known to deploy.
    pub fn deploy(&mut self, creator: Address, nonce: u64, code: Bytes) -> Address {
        let mut info = self.account(creator);
        info.nonce = nonce;
        self.database().insert_account_info(creator, info);
        let transaction = TxEnv {
            caller: creator,
            gas_limit: GAS,
            kind: TxKind::Create,
            data: code,
            nonce,
            chain_id: None,
            ..Default::default()
        };
        let done = self.evm.transact(transaction).expect("a creation without fees is valid");
        let ExecutionResult::Success { output: Output::Create(_, Some(address)), .. } = &done.result else {
            panic!("deployment of contract {nonce} of {creator} fails: {:?}", done.result);
        };
        let address = *address;
        self.database().commit(done.state);
        address
    }

    /// Puts code and storage at an address.
    pub fn install(&mut self, address: Address, code: Bytes, storage: impl IntoIterator<Item = (U256, U256)>) {
        let mut info = self.account(address);
        let code = Bytecode::new_raw(code);
        info.code_hash = code.hash_slow();
        info.code = Some(code);
        self.database().insert_account_info(address, info);
        self.add_storage(address, storage);
    }

    /// Writes storage as no call could.
    pub fn add_storage(&mut self, address: Address, storage: impl IntoIterator<Item = (U256, U256)>) {
        for (slot, value) in storage {
            self.database().insert_account_storage(address, slot, value).expect("memory answers");
        }
    }

    /// Gives an account wei.
    pub fn fund(&mut self, address: Address, wei: U256) {
        let mut info = self.account(address);
        info.balance = wei;
        self.database().insert_account_info(address, info);
    }

    fn account(&mut self, address: Address) -> AccountInfo {
        use revm::Database as _;
        self.database().basic(address).expect("memory answers").unwrap_or_default()
    }

    /// Makes a call without keeping what it changes.
    pub fn run(&mut self, call: &Call) -> Pending {
        let done = self.evm.transact(transaction(call)).expect("a call without fees is valid");
        Pending { outcome: outcome(done.result), state: done.state }
    }

    /// The same, where assets that registries create get the address `like`.
    pub fn run_redirected(&mut self, call: &Call, like: Option<Address>) -> Pending {
        self.evm.inspector.next = like;
        self.evm.inspector.natural = None;
        let done = self.evm.inspect_tx(transaction(call)).expect("a call without fees is valid");
        Pending { outcome: outcome(done.result), state: done.state }
    }

    /// Makes several calls as if they were one: all their events, the first refusal, or what the first one returned.
    pub fn run_all(&mut self, calls: &[Call]) -> Pending {
        let before = self.database_ref().cache.clone();
        let mut logs = Vec::new();
        let mut changed = EvmState::default();
        let mut whole: Option<Outcome> = None;
        for call in calls {
            let pending = self.run(call);
            let mut outcome = pending.outcome;
            if !outcome.ok() {
                self.database().cache = before;
                return Pending { outcome, state: EvmState::default() };
            }
            logs.append(&mut outcome.logs);
            self.database().commit(pending.state.clone());
            merge(&mut changed, pending.state);
            whole.get_or_insert(outcome);
        }
        self.database().cache = before;
        let outcome = Outcome { logs, ..whole.expect("there is a call") };
        Pending { outcome, state: changed }
    }

    /// Keeps what a call changed.
    pub fn keep(&mut self, pending: Pending) -> Outcome {
        self.database().commit(pending.state);
        if let Some(natural) = self.evm.inspector.natural.take()
            && let Some(like) = self.evm.inspector.next.take()
        {
            self.evm.inspector.known.insert(natural, like);
        }
        pending.outcome
    }

    /// From now on, assets created by `registries` get the addresses that [`Machine::run_redirected`] names.
    pub fn redirect(&mut self, registries: Vec<Address>) {
        self.evm.inspector.creators = registries;
    }

    /// The other system's address of what this system would create at `natural`.
    pub fn redirected(&self, natural: Address) -> Option<Address> {
        self.evm.inspector.known.get(&natural).copied()
    }

    /// Makes a call, keeps it if it succeeds.
    pub fn transact(&mut self, call: &Call) -> Outcome {
        let pending = self.run(call);
        if pending.outcome.ok() {
            return self.keep(pending);
        }
        pending.outcome
    }

    /// Asks a question.
    pub fn view(&mut self, to: Address, data: Bytes) -> Outcome {
        self.run(&Call::new(Address::ZERO, to, data)).outcome
    }
}

/// Later changes go over earlier ones; what the later did not touch stays.
fn merge(changed: &mut EvmState, later: EvmState) {
    for (address, mut account) in later {
        if let Some(earlier) = changed.remove(&address) {
            for (slot, value) in earlier.storage {
                let over = account.storage.entry(slot).or_insert_with(|| value.clone());
                over.original_value = value.original_value;
            }
            account.status |= earlier.status;
        }
        changed.insert(address, account);
    }
}

fn transaction(call: &Call) -> TxEnv {
    TxEnv {
        caller: call.from,
        gas_limit: call.gas,
        kind: TxKind::Call(call.to),
        value: call.value,
        data: call.data.clone(),
        chain_id: None,
        ..Default::default()
    }
}

fn outcome(result: ExecutionResult) -> Outcome {
    let gas = result.tx_gas_used();
    match result {
        ExecutionResult::Success { output, logs, .. } => {
            Outcome { end: End::Returned, output: output.into_data(), logs, gas }
        }
        ExecutionResult::Revert { output, .. } => Outcome { end: End::Reverted, output, logs: vec![], gas },
        ExecutionResult::Halt { reason, .. } => {
            Outcome { end: End::Halted(format!("{reason:?}")), output: Bytes::new(), logs: vec![], gas }
        }
    }
}
