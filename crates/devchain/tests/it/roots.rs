//! What a header commits to is true: every root, bloom and hash is computed again from what the chain answers.

use crate::support::{Probe, address, body, config, deploy, key, must, number, sign};
use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::{ReceiptEnvelope, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy::eips::eip2718::Decodable2718;
use alloy::rpc::types::{Block, TransactionReceipt};
use alloy_primitives::{Address, B256, Bloom, BloomInput, Bytes, KECCAK256_EMPTY, U256, keccak256};
use alloy_sol_types::SolCall;
use alloy_trie::TrieAccount;
use alloy_trie::root::{state_root_unhashed, storage_root_unhashed};
use bourse_devchain::Chain;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A chain whose blocks hold several types of transactions, logs, failures and storage that comes and goes.
async fn busy_chain() -> (Chain, Address) {
    let chain = Chain::open(config()).unwrap();
    let probe = deploy(&chain, "Probe", 0, 0).await;
    must(&chain, "evm_setAutomine", json!([false])).await;
    let gas_price = 5_000_000_000;
    for index in 0..3u64 {
        let fill = Probe::fillCall { from: U256::from(index * 4), count: U256::from(7) }.abi_encode();
        let legacy = TxLegacy {
            chain_id: Some(31_337),
            nonce: index,
            gas_price,
            gas_limit: 400_000,
            to: probe.into(),
            input: fill.clone().into(),
            ..TxLegacy::default()
        };
        let listed = TxEip2930 {
            chain_id: 31_337,
            nonce: index,
            gas_price,
            gas_limit: 400_000,
            to: probe.into(),
            input: Probe::clearCall { from: U256::from(index), count: U256::from(3) }.abi_encode().into(),
            ..TxEip2930::default()
        };
        let failing = Probe::failTextCall {}.abi_encode();
        for raw in [
            sign(legacy, &key(1)),
            sign(listed, &key(2)),
            sign(body(index, probe, failing), &key(3)),
            sign(
                TxEip1559 {
                    value: U256::from(5),
                    ..body(index, probe, Probe::setCall { number: U256::from(index) }.abi_encode())
                },
                &key(4),
            ),
            sign(body(index, probe, Probe::spawnCall {}.abi_encode()), &key(5)),
        ] {
            must(&chain, "eth_sendRawTransaction", json!([raw])).await;
        }
        must(&chain, "evm_mine", json!([])).await;
    }
    (chain, probe)
}

async fn check_block(chain: &Chain, at: u64) {
    let shown = must(chain, "eth_getBlockByNumber", json!([format!("{at:#x}"), false])).await;
    let block: Block = serde_json::from_value(shown.clone()).unwrap();
    let header = &block.header.inner;
    assert_eq!(header.hash_slow(), block.header.hash, "block hash");
    let mut transactions = Vec::new();
    let mut receipts: Vec<ReceiptEnvelope> = Vec::new();
    let mut bloom = Bloom::ZERO;
    for hash in block.transactions.hashes() {
        let raw: Bytes =
            serde_json::from_value(must(chain, "eth_getRawTransactionByHash", json!([hash])).await).unwrap();
        assert_eq!(keccak256(&raw), hash, "transaction hash");
        transactions.push(TxEnvelope::decode_2718_exact(&raw).unwrap());
        let receipt: TransactionReceipt =
            serde_json::from_value(must(chain, "eth_getTransactionReceipt", json!([hash])).await).unwrap();
        for log in receipt.inner.logs() {
            bloom.accrue(BloomInput::Raw(log.address().as_slice()));
            log.topics().iter().for_each(|topic| bloom.accrue(BloomInput::Raw(topic.as_slice())));
        }
        receipts.push(receipt.inner.map_logs(|log| log.inner));
    }
    assert_eq!(calculate_transaction_root(&transactions), header.transactions_root);
    assert_eq!(calculate_receipt_root(&receipts), header.receipts_root);
    assert_eq!(bloom, header.logs_bloom);
    if at > 0 {
        let parent = must(chain, "eth_getBlockByNumber", json!([format!("{:#x}", at - 1), false])).await;
        assert_eq!(shown["parentHash"], parent["hash"]);
    }
}

#[tokio::test]
async fn headers_commit_to_their_bodies() {
    let (chain, _) = busy_chain().await;
    for at in 0..=number(&must(&chain, "eth_blockNumber", json!([])).await) {
        check_block(&chain, at).await;
    }
}

async fn balance(chain: &Chain, account: Address, at: &str) -> U256 {
    serde_json::from_value(must(chain, "eth_getBalance", json!([account, at])).await).unwrap()
}

/// The state root from every account and slot that this script can have touched.
async fn state_root(chain: &Chain, probe: Address, at: &str) -> B256 {
    let mut state = BTreeMap::new();
    let holders = (0..10).map(address).chain([probe, Address::ZERO, Address::repeat_byte(0x77)]);
    for holder in holders {
        let code: Bytes = serde_json::from_value(must(chain, "eth_getCode", json!([holder, at])).await).unwrap();
        let mut storage = Vec::new();
        let slots = (0..64u64).map(|index| {
            keccak256([U256::from(index).to_be_bytes::<32>(), U256::from(1).to_be_bytes::<32>()].concat())
        });
        for slot in slots.chain([B256::ZERO]) {
            let value: B256 =
                serde_json::from_value(must(chain, "eth_getStorageAt", json!([holder, slot, at])).await).unwrap();
            if !value.is_zero() {
                storage.push((slot, U256::from_be_bytes(value.0)));
            }
        }
        let account = TrieAccount {
            nonce: number(&must(chain, "eth_getTransactionCount", json!([holder, at])).await),
            balance: balance(chain, holder, at).await,
            storage_root: storage_root_unhashed(storage),
            code_hash: keccak256(&code),
        };
        let exists = account.nonce > 0 || !account.balance.is_zero() || account.code_hash != KECCAK256_EMPTY;
        if exists {
            state.insert(holder, account);
        }
    }
    state_root_unhashed(state)
}

fn shown_root(block: &Value) -> B256 {
    serde_json::from_value(block["stateRoot"].clone()).unwrap()
}

#[tokio::test]
async fn state_roots_follow_from_the_state_of_every_block() {
    let (chain, probe) = busy_chain().await;
    must(&chain, "anvil_setBalance", json!([Address::repeat_byte(0x77), "0x123"])).await;
    must(&chain, "evm_mine", json!([])).await;
    must(&chain, "anvil_reorg", json!([2, []])).await;
    for at in 0..=number(&must(&chain, "eth_blockNumber", json!([])).await) {
        let at = format!("{at:#x}");
        let block = must(&chain, "eth_getBlockByNumber", json!([at, false])).await;
        assert_eq!(state_root(&chain, probe, &at).await, shown_root(&block), "block {at}");
    }
}

#[tokio::test]
async fn proofs_lead_to_the_state_root() {
    use alloy::rpc::types::EIP1186AccountProofResponse;
    use alloy_trie::Nibbles;
    use alloy_trie::proof::verify_proof;
    let (chain, probe) = busy_chain().await;
    let slot = keccak256([U256::from(9).to_be_bytes::<32>(), U256::from(1).to_be_bytes::<32>()].concat());
    let absent = B256::repeat_byte(0x31);
    let proof: EIP1186AccountProofResponse =
        serde_json::from_value(must(&chain, "eth_getProof", json!([probe, [slot, absent], "latest"])).await).unwrap();
    let head = must(&chain, "eth_getBlockByNumber", json!(["latest", false])).await;
    let account = TrieAccount {
        nonce: proof.nonce,
        balance: proof.balance,
        storage_root: proof.storage_hash,
        code_hash: proof.code_hash,
    };
    let path = Nibbles::unpack(keccak256(probe));
    verify_proof(shown_root(&head), path, Some(alloy_rlp::encode(account)), &proof.account_proof).unwrap();
    for entry in &proof.storage_proof {
        let path = Nibbles::unpack(keccak256(entry.key.as_b256()));
        let value = (!entry.value.is_zero()).then(|| alloy_rlp::encode(entry.value));
        verify_proof(proof.storage_hash, path, value, &entry.proof).unwrap();
    }
    assert_eq!(proof.storage_proof[0].value, U256::from(10));
    assert!(proof.storage_proof[1].value.is_zero());
    // An old block's tries are not kept.
    let refused = crate::support::ask(&chain, "eth_getProof", json!([probe, [], "0x1"])).await.unwrap_err();
    assert_eq!(refused.code, -32000);
}
