//! The test methods: time, mining, snapshots and changes of the state from outside.
//!
//! Time methods move an offset between the chain's time and its clock; blocks never leave the sum of both.

use super::call::bytecode;
use super::error::RpcError;
use super::params::Params;
use crate::chain::Chain;
use crate::state::{Account, Key, Value as StateValue};
use crate::writer::Writer;
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use revm::bytecode::Bytecode;
use serde_json::{Value, json};
use std::time::Duration;

/// Most blocks that one request mines.
const MAX_MINED: u64 = 10_000;

/// Whether a method is for tests only.
pub(super) fn is_test_method(method: &str) -> bool {
    ["evm_", "anvil_", "hardhat_"].iter().any(|prefix| method.starts_with(prefix))
}

impl Chain {
    pub(super) async fn control(&self, method: &str, mut params: Params) -> Result<Value, RpcError> {
        let method = method.strip_prefix("hardhat_").map_or_else(|| method.to_owned(), |name| format!("anvil_{name}"));
        match method.as_str() {
            "evm_setIntervalMining" | "anvil_setIntervalMining" => {
                let seconds = params.number(0, "seconds")?;
                self.mine_every((seconds > 0).then(|| Duration::from_secs(seconds))).map_err(RpcError::internal)?;
                // Arriving transactions wait for the interval, as in anvil.
                self.change(move |writer| {
                    writer.controls.automine &= seconds == 0;
                    Ok(Value::Null)
                })
                .await
            }
            "anvil_reorg" | "anvil_rollback" => self.reorganise(&method, params).await,
            _ => {
                let job = job(&method, params)?;
                self.change(job).await
            }
        }
    }
}

type Job = Box<dyn FnOnce(&mut Writer) -> Result<Value, RpcError> + Send>;

/// What a method does to the chain; its parameters are read before its turn comes.
fn job(method: &str, mut params: Params) -> Result<Job, RpcError> {
    Ok(match method {
        "evm_snapshot" | "anvil_snapshot" => Box::new(|writer| Ok(json!(U64::from(writer.snapshot())))),
        "evm_revert" | "anvil_revert" => {
            let id = params.number(0, "snapshot")?;
            Box::new(move |writer| Ok(json!(writer.restore(id)?)))
        }
        "evm_increaseTime" | "anvil_increaseTime" => {
            let seconds = params.number(0, "seconds")?;
            Box::new(move |writer| Ok(json!(writer.increase_time(seconds))))
        }
        "evm_setNextBlockTimestamp" | "anvil_setNextBlockTimestamp" => {
            let timestamp = params.number(0, "timestamp")?;
            Box::new(move |writer| writer.set_next_timestamp(timestamp).map(|()| Value::Null))
        }
        "evm_setTime" | "anvil_setTime" => {
            let timestamp = params.number(0, "timestamp")?;
            Box::new(move |writer| {
                writer.set_time(timestamp);
                Ok(json!(writer.controls.time.offset))
            })
        }
        "evm_mine" => {
            let timestamp = mine_timestamp(&mut params)?;
            Box::new(move |writer| {
                if let Some(timestamp) = timestamp {
                    writer.set_next_timestamp(timestamp)?;
                }
                writer.mine_one();
                Ok(json!("0x0"))
            })
        }
        "anvil_mine" => {
            let count = params.optional_number(0, "blocks")?.unwrap_or(1);
            let interval = params.optional_number(1, "seconds between blocks")?;
            Box::new(move |writer| writer.mine_many(count, interval).map(|()| Value::Null))
        }
        "evm_setAutomine" | "anvil_setAutomine" => {
            let on = params.get(0, "on")?;
            Box::new(move |writer| {
                writer.controls.automine = on;
                if on {
                    writer.mine_ready();
                }
                Ok(Value::Null)
            })
        }
        "anvil_getAutomine" => Box::new(|writer| Ok(json!(writer.controls.automine))),
        "anvil_setNextBlockBaseFeePerGas" => {
            let fee = params.number(0, "base fee")?;
            Box::new(move |writer| {
                writer.controls.time.next_base_fee = Some(fee);
                Ok(Value::Null)
            })
        }
        "anvil_dropTransaction" => {
            let hash: B256 = params.get(0, "transaction hash")?;
            Box::new(move |writer| {
                Ok(writer.drop_transaction(&hash).then_some(hash).map_or(Value::Null, |hash| json!(hash)))
            })
        }
        "anvil_impersonateAccount" => {
            let address: Address = params.get(0, "address")?;
            Box::new(move |writer| {
                writer.controls.impersonated.insert(address);
                Ok(Value::Null)
            })
        }
        "anvil_stopImpersonatingAccount" => {
            let address: Address = params.get(0, "address")?;
            Box::new(move |writer| {
                writer.controls.impersonated.remove(&address);
                Ok(Value::Null)
            })
        }
        "anvil_setBalance" | "anvil_setNonce" | "anvil_setCode" | "anvil_setStorageAt" => amendment(method, params)?,
        _ => return Err(RpcError::method(method)),
    })
}

/// A change of one account outside of any block.
fn amendment(method: &str, mut params: Params) -> Result<Job, RpcError> {
    let address: Address = params.get(0, "address")?;
    Ok(match method {
        "anvil_setBalance" => {
            let balance: U256 = params.get(1, "balance")?;
            Box::new(move |writer| Ok(writer.amend_account(address, |account| account.balance = balance)))
        }
        "anvil_setNonce" => {
            let nonce = params.number(1, "nonce")?;
            Box::new(move |writer| Ok(writer.amend_account(address, |account| account.nonce = nonce)))
        }
        "anvil_setCode" => {
            let code = bytecode(params.get::<Bytes>(1, "code")?)?;
            Box::new(move |writer| Ok(writer.amend_code(address, code)))
        }
        _ => {
            let slot = params.slot(1)?;
            let value: B256 = params.get(2, "value")?;
            Box::new(move |writer| {
                let change = (Key::Slot(address, slot), StateValue::Slot(value.into()));
                writer.amend(&[change], []);
                Ok(json!(true))
            })
        }
    })
}

/// `evm_mine` takes a timestamp, an object with one, or nothing.
fn mine_timestamp(params: &mut Params) -> Result<Option<u64>, RpcError> {
    let Some(mut given) = params.optional::<Value>(0, "timestamp")? else { return Ok(None) };
    if given.is_object() {
        given = given.get("timestamp").cloned().unwrap_or_default();
    }
    let timestamp: Option<U64> = serde_json::from_value(given).map_err(RpcError::params)?;
    Ok(timestamp.map(|timestamp| timestamp.to()))
}

impl Writer {
    /// Accounts that may send without a signature.
    pub(crate) fn impersonated(&self) -> Vec<Address> {
        let mut accounts: Vec<_> = self.controls.impersonated.iter().copied().collect();
        accounts.sort_unstable();
        accounts
    }

    /// Returns the whole offset, in seconds.
    fn increase_time(&mut self, seconds: u64) -> i64 {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        let offset = &mut self.controls.time.offset;
        *offset = offset.saturating_add(seconds);
        *offset
    }

    fn set_next_timestamp(&mut self, timestamp: u64) -> Result<(), RpcError> {
        let last = self.head().header.timestamp;
        if timestamp < last {
            return Err(RpcError::params(format!("timestamp {timestamp} is before that of the newest block, {last}")));
        }
        self.controls.time.next = Some(timestamp);
        Ok(())
    }

    fn mine_many(&mut self, count: u64, interval: Option<u64>) -> Result<(), RpcError> {
        if count > MAX_MINED {
            return Err(RpcError::params(format!("at most {MAX_MINED} blocks at once")));
        }
        for index in 0..count {
            if let Some(seconds) = interval.filter(|_| index > 0) {
                self.increase_time(seconds);
            }
            self.mine_one();
        }
        Ok(())
    }

    fn amend_account(&mut self, address: Address, change: impl FnOnce(&mut Account)) -> Value {
        let mut account = self.view().account(address).unwrap_or_default();
        change(&mut account);
        let account = (!account.is_empty()).then_some(account);
        self.amend(&[(Key::Account(address), StateValue::Account(account))], []);
        Value::Null
    }

    fn amend_code(&mut self, address: Address, code: Bytecode) -> Value {
        let hash = code.hash_slow();
        let mut account = self.view().account(address).unwrap_or_default();
        account.code_hash = hash;
        let account = (!account.is_empty()).then_some(account);
        self.amend(&[(Key::Account(address), StateValue::Account(account))], [(hash, code)]);
        Value::Null
    }
}
