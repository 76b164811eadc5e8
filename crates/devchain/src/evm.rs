//! Running transactions with revm: the rules in force, the writable state on top of a view, and one execution.
//!
//! The rules are Osaka's: code size limit 24 KiB (EIP-170), init code 48 KiB (EIP-3860), 16,777,216 gas per
//! transaction (EIP-7825). The beacon root and block hash system contracts are not deployed.

use crate::block::Transaction;
use crate::state::{Account, Changes, Key, Value, View};
use alloy::consensus::{Header, Transaction as _, Typed2718};
use alloy_primitives::map::{AddressMap, AddressSet, B256Map, HashMap};
use alloy_primitives::{Address, B256, U256};
use revm::bytecode::Bytecode;
use revm::context::Evm;
use revm::context::result::{EVMError, ExecResultAndState, ExecutionResult, InvalidTransaction};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::context_interface::FrameStack;
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::either::Either;
use revm::handler::instructions::EthInstructions;
use revm::handler::validation::validate_initial_tx_gas;
use revm::handler::{EthPrecompiles, MainnetEvm};
use revm::precompile::{Crypto, DefaultCrypto, PrecompileHalt, install_crypto};
use revm::primitives::{AddressMap as EvmMap, eip4844, eip7825, hardfork::SpecId};
use revm::state::{Account as EvmAccount, AccountInfo};
use revm::{Database, DatabaseCommit, ExecuteEvm, InspectEvm, Inspector, Journal, MainContext};
use std::cell::Cell;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The hard fork whose rules hold from the genesis block on.
pub(crate) const SPEC: SpecId = SpecId::OSAKA;
/// Most gas one transaction may ask for (EIP-7825).
pub(crate) const TRANSACTION_GAS_CAP: u64 = eip7825::TX_GAS_LIMIT_CAP;

/// State that can be written, on top of a view that cannot.
pub(crate) struct Overlay {
    view: View,
    accounts: AddressMap<Option<Account>>,
    slots: HashMap<(Address, U256), U256>,
    codes: B256Map<Bytecode>,
    /// Accounts whose storage below this overlay does not count.
    wiped: AddressSet,
    /// Block hashes that replace those of the view.
    pub(crate) hashes: HashMap<u64, B256>,
}

impl Overlay {
    pub(crate) fn new(view: View) -> Self {
        Self {
            view,
            accounts: AddressMap::default(),
            slots: HashMap::default(),
            codes: B256Map::default(),
            wiped: AddressSet::default(),
            hashes: HashMap::default(),
        }
    }

    /// On top of a view and what a block would change.
    pub(crate) fn with_changes(view: View, changes: &Changes, codes: &B256Map<Bytecode>) -> Self {
        let mut overlay = Self::new(view);
        for (key, value) in changes {
            match (key, value) {
                (Key::Account(address), Value::Account(account)) => {
                    overlay.accounts.insert(*address, *account);
                }
                (Key::Slot(address, slot), Value::Slot(value)) => {
                    overlay.slots.insert((*address, *slot), *value);
                }
                (Key::Account(_), Value::Slot(_)) | (Key::Slot(..), Value::Account(_)) => {}
            }
        }
        overlay.codes = codes.clone();
        overlay
    }

    pub(crate) fn code(&self, hash: &B256) -> Bytecode {
        self.codes.get(hash).cloned().unwrap_or_else(|| self.view.code(hash))
    }

    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    pub(crate) fn account(&self, address: Address) -> Option<Account> {
        self.accounts.get(&address).copied().unwrap_or_else(|| self.view.account(address))
    }

    pub(crate) fn slot(&self, address: Address, slot: U256) -> U256 {
        match self.slots.get(&(address, slot)) {
            Some(value) => *value,
            None if self.wiped.contains(&address) => U256::ZERO,
            None => self.view.slot(address, slot),
        }
    }

    pub(crate) fn set_account(&mut self, address: Address, account: Account) {
        self.accounts.insert(address, (!account.is_empty()).then_some(account));
    }

    pub(crate) fn set_slot(&mut self, address: Address, slot: U256, value: U256) {
        self.slots.insert((address, slot), value);
    }

    pub(crate) fn set_code(&mut self, address: Address, code: Bytecode) {
        let mut account = self.account(address).unwrap_or_default();
        account.code_hash = code.hash_slow();
        self.codes.insert(account.code_hash, code);
        self.set_account(address, account);
    }

    /// Forgets all storage of `address`.
    pub(crate) fn wipe(&mut self, address: Address) {
        self.slots.retain(|(owner, _), _| *owner != address);
        self.wiped.insert(address);
    }

    /// Everything that was written.
    pub(crate) fn into_changes(self) -> (Changes, B256Map<Bytecode>) {
        let mut changes = Changes::new();
        for address in &self.wiped {
            let gone = self.view.current_slots(*address).into_iter();
            changes.extend(gone.map(|slot| (Key::Slot(*address, slot), Value::Slot(U256::ZERO))));
        }
        let accounts = self.accounts.into_iter();
        changes.extend(accounts.map(|(address, account)| (Key::Account(address), Value::Account(account))));
        let slots = self.slots.into_iter();
        changes.extend(slots.map(|((address, slot), value)| (Key::Slot(address, slot), Value::Slot(value))));
        (changes, self.codes)
    }
}

impl DatabaseCommit for Overlay {
    fn commit(&mut self, changes: EvmMap<EvmAccount>) {
        for (address, account) in changes {
            if account.is_touched() {
                self.commit_account(address, account);
            }
        }
    }
}

impl Overlay {
    fn commit_account(&mut self, address: Address, account: EvmAccount) {
        if account.is_selfdestructed() {
            self.wipe(address);
            self.accounts.insert(address, None);
            return;
        }
        if account.is_created() {
            self.wipe(address);
        }
        for (slot, value) in account.changed_storage_slots() {
            self.slots.insert((address, *slot), value.present_value());
        }
        let AccountInfo { balance, nonce, code_hash, code, .. } = account.info;
        if let Some(code) = code.filter(|code| !code.is_empty()) {
            self.codes.insert(code_hash, code);
        }
        self.set_account(address, Account { nonce, balance, code_hash });
    }
}

/// How strictly a transaction is checked before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As part of a block.
    Block,
    /// As a question: no nonce, any sender, no gas cap but the block's.
    Call,
}

/// Most signatures whose signers are remembered.
const SIGNERS: usize = 4_096;

/// A signature as the precompiled contract at address 1 takes it, the recovery id and the hash that was signed.
type Signed = ([u8; 64], u8, [u8; 32]);

/// The usual cryptography, but it finds each signer once: a transaction is run for its estimate, as part of the block in
/// the making, and in its block.
#[derive(Debug, Default)]
struct Recalls(Mutex<HashMap<Signed, [u8; 32]>>);

impl Crypto for Recalls {
    fn secp256k1_ecrecover(&self, sig: &[u8; 64], recid: u8, msg: &[u8; 32]) -> Result<[u8; 32], PrecompileHalt> {
        let signed = (*sig, recid, *msg);
        if let Some(signer) = self.signers().get(&signed) {
            return Ok(*signer);
        }
        let signer = DefaultCrypto.secp256k1_ecrecover(sig, recid, msg)?;
        let mut signers = self.signers();
        if signers.len() >= SIGNERS {
            signers.clear();
        }
        signers.insert(signed, signer);
        Ok(signer)
    }
}

impl Recalls {
    fn signers(&self) -> MutexGuard<'_, HashMap<Signed, [u8; 32]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes runs in this process remember signers.
pub(crate) fn remember_signers() {
    // Who was first has decided.
    let _ = install_crypto(Recalls::default());
}

/// The state under a run; between runs there is none.
pub(crate) struct Desk(Option<Overlay>);

impl Desk {
    fn overlay(&self) -> &Overlay {
        self.0.as_ref().expect("a run has a state")
    }
}

impl Database for Desk {
    type Error = Infallible;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Infallible> {
        let Some(account) = self.overlay().account(address) else { return Ok(None) };
        let Account { nonce, balance, code_hash } = account;
        Ok(Some(AccountInfo { balance, nonce, code_hash, account_id: None, code: None }))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, Infallible> {
        Ok(self.overlay().code(&hash))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.overlay().slot(address, slot))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Infallible> {
        let overlay = self.overlay();
        Ok(overlay.hashes.get(&number).copied().unwrap_or_else(|| overlay.view.block_hash(number)))
    }
}

/// What a run happens in.
type Machine<I> = MainnetEvm<Stage, I>;
type Stage = Context<BlockEnv, TxEnv, CfgEnv, Desk, Journal<Desk>, ()>;
type Outcome = Result<ExecResultAndState<ExecutionResult>, InvalidTransaction>;

thread_local! {
    /// The machine of the last run on this thread, for the next one: to build one, with its tables and 32 KiB of stack for
    /// each frame, takes longer than many a call.
    static MACHINE: Cell<Option<Box<Machine<()>>>> = const { Cell::new(None) };
}

fn new_machine() -> Box<Machine<()>> {
    let mut rules = CfgEnv::new_with_spec(SPEC);
    // A legacy transaction without a chain id is valid on every chain; the ids of others are checked on arrival.
    rules.tx_chain_id_check = true;
    // Senders of blocks are checked on arrival; test methods let contracts send.
    rules.disable_eip3607 = true;
    Box::new(Evm {
        ctx: Context::mainnet().with_db(Desk(None)).with_cfg(rules),
        inspector: (),
        instruction: EthInstructions::new_mainnet_with_spec(SPEC),
        precompiles: EthPrecompiles::new(SPEC),
        frame_stack: FrameStack::new(),
    })
}

/// Runs one transaction without keeping what it changes.
pub(crate) fn run(state: &mut Overlay, block: &BlockEnv, chain_id: u64, mode: Mode, transaction: TxEnv) -> Outcome {
    let mut machine = MACHINE.take().unwrap_or_else(new_machine);
    prepare(&mut machine.ctx, state, block, chain_id, mode, &transaction);
    let done = machine.transact(transaction);
    take_back(&mut machine.ctx, state);
    if done.is_ok() {
        // A refused transaction may leave behind what was read for it.
        MACHINE.set(Some(machine));
    }
    outcome(done)
}

/// The same with somebody who looks on.
pub(crate) fn run_watched<I: Inspector<Stage>>(
    state: &mut Overlay,
    block: &BlockEnv,
    chain_id: u64,
    mode: Mode,
    transaction: TxEnv,
    inspector: I,
) -> Outcome {
    let machine = MACHINE.take().unwrap_or_else(new_machine);
    let Evm { mut ctx, instruction, precompiles, frame_stack, .. } = *machine;
    prepare(&mut ctx, state, block, chain_id, mode, &transaction);
    let mut watched = Evm { ctx, inspector, instruction, precompiles, frame_stack };
    let done = watched.inspect_tx(transaction);
    let Evm { mut ctx, instruction, precompiles, frame_stack, .. } = watched;
    take_back(&mut ctx, state);
    if done.is_ok() {
        MACHINE.set(Some(Box::new(Evm { ctx, inspector: (), instruction, precompiles, frame_stack })));
    }
    outcome(done)
}

/// Puts a machine before a state, a block and a transaction.
fn prepare(stage: &mut Stage, state: &mut Overlay, block: &BlockEnv, chain_id: u64, mode: Mode, transaction: &TxEnv) {
    let rules = &mut stage.cfg;
    rules.chain_id = chain_id;
    rules.disable_nonce_check = mode == Mode::Call;
    // Who offers nothing for a call is not asked for a base fee.
    rules.disable_base_fee = mode == Mode::Call && transaction.gas_price == 0;
    rules.tx_gas_limit_cap = (mode == Mode::Call).then_some(u64::MAX);
    stage.block = block.clone();
    let nothing = Overlay::new(state.view.clone());
    stage.journaled_state.database = Desk(Some(std::mem::replace(state, nothing)));
}

/// Gives the state back.
fn take_back(stage: &mut Stage, state: &mut Overlay) {
    *state = stage.journaled_state.database.0.take().expect("a run keeps its state");
}

fn outcome(done: Result<ExecResultAndState<ExecutionResult>, EVMError<Infallible>>) -> Outcome {
    done.map_err(|error| match error {
        EVMError::Transaction(refusal) => refusal,
        EVMError::Header(error) => InvalidTransaction::Str(error.to_string().into()),
        EVMError::Custom(text) => InvalidTransaction::Str(text.into()),
        EVMError::CustomAny(error) => InvalidTransaction::Str(error.to_string().into()),
        EVMError::Database(never) => match never {},
    })
}

/// What a contract sees of the block with this header.
pub(crate) fn block_env(header: &Header) -> BlockEnv {
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: header.beneficiary,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: header.base_fee_per_gas.unwrap_or_default(),
        difficulty: U256::ZERO,
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice::new(0, eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE)),
        slot_num: 0,
    }
}

/// A signed transaction as revm takes it.
pub(crate) fn tx_env(transaction: &Transaction) -> TxEnv {
    let envelope = &transaction.envelope;
    let authorizations = envelope.authorization_list().unwrap_or_default();
    TxEnv {
        tx_type: envelope.ty(),
        caller: transaction.sender,
        gas_limit: envelope.gas_limit(),
        gas_price: envelope.max_fee_per_gas(),
        kind: envelope.kind(),
        value: envelope.value(),
        data: envelope.input().clone(),
        nonce: envelope.nonce(),
        chain_id: envelope.chain_id(),
        access_list: envelope.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: envelope.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: authorizations.iter().cloned().map(Either::Left).collect(),
    }
}

/// The least gas limit the transaction can have, counting call data and access list but no execution.
pub(crate) fn intrinsic_gas(transaction: &TxEnv) -> u64 {
    let generous = TxEnv { gas_limit: u64::MAX, ..transaction.clone() };
    match validate_initial_tx_gas(&generous, SPEC, false, false, u64::MAX, None) {
        Ok(gas) => gas.initial_total_gas().max(gas.floor_gas()),
        Err(_) => u64::MAX,
    }
}

/// Addresses of the precompiled contracts.
pub(crate) fn precompiles() -> impl Iterator<Item = Address> {
    revm::precompile::Precompiles::osaka().addresses().copied()
}
