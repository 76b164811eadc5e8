//! Questions to contracts: calls, gas estimates and access lists. Nothing they do is kept.

use super::error::RpcError;
use super::params::Params;
use super::state::Scene;
use super::{Text, text};
use crate::chain::Chain;
use crate::evm::{self, Mode, Overlay, TRANSACTION_GAS_CAP};
use crate::needed::Needed;
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::rpc::types::state::{AccountOverride, StateOverride};
use alloy::rpc::types::{AccessListResult, BlockOverrides, TransactionRequest};
use alloy_primitives::{Address, B256, TxKind, U256};
use revm::bytecode::Bytecode;
use revm::bytecode::eip7702::EIP7702_MAGIC_BYTES;
use revm::context::result::{ExecResultAndState, ExecutionResult, HaltReason};
use revm::context::{BlockEnv, TxEnv};
use revm::context_interface::either::Either;

/// How often an access list is refined before the last one counts.
const ACCESS_LIST_ROUNDS: usize = 8;
/// Most storage positions in state overrides.
const MAX_OVERRIDES: usize = 10_000;

/// A question, ready to run.
struct Question {
    scene: Scene,
    chain_id: u64,
    transaction: TxEnv,
    /// Whether the gas limit was given rather than chosen here.
    gas_given: bool,
}

impl Chain {
    pub(super) async fn call(&self, method: &str, mut params: Params) -> Result<Text, RpcError> {
        let request: TransactionRequest = params.get(0, "transaction")?;
        // An estimate is for the block that comes, where time has gone on and waiting transactions are done.
        let default = if method == "eth_estimateGas" { BlockNumberOrTag::Pending } else { BlockNumberOrTag::Latest };
        let id = params.block_or(1, default)?;
        let overrides: Option<StateOverride> = params.optional(2, "state overrides")?;
        let block_overrides: Option<BlockOverrides> = params.optional(3, "block overrides")?;
        let run: fn(Question) -> Result<Text, RpcError> = match method {
            "eth_call" => call,
            "eth_estimateGas" => estimate,
            _ => access_list,
        };
        self.ask(request, id, overrides, block_overrides, run).await
    }

    async fn ask(
        &self,
        request: TransactionRequest,
        id: BlockId,
        overrides: Option<StateOverride>,
        block_overrides: Option<BlockOverrides>,
        run: fn(Question) -> Result<Text, RpcError>,
    ) -> Result<Text, RpcError> {
        let permit = self.0.calls.clone().acquire_owned().await.map_err(RpcError::internal)?;
        let mut scene = self.scene(id).await?;
        if let Some(overrides) = overrides {
            override_state(&mut scene.state, overrides)?;
        }
        if let Some(overrides) = block_overrides {
            override_block(&mut scene, overrides);
        }
        let chain_id = self.0.shared.chain_id;
        let question = Question::new(scene, chain_id, request)?;
        let view = question.scene.state.view().clone();
        let result = self
            .blocking(move || {
                let _permit = permit;
                run(question)
            })
            .await?;
        if view.is_readable() {
            result
        } else {
            Err(RpcError::server("the chain was rewound during the call: try again"))
        }
    }

    /// The gas that a transaction needs in the next block.
    pub(super) async fn estimate_gas(&self, request: TransactionRequest) -> Result<u64, RpcError> {
        let estimate = self.ask(request, BlockId::pending(), None, None, estimate).await?;
        let estimate: alloy_primitives::U64 = serde_json::from_str(estimate.get()).map_err(RpcError::internal)?;
        Ok(estimate.to())
    }
}

impl Question {
    fn new(scene: Scene, chain_id: u64, request: TransactionRequest) -> Result<Self, RpcError> {
        if request.chain_id.is_some_and(|id| id != chain_id) {
            return Err(RpcError::server(format!("chain id is {chain_id}, the transaction names another")));
        }
        if request.blob_versioned_hashes.is_some() || request.max_fee_per_blob_gas.is_some() {
            return Err(RpcError::params("blob transactions are not supported"));
        }
        let gas_given = request.gas.is_some();
        let transaction = transaction(&scene, chain_id, request)?;
        Ok(Self { scene, chain_id, transaction, gas_given })
    }

    /// Runs with another gas limit.
    fn run(&mut self, gas_limit: u64) -> Result<ExecResultAndState<ExecutionResult>, RpcError> {
        let transaction = TxEnv { gas_limit, ..self.transaction.clone() };
        Ok(evm::run(&mut self.scene.state, &self.scene.env, self.chain_id, Mode::Call, transaction)?)
    }

    /// The same, and what it would have needed.
    fn run_watched(&mut self, gas_limit: u64) -> Result<(ExecutionResult, Option<u64>), RpcError> {
        let transaction = TxEnv { gas_limit, ..self.transaction.clone() };
        let (state, env, mut needed) = (&mut self.scene.state, &self.scene.env, Needed::default());
        let done = evm::run_watched(state, env, self.chain_id, Mode::Call, transaction, &mut needed)?;
        Ok((done.result, needed.of(gas_limit)))
    }

    /// The gas that the sender can pay for, if that is less than `gas`.
    fn affordable(&self, gas: u64) -> Result<u64, RpcError> {
        let TxEnv { gas_price, caller, value, .. } = self.transaction;
        if gas_price == 0 {
            return Ok(gas);
        }
        let balance = self.scene.state.account(caller).unwrap_or_default().balance;
        let left = balance.checked_sub(value).ok_or_else(|| RpcError::server("insufficient funds for transfer"))?;
        Ok((left / U256::from(gas_price)).saturating_to::<u64>().min(gas))
    }
}

/// A request as revm takes it, with the block's gas limit as the most gas.
fn transaction(scene: &Scene, chain_id: u64, request: TransactionRequest) -> Result<TxEnv, RpcError> {
    let TransactionRequest { gas_price, max_fee_per_gas, max_priority_fee_per_gas, .. } = request;
    if gas_price.is_some() && (max_fee_per_gas.is_some() || max_priority_fee_per_gas.is_some()) {
        return Err(RpcError::params("both gasPrice and maxFeePerGas or maxPriorityFeePerGas specified"));
    }
    let input = request.input.try_into_unique_input().map_err(RpcError::params)?;
    let caller = request.from.unwrap_or_default();
    let nonce = scene.state.account(caller).map_or(0, |account| account.nonce);
    let authorizations = request.authorization_list.unwrap_or_default();
    let mut transaction = TxEnv {
        tx_type: 0,
        caller,
        gas_limit: request.gas.unwrap_or(u64::MAX).min(scene.env.gas_limit),
        gas_price: max_fee_per_gas.or(gas_price).unwrap_or_default(),
        kind: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: input.unwrap_or_default(),
        nonce: request.nonce.unwrap_or(nonce),
        chain_id: Some(chain_id),
        access_list: request.access_list.unwrap_or_default(),
        gas_priority_fee: max_fee_per_gas.and(max_priority_fee_per_gas),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: authorizations.into_iter().map(Either::Left).collect(),
    };
    transaction.derive_tx_type().map_err(|error| RpcError::params(format!("{error:?}")))?;
    Ok(transaction)
}

fn call(mut question: Question) -> Result<Text, RpcError> {
    let mut gas = question.transaction.gas_limit;
    if !question.gas_given {
        gas = question.affordable(gas)?;
    }
    match question.run(gas)?.result {
        ExecutionResult::Success { output, .. } => Ok(text(&output.into_data())),
        ExecutionResult::Revert { output, .. } => Err(RpcError::revert(&output)),
        ExecutionResult::Halt { reason, .. } => Err(RpcError::halt(&reason)),
    }
}

/// The least gas with which the transaction succeeds; where a contract looks at the gas that it has left, perhaps more.
fn estimate(mut question: Question) -> Result<Text, RpcError> {
    let most = question.affordable(question.transaction.gas_limit.min(TRANSACTION_GAS_CAP))?;
    let least = evm::intrinsic_gas(&question.transaction);
    if least > most {
        return Err(RpcError::server(format!("gas required exceeds allowance ({most})")));
    }
    if is_plain_transfer(&question) && question.run(least)?.result.is_success() {
        return Ok(text(&alloy_primitives::U64::from(least)));
    }
    let (result, needed) = question.run_watched(most)?;
    let spent = match result {
        ExecutionResult::Success { gas, .. } => gas.total_gas_spent(),
        ExecutionResult::Revert { output, .. } => return Err(RpcError::revert(&output)),
        ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => {
            return Err(RpcError::server(format!("gas required exceeds allowance ({most})")));
        }
        ExecutionResult::Halt { reason, .. } => return Err(RpcError::halt(&reason)),
    };
    if let Some(needed) = needed.map(|needed| needed.max(least)).filter(|needed| *needed < most)
        && succeeds(&mut question, needed)?
    {
        return Ok(text(&alloy_primitives::U64::from(needed)));
    }
    let found = search(&mut question, least, spent, most)?;
    Ok(text(&alloy_primitives::U64::from(found)))
}

fn is_plain_transfer(question: &Question) -> bool {
    let TxKind::Call(to) = question.transaction.kind else { return false };
    let account = question.scene.state.account(to).unwrap_or_default();
    question.transaction.data.is_empty() && question.scene.state.code(&account.code_hash).is_empty()
}

/// Halves the range in which the answer lies, after a guess: what was spent, and a 64th that a call holds back.
fn search(question: &mut Question, least: u64, spent: u64, most: u64) -> Result<u64, RpcError> {
    let mut fails = least.max(spent).saturating_sub(1);
    let mut works = most;
    for guess in [spent, spent.saturating_add(2300).saturating_mul(64) / 63] {
        if guess > fails && guess < works {
            if succeeds(question, guess)? {
                works = guess;
                break;
            }
            fails = guess;
        }
    }
    while works - fails > 1 {
        let middle = fails + (works - fails) / 2;
        if succeeds(question, middle)? {
            works = middle;
        } else {
            fails = middle;
        }
    }
    Ok(works)
}

fn succeeds(question: &mut Question, gas: u64) -> Result<bool, RpcError> {
    Ok(question.run(gas)?.result.is_success())
}

/// Everything that the transaction touches, found by running it until the list stays the same.
fn access_list(mut question: Question) -> Result<Text, RpcError> {
    let gas = question.affordable(question.transaction.gas_limit)?;
    let mut done = question.run(gas)?;
    for _ in 0..ACCESS_LIST_ROUNDS {
        let list = touched(&question, &done);
        if list == question.transaction.access_list {
            break;
        }
        question.transaction.access_list = list;
        if question.transaction.tx_type == 0 {
            question.transaction.tx_type = 1;
        }
        done = question.run(gas)?;
    }
    let error = match &done.result {
        ExecutionResult::Success { .. } => None,
        ExecutionResult::Revert { output, .. } => Some(RpcError::revert(output).message),
        ExecutionResult::Halt { reason, .. } => Some(RpcError::halt(reason).message),
    };
    let gas_used = U256::from(done.result.tx_gas_used());
    Ok(text(&AccessListResult { access_list: question.transaction.access_list, gas_used, error }))
}

fn touched(question: &Question, done: &ExecResultAndState<ExecutionResult>) -> AccessList {
    let TxEnv { caller, kind, nonce, .. } = question.transaction;
    let target = match kind {
        TxKind::Call(to) => to,
        TxKind::Create => caller.create(nonce),
    };
    let free = |address: &Address| {
        *address == caller
            || *address == target
            || *address == question.scene.env.beneficiary
            || evm::precompiles().any(|precompile| precompile == *address)
    };
    let mut items: Vec<AccessListItem> = Vec::new();
    for (address, account) in &done.state {
        let mut storage_keys: Vec<B256> = account.storage.keys().map(|slot| B256::from(*slot)).collect();
        storage_keys.sort_unstable();
        if !free(address) || !storage_keys.is_empty() {
            items.push(AccessListItem { address: *address, storage_keys });
        }
    }
    items.sort_unstable_by_key(|item| item.address);
    AccessList(items)
}

fn override_block(scene: &mut Scene, overrides: BlockOverrides) {
    let env: &mut BlockEnv = &mut scene.env;
    env.number = overrides.number.unwrap_or(env.number);
    env.timestamp = overrides.time.map_or(env.timestamp, U256::from);
    env.gas_limit = overrides.gas_limit.unwrap_or(env.gas_limit).min(env.gas_limit);
    env.beneficiary = overrides.coinbase.unwrap_or(env.beneficiary);
    env.prevrandao = overrides.random.or(env.prevrandao);
    env.basefee = overrides.base_fee.map_or(env.basefee, |fee| fee.saturating_to());
    scene.state.hashes.extend(overrides.block_hash.into_iter().flatten());
}

fn override_state(state: &mut Overlay, overrides: StateOverride) -> Result<(), RpcError> {
    let mut positions = 0;
    for (address, change) in overrides {
        let AccountOverride { balance, nonce, code, state: all, state_diff: some, move_precompile_to } = change;
        if move_precompile_to.is_some() {
            return Err(RpcError::params("movePrecompileToAddress is not supported"));
        }
        if all.is_some() && some.is_some() {
            return Err(RpcError::params(format!("account {address} has both 'state' and 'stateDiff'")));
        }
        let mut account = state.account(address).unwrap_or_default();
        account.balance = balance.unwrap_or(account.balance);
        account.nonce = nonce.unwrap_or(account.nonce);
        state.set_account(address, account);
        if let Some(code) = code {
            state.set_code(address, bytecode(code)?);
        }
        if all.is_some() {
            state.wipe(address);
        }
        for (slot, value) in all.or(some).into_iter().flatten() {
            positions += 1;
            state.set_slot(address, slot.into(), value.into());
        }
    }
    if positions > MAX_OVERRIDES {
        return Err(RpcError::limit(format!("at most {MAX_OVERRIDES} storage positions can be overridden")));
    }
    Ok(())
}

/// Code from outside; a damaged EIP-7702 delegation is refused.
pub(super) fn bytecode(code: alloy_primitives::Bytes) -> Result<Bytecode, RpcError> {
    if code.starts_with(EIP7702_MAGIC_BYTES) {
        return Bytecode::new_raw_checked(code).map_err(RpcError::params);
    }
    Ok(Bytecode::new_legacy(code))
}
