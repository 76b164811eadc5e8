//! What the market's gateway says beside pages of orders: deals, categories, figures, and the login challenge.
//! Source: sdk.md §3.

use super::PublishedOrder;
use crate::{
    deal::{Deal, Resource},
    ids::{DealId, OrderHash},
    orders::{checksummed, number},
};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A successful answer: `ok` beside the fields of `body`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// Always true.
    pub ok: bool,
    /// What was asked for.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Answer<T> {
    /// A success.
    pub fn of(body: T) -> Self {
        Self { ok: true, body }
    }
}

/// Body of `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The gateway's version.
    pub version: String,
}

/// Body of a publication.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Published<O> {
    /// The order as it stands in the book.
    pub published: PublishedOrder<O>,
}

/// Body of an unpublication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpublished {
    /// What left the book; never empty.
    pub unpublished: Vec<OrderHash>,
}

/// What leaves the book: the body of `PUT /<kind>orders`.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unpublish {
    /// Which of the caller's orders.
    #[serde(default)]
    pub target: Target,
    /// The one order, for [`Target::OrderHash`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_hash: Option<OrderHash>,
    /// The app, for the other targets and app orders; likewise below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<Address>,
    /// The dataset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataset: Option<Address>,
    /// The workerpool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workerpool: Option<Address>,
    /// The requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Address>,
}

/// Which orders leave the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Target {
    /// The named one.
    #[default]
    #[serde(rename = "unpublish_orderHash")]
    OrderHash,
    /// The last published about a resource.
    #[serde(rename = "unpublish_last")]
    Last,
    /// All about a resource.
    #[serde(rename = "unpublish_all")]
    All,
}

/// One third of a deal's triplet.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResourceView {
    /// The asset; zero for no dataset.
    #[serde(with = "checksummed")]
    pub pointer: Address,
    /// Its owner at the time of the match.
    #[serde(with = "checksummed")]
    pub owner: Address,
    /// nRLC per task.
    #[serde(with = "number")]
    pub price: U256,
}

impl From<&Resource> for ResourceView {
    fn from(r: &Resource) -> Self {
        Self { pointer: r.pointer, owner: r.owner, price: r.price.0 }
    }
}

/// Where a deal stands on the chain, and of which orders it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// How many tasks were matched.
    #[serde(with = "number")]
    pub volume: U256,
    /// The app order.
    pub app_hash: OrderHash,
    /// The dataset order, or zero.
    pub dataset_hash: OrderHash,
    /// The workerpool order.
    pub workerpool_hash: OrderHash,
    /// The request order.
    pub request_hash: OrderHash,
    /// The transaction that matched them.
    pub transaction_hash: B256,
    /// Its block.
    pub block_number: u64,
    /// The block's time, ISO 8601.
    pub block_timestamp: String,
}

/// A deal as the gateway shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DealView {
    /// Its name.
    pub dealid: DealId,
    /// Its chain.
    pub chain_id: u64,
    /// The app.
    pub app: ResourceView,
    /// The dataset; all zero for none.
    pub dataset: ResourceView,
    /// The pool.
    pub workerpool: ResourceView,
    /// Who asked.
    #[serde(with = "checksummed")]
    pub requester: Address,
    /// For whom.
    #[serde(with = "checksummed")]
    pub beneficiary: Address,
    /// Who is called back, or zero.
    #[serde(with = "checksummed")]
    pub callback: Address,
    /// What the app gets.
    pub params: String,
    /// Required features.
    pub tag: B256,
    /// How hard the answer is checked.
    #[serde(with = "number")]
    pub trust: U256,
    /// The category.
    #[serde(with = "number")]
    pub category: U256,
    /// Seconds since the epoch.
    pub start_time: u64,
    /// Index of the first task.
    #[serde(with = "number")]
    pub bot_first: U256,
    /// Number of tasks.
    #[serde(with = "number")]
    pub bot_size: U256,
    /// What each worker locks per task, in nRLC.
    #[serde(with = "number")]
    pub worker_stake: U256,
    /// The pool owner's percent of the reward.
    pub scheduler_reward_ratio: u64,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

impl DealView {
    /// Shows a deal.
    pub fn of(deal: Deal, chain_id: u64, origin: Origin) -> Self {
        Self {
            dealid: deal.id,
            chain_id,
            app: (&deal.app).into(),
            dataset: deal.dataset.as_ref().map(ResourceView::from).unwrap_or_default(),
            workerpool: (&deal.workerpool).into(),
            requester: deal.requester,
            beneficiary: deal.beneficiary,
            callback: deal.callback,
            params: deal.params,
            tag: deal.tag,
            trust: deal.trust,
            category: deal.category,
            start_time: deal.start_time,
            bot_first: deal.bot_first,
            bot_size: deal.bot_size,
            worker_stake: deal.worker_stake.0,
            scheduler_reward_ratio: deal.scheduler_percent,
            origin,
        }
    }
}

/// Body of `GET /deals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DealPage {
    /// How many deals fit the question.
    pub count: u64,
    /// The number of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<u64>,
    /// This page, newest first.
    pub deals: Vec<DealView>,
}

/// A category of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CategoryView {
    /// Its number.
    pub catid: u64,
    /// Its chain.
    pub chain_id: u64,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// The period T, in seconds.
    #[serde(with = "number")]
    pub work_clock_time_ref: U256,
    /// The transaction that made it.
    pub transaction_hash: B256,
    /// Its block.
    pub block_number: u64,
    /// The block's time, ISO 8601.
    pub block_timestamp: String,
}

/// Body of `GET /categories`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CategoryPage {
    /// How many categories fit the question.
    pub count: u64,
    /// The number of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page: Option<u64>,
    /// This page, the shortest period first.
    pub categories: Vec<CategoryView>,
}

/// Body of `GET /metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// The newest block that was seen.
    pub last_block: u64,
    /// Everything up to this block is in the book.
    pub checkpoint_block: u64,
    /// Open app orders.
    pub apporders: u64,
    /// Open dataset orders.
    pub datasetorders: u64,
    /// Open workerpool orders.
    pub workerpoolorders: u64,
    /// Open request orders.
    pub requestorders: u64,
}

/// Name of the EIP-712 domain of challenges.
pub const CHALLENGE_DOMAIN: &str = "iExec Gateway";
/// What every challenge begins with.
pub const CHALLENGE_PREFIX: &str = "Sign this message to log into iExec Gateway: ";

mod typed {
    alloy_sol_types::sol! { struct Challenge { string challenge; } }
}

/// Body of `GET /challenge`: typed data for a wallet to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeAnswer {
    /// The typed data.
    pub data: ChallengeData,
}

/// Typed data in the form that wallets take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeData {
    /// The types: `EIP712Domain` and `Challenge`.
    pub types: serde_json::Value,
    /// The domain.
    pub domain: ChallengeDomain,
    /// `Challenge`.
    pub primary_type: String,
    /// The text to sign.
    pub message: Challenge,
}

/// Domain of a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeDomain {
    /// [`CHALLENGE_DOMAIN`].
    pub name: String,
    /// `1`.
    pub version: String,
    /// Decimal.
    pub chain_id: String,
}

/// The text to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// [`CHALLENGE_PREFIX`] and something random.
    pub challenge: String,
}

impl ChallengeAnswer {
    /// Asks for a signature of `challenge`.
    pub fn asking(chain_id: u64, challenge: String) -> Self {
        let field = |name: &str, kind: &str| serde_json::json!({ "name": name, "type": kind });
        let domain = [field("name", "string"), field("version", "string"), field("chainId", "uint256")];
        Self {
            data: ChallengeData {
                types: serde_json::json!({ "EIP712Domain": domain, "Challenge": [field("challenge", "string")] }),
                domain: ChallengeDomain {
                    name: CHALLENGE_DOMAIN.into(),
                    version: "1".into(),
                    chain_id: chain_id.to_string(),
                },
                primary_type: "Challenge".into(),
                message: Challenge { challenge },
            },
        }
    }
}

/// The digest of a challenge, as wallets compute it.
pub fn challenge_digest(chain_id: u64, challenge: &str) -> B256 {
    let domain = Eip712Domain::new(
        Some(Cow::Borrowed(CHALLENGE_DOMAIN)),
        Some(Cow::Borrowed("1")),
        Some(U256::from(chain_id)),
        None,
        None,
    );
    typed::Challenge { challenge: challenge.into() }.eip712_signing_hash(&domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::b256;

    #[test]
    fn a_challenge_is_what_wallets_sign() {
        let text = format!("{CHALLENGE_PREFIX}abc");
        // Computed with ethers 6 over the answer's own domain and types.
        let digest = b256!("4d43f09dcc50481109d75818830f5868b6e9abed796c2ec5d58a5bf5f0ecae67");
        assert_eq!(challenge_digest(31337, &text), digest);
        let answer = serde_json::to_value(Answer::of(ChallengeAnswer::asking(31337, text.clone()))).unwrap();
        assert_eq!(answer["ok"], true);
        assert_eq!(
            answer["data"]["domain"],
            serde_json::json!({"name": "iExec Gateway", "version": "1", "chainId": "31337"})
        );
        assert_eq!(
            answer["data"]["types"]["EIP712Domain"][2],
            serde_json::json!({"name": "chainId", "type": "uint256"})
        );
        assert_eq!(answer["data"]["message"]["challenge"], text.as_str());
    }

    #[test]
    fn unpublishing_names_one_order_unless_told_otherwise() {
        let read = |json: &str| serde_json::from_str::<Unpublish>(json);
        let hash = OrderHash(B256::repeat_byte(1));
        let one = Unpublish { order_hash: Some(hash), ..Default::default() };
        assert_eq!(read(&format!(r#"{{"target":"unpublish_orderHash","orderHash":"{hash}"}}"#)).unwrap(), one);
        assert_eq!(read(&format!(r#"{{"orderHash":"{hash}"}}"#)).unwrap(), one);
        assert_eq!(read(r#"{"target":"unpublish_all"}"#).unwrap().target, Target::All);
        assert!(read(r#"{"target":"everything"}"#).is_err());
        assert!(read(r#"{"surprise":1}"#).is_err());
    }
}
