//! Buying a computation: orders from the market, a request, a match, and the wait for a result that is checked.

use crate::failure;
use bourse_chain::{
    Hub, PrivateKeySigner, SendError, Sender,
    alloy::{primitives::Bytes, primitives::keccak256, sol_types::SolEvent},
    keys::sign_order,
};
use bourse_market::client::Client as Market;
use bourse_protocol::{
    Address, B256, U256,
    abi::{IHub, IRlc},
    api::{Match, TaskView},
    book::{self, Facts, Filter, Kind, Standing, Window, check_match},
    computed::{NO_CALLBACK, file_digest, is_result},
    deal::{ResultLink, TaskStatus},
    failure::Failure,
    ids::{DealId, ResultDigest, TaskId},
    money::Nrlc,
    orders::{AppOrder, DatasetOrder, Order, RequestOrder, WorkerpoolOrder},
    params::Params,
    replicate::CauseCode,
};
use eyre::WrapErr;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// The largest result that is downloaded, in bytes.
const MAX_RESULT: usize = 1 << 30;
/// How often a pool is asked what keeps it from working while a result is waited for.
const OBSTACLES: Duration = Duration::from_secs(3);

/// What is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The app.
    pub(crate) app: Address,
    /// The dataset.
    pub(crate) dataset: Option<Address>,
    /// The app's arguments.
    pub(crate) args: String,
    /// How hard the answer is checked.
    pub(crate) trust: u64,
    /// The category.
    pub(crate) category: u64,
    /// The most that it may cost in all.
    pub(crate) max_price: Option<Nrlc>,
    /// A key that makes the request the same every time, so that it is bought once.
    pub(crate) once: Option<String>,
}

/// What was bought.
#[derive(Clone, Debug)]
pub(crate) struct Purchase {
    /// The deal.
    pub(crate) deal: DealId,
    /// Its one task.
    pub(crate) task: TaskId,
    /// What it costs.
    pub(crate) price: Nrlc,
}

/// A result whose digest is the one on chain.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The bytes.
    pub(crate) content: Vec<u8>,
    /// Where they lie.
    pub(crate) link: ResultLink,
    /// What the workers agreed on.
    pub(crate) digest: ResultDigest,
}

/// Who buys where.
pub(crate) struct Buyer<'a> {
    /// The hub.
    pub(crate) hub: &'a Hub,
    /// The token.
    pub(crate) rlc: Address,
    /// The order book.
    pub(crate) market: &'a Market,
    /// The requester's key.
    pub(crate) key: &'a PrivateKeySigner,
    /// The requester's sender.
    pub(crate) sender: &'a Sender,
}

impl Buyer<'_> {
    /// Finds the orders, and checks everything that can be checked before anything is sent.
    pub(crate) async fn prepare(&self, wish: &Wish) -> eyre::Result<Match> {
        self.check_registered(wish).await?;
        let (app, dataset, workerpool) = self.offers(wish).await?;
        let request = self.request(wish, &app, &dataset, &workerpool);
        let request = sign_order(request, self.key, &self.hub.domain().await?);
        let orders = Match { app, dataset, workerpool, request };
        check_price(&orders, wish.max_price)?;
        self.check(&orders).await?;
        Ok(orders)
    }

    async fn check_registered(&self, wish: &Wish) -> eyre::Result<()> {
        let unknown = |what: &str, address: Address| {
            failure::refused(format!("unknown {what} {address}: it is not registered on this chain; check the address"))
        };
        if self.hub.app(wish.app).await?.is_none() {
            return Err(unknown("app", wish.app));
        }
        match wish.dataset {
            Some(dataset) if self.hub.dataset(dataset).await?.is_none() => Err(unknown("dataset", dataset)),
            Some(_) | None => Ok(()),
        }
    }

    /// The best open orders for what is wanted.
    async fn offers(&self, wish: &Wish) -> eyre::Result<(AppOrder, DatasetOrder, WorkerpoolOrder)> {
        let for_us = |filter: Filter| filter.usable_by(Kind::Request, self.key.address());
        let none = |what: &str, address: Address| {
            failure::refused(format!("no open order for {what} {address}: its owner must publish one"))
        };
        let app = self.best(for_us(Filter::about(wish.app))).await?.ok_or_else(|| none("app", wish.app))?;
        let dataset = match wish.dataset {
            None => DatasetOrder::default(),
            Some(dataset) => {
                self.best(for_us(Filter::about(dataset))).await?.ok_or_else(|| none("dataset", dataset))?
            }
        };
        let pools = Filter { category: Some(U256::from(wish.category)), ..for_us(Filter::default()) };
        let workerpool = self.best(pools).await?.ok_or_else(|| {
            failure::refused(format!(
                "no open order of any workerpool in category {}: wait for one, or choose another category",
                wish.category
            ))
        })?;
        Ok((app, dataset, workerpool))
    }

    /// What is asked for, at the prices of the offers.
    fn request(
        &self,
        wish: &Wish,
        app: &AppOrder,
        dataset: &DatasetOrder,
        workerpool: &WorkerpoolOrder,
    ) -> RequestOrder {
        RequestOrder {
            app: wish.app,
            appmaxprice: app.appprice,
            dataset: wish.dataset.unwrap_or_default(),
            datasetmaxprice: dataset.datasetprice,
            workerpool: workerpool.workerpool,
            workerpoolmaxprice: workerpool.workerpoolprice,
            requester: self.key.address(),
            volume: U256::from(1),
            category: U256::from(wish.category),
            trust: U256::from(wish.trust),
            beneficiary: self.key.address(),
            params: Params { args: wish.args.clone(), ..Default::default() }.write(),
            salt: match &wish.once {
                Some(key) => keccak256(key),
                None => B256::from(*PrivateKeySigner::random().to_bytes()),
            },
            ..Default::default()
        }
    }

    /// The best open order that a filter admits.
    async fn best<O: Order>(&self, filter: Filter) -> eyre::Result<Option<O>> {
        let page = self.market.orders::<O>(&filter, Window::default()).await?;
        Ok(page.orders.into_iter().next().map(|o| o.order))
    }

    /// Everything that the hub would refuse, in words, before anything is sent.
    async fn check(&self, orders: &Match) -> eyre::Result<()> {
        let facts = self.facts(orders).await?;
        match check_match(orders, &facts) {
            Ok(_) => Ok(()),
            Err(book::Mismatch::Used { kind: Kind::Request, .. }) => Err(failure::refused(format!(
                "order already used: this request was matched before ({}); choose another --once key to buy again",
                self.earlier(orders).await?
            ))),
            // What the wallet could deposit was counted: depositing it would not help.
            Err(book::Mismatch::Stake { account, have, need, .. }) if account == self.key.address() => {
                Err(failure::refused(format!(
                    "stake too low: {account} has {have} RLC in its deposit and its wallet together and this computation locks {need} RLC: send RLC to it"
                )))
            }
            Err(mismatch) => Err(failure::refused(mismatch.to_string())),
        }
    }

    /// The task that an earlier match of the same request made.
    async fn earlier(&self, orders: &Match) -> eyre::Result<String> {
        let hash = orders.request.hash(&self.hub.domain().await?);
        let deal = DealId::of(hash, U256::ZERO);
        Ok(match self.hub.deal(deal).await? {
            Some(_) => format!("see `bourse task explain {}`", TaskId::of(deal, U256::ZERO)),
            None => "it was closed by its requester".into(),
        })
    }

    async fn facts(&self, orders: &Match) -> eyre::Result<Facts> {
        let domain = self.hub.domain().await?;
        let mut facts = Facts {
            categories: self.hub.view(&IHub::countCategoryCall {}).await?,
            app: self.standing(&orders.app, self.hub.app(orders.app.app).await?.map(|a| a.owner), &domain).await?,
            dataset: Standing { owner: None, signed: false, consumed: U256::ZERO },
            workerpool: self
                .standing(
                    &orders.workerpool,
                    self.hub.workerpool(orders.workerpool.workerpool).await?.map(|w| w.owner),
                    &domain,
                )
                .await?,
            request: self.standing(&orders.request, Some(orders.request.requester), &domain).await?,
            requester_stake: self.funds().await?,
            pool_owner_stake: Nrlc::ZERO,
            memberships: BTreeSet::new(),
        };
        if !orders.dataset.dataset.is_zero() {
            let owner = self.hub.dataset(orders.dataset.dataset).await?.map(|d| d.owner);
            facts.dataset = self.standing(&orders.dataset, owner, &domain).await?;
        }
        if let Some(owner) = facts.workerpool.owner {
            facts.pool_owner_stake = self.hub.account(owner).await?.stake;
        }
        Ok(facts)
    }

    async fn standing<O: Order>(
        &self,
        order: &O,
        owner: Option<Address>,
        domain: &bourse_chain::alloy::sol_types::Eip712Domain,
    ) -> eyre::Result<Standing> {
        let hash = order.hash(domain);
        let signed = match owner {
            Some(owner) => self.hub.signature_valid(owner, hash.0, order.sign()).await?,
            None => false,
        };
        Ok(Standing { owner, signed, consumed: self.hub.consumed(hash).await? })
    }

    /// What the requester can lock: its deposit, and what its wallet could deposit.
    async fn funds(&self) -> eyre::Result<Nrlc> {
        let account = self.key.address();
        let wallet = self.hub.client.call(self.rlc, &IRlc::balanceOfCall { account }).await?;
        let stake = self.hub.account(account).await?.stake;
        Ok(stake.checked_add(Nrlc(wallet)).unwrap_or(stake))
    }

    /// Deposits what is missing, publishes the request, and has the orders matched.
    pub(crate) async fn buy(&self, orders: &Match) -> eyre::Result<Purchase> {
        let hash = orders.request.hash(&self.hub.domain().await?);
        let price = book::task_cost(orders).ok_or_else(|| failure::refused("the orders' prices are absurd"))?;
        let stake = self.hub.account(self.key.address()).await?.stake;
        if stake < price {
            let value = price.saturating_sub(stake).0;
            let call = IRlc::approveAndCallCall { spender: self.hub.address, value, data: Bytes::new() };
            self.sender.send(&format!("deposit:{hash}"), self.rlc, &call).await.wrap_err("cannot deposit RLC")?;
        }
        self.market.publish(self.key, &orders.request).await.wrap_err("the market does not take the request")?;
        let call = IHub::matchOrdersCall::from(orders);
        let receipt = match self.sender.send(&format!("match:{hash}"), self.hub.address, &call).await {
            Ok(receipt) => receipt,
            Err(error @ (SendError::Refused { .. } | SendError::Failed { .. })) => {
                // Somebody was faster: say what changed, in words.
                self.check(orders).await?;
                return Err(error).wrap_err("the hub does not match the orders");
            }
            Err(error) => return Err(error).wrap_err("cannot send the match"),
        };
        let matched = receipt.logs.iter().find_map(|l| IHub::OrdersMatched::decode_log_data(&l.inner.data).ok());
        let deal =
            DealId(matched.ok_or_else(|| eyre::eyre!("the match left no deal: is this really the hub?"))?.dealid);
        Ok(Purchase { deal, task: TaskId::of(deal, U256::ZERO), price })
    }
}

/// Refuses what costs more than it may.
fn check_price(orders: &Match, most: Option<Nrlc>) -> eyre::Result<()> {
    let price = book::task_cost(orders).ok_or_else(|| failure::refused("the orders' prices are absurd"))?;
    match most {
        Some(most) if price > most => Err(failure::refused(format!(
            "price too low: this computation costs {price} RLC ({} app, {} dataset, {} pool) and --max-price is {most} RLC; raise it, or wait for cheaper orders",
            Nrlc(orders.app.appprice),
            Nrlc(orders.dataset.datasetprice),
            Nrlc(orders.workerpool.workerpoolprice),
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What a task is doing, for a person who waits.
pub(crate) trait Waiting {
    /// Something changed.
    fn progress(&mut self, task: &TaskView);

    /// What keeps the pool from working, by kind and in words; nothing if nothing does.
    fn obstacles(&mut self, of_the_pool: BTreeMap<String, String>);

    /// The chain cannot be asked just now.
    fn unreachable(&mut self, error: &bourse_chain::Error);
}

/// Waits until the chain says that a task has ended, and returns its result, checked. `scheduler` tells of progress
/// only; the chain decides.
pub(crate) async fn await_result(
    hub: &Hub,
    task: TaskId,
    gateway: &str,
    scheduler: Option<&str>,
    waiting: &mut dyn Waiting,
) -> eyre::Result<Outcome> {
    let http = bourse_service::http::client(Duration::from_secs(60));
    let pause = hub.client.poll_interval().max(Duration::from_millis(50));
    let mut asked = Instant::now();
    loop {
        match hub.task(task).await {
            Ok(state) => match state.status {
                TaskStatus::Completed => return fetch(&http, gateway, &state.results, state.digest).await,
                TaskStatus::Failed => {
                    return Err(failure::computation(format!(
                        "task {task} ended without a result in time: its price was refunded; buy it again"
                    )));
                }
                TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing => {}
            },
            Err(error) if error.is_transient() => waiting.unreachable(&error),
            Err(error) => return Err(error.into()),
        }
        if let Some(scheduler) = scheduler
            && let Some(view) = view(&http, scheduler, task).await
        {
            waiting.progress(&view);
        }
        if let Some(scheduler) = scheduler
            && asked.elapsed() >= OBSTACLES
        {
            asked = Instant::now();
            waiting.obstacles(obstacles(&http, scheduler).await.unwrap_or_default());
        }
        tokio::time::sleep(pause).await;
    }
}

/// What keeps a pool from working, as its scheduler says; `None` when it cannot be asked just now.
async fn obstacles(http: &reqwest::Client, scheduler: &str) -> Option<BTreeMap<String, String>> {
    let answer = http.get(format!("{scheduler}/metrics")).send().await.ok()?;
    let metrics: serde_json::Value = answer.error_for_status().ok()?.json().await.ok()?;
    let named = |obstacle: &serde_json::Value| {
        Some((obstacle["what"].as_str()?.to_owned(), obstacle["words"].as_str()?.to_owned()))
    };
    Some(metrics["obstacles"].as_array()?.iter().filter_map(named).collect())
}

/// A task as its scheduler shows it; `None` when it cannot be asked just now.
pub(crate) async fn view(http: &reqwest::Client, scheduler: &str, task: TaskId) -> Option<TaskView> {
    let answer = http.get(format!("{scheduler}/tasks/{task}")).send().await.ok()?;
    answer.error_for_status().ok()?.json().await.ok()
}

/// Downloads a result and compares it with the digest on chain.
pub(crate) async fn fetch(
    http: &reqwest::Client,
    gateway: &str,
    results: &[u8],
    digest: ResultDigest,
) -> eyre::Result<Outcome> {
    let link = ResultLink::read(results).filter(|l| l.storage == "ipfs" && l.location.starts_with("/ipfs/"));
    let link = link.ok_or_else(|| {
        failure::computation(format!(
            "the result's place on chain is no link: {}; ask the pool's owner for the result with digest {digest}",
            String::from_utf8_lossy(results)
        ))
    })?;
    let url = format!("{}{}", gateway.trim_end_matches('/'), link.location);
    let mut answer = http
        .get(&url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .wrap_err_with(|| format!("cannot download the result from {url}; it stays there: try again"))?;
    let mut content = Vec::new();
    while let Some(chunk) = answer.chunk().await.wrap_err("the download broke off; try again")? {
        if content.len() + chunk.len() > MAX_RESULT {
            return Err(failure::computation(format!("the result at {url} is larger than {MAX_RESULT} bytes")));
        }
        content.extend_from_slice(&chunk);
    }
    if !is_result(&content, digest) {
        let found = file_digest(&content);
        return Err(failure::computation(format!(
            "the file at {url} is not the result: its digest is {found}, the workers agreed on {digest}; do not use it"
        )));
    }
    Ok(Outcome { content, link, digest })
}

impl Outcome {
    /// The failure that the workers agreed on, if the result is one.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let nothing = self.content == NO_CALLBACK;
        let unsaid = || Failure::new(CauseCode::Unknown, "the run failed, and its contract got nothing");
        Failure::read(&self.content).or_else(|| nothing.then(unsaid))
    }
}
