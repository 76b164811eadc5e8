//! Giving roles what they need to start, and taking back what is left at the end.

use crate::{failure, keyring::Keyring, output};
use bourse_chain::{Client, GasPolicy, Hub, PrivateKeySigner, Sender, alloy::primitives::Bytes, deploy::Deployment};
use bourse_protocol::{
    Address, U256,
    abi::{IHub, IRlc},
    money::Nrlc,
};
use bourse_service::{CancellationToken, journal::Journal};
use eyre::WrapErr;

use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// Gas that a role's ether must last for: some hundred transactions.
const GAS_PER_ROLE: u64 = 20_000_000;
/// Gas of one plain payment of ether.
const GAS_OF_PAYMENT: u64 = 21_000;

/// What each role gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amounts {
    /// Ether of each role, in wei.
    pub(crate) ether: U256,
    /// Deposit of the requester in the hub, and the same again in its wallet.
    pub(crate) requester: Nrlc,
    /// Deposit of the pool owner.
    pub(crate) workerpool_owner: Nrlc,
    /// Deposit of each worker.
    pub(crate) worker: Nrlc,
}

impl Amounts {
    /// Plenty, for a chain where nothing costs.
    pub(crate) fn embedded() -> Self {
        Self {
            ether: U256::from(10).pow(U256::from(20)),
            requester: Nrlc::rlc(1000),
            workerpool_owner: Nrlc::rlc(1000),
            worker: Nrlc::rlc(100),
        }
    }

    /// What some dozen tasks of the example need, at the price that gas may have.
    pub(crate) fn frugal(policy: &GasPolicy, network_price: U256) -> Self {
        let price =
            (network_price * U256::from(policy.multiplier_percent) / U256::from(100)).min(U256::from(policy.cap));
        Self {
            ether: price * U256::from(2 * GAS_PER_ROLE),
            requester: Nrlc::rlc(100),
            workerpool_owner: Nrlc::rlc(50),
            worker: Nrlc::rlc(20),
        }
    }

    /// Everything together: ether in wei, and RLC.
    pub(crate) fn total(&self, roles: usize) -> (U256, Nrlc) {
        let workers = U256::from(roles.saturating_sub(2));
        let rlc = self.requester.0 * U256::from(2) + self.workerpool_owner.0 + self.worker.0 * workers;
        (self.ether * U256::from(roles), Nrlc(rlc))
    }
}

/// Wei as ether, for people.
pub(crate) fn ether(wei: U256) -> String {
    let text = format!("{:0>19}", wei.to_string());
    let (whole, fraction) = text.split_at(text.len() - 18);
    let fraction = fraction[..9].trim_end_matches('0');
    if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
}

/// Senders of setup transactions: one per key, over one journal, for as long as this lives.
pub(crate) struct Treasury {
    client: Client,
    deployment: Deployment,
    journal: Journal,
    policy: GasPolicy,
    senders: BTreeMap<Address, Sender>,
    lanes: JoinSet<()>,
    stop: CancellationToken,
    run: u64,
}

impl Treasury {
    /// Opens the senders' journal of a network.
    pub(crate) fn new(client: Client, deployment: Deployment, journal: Journal, policy: GasPolicy) -> Self {
        let run = bourse_service::clock::Clock::Wall.millis();
        let (senders, lanes, stop) = (BTreeMap::new(), JoinSet::new(), CancellationToken::new());
        Self { client, deployment, journal, policy, senders, lanes, stop, run }
    }

    /// The sender of a key. There is only one per key: two would take the same nonce.
    pub(crate) async fn sender(&mut self, key: &PrivateKeySigner) -> eyre::Result<Sender> {
        if let Some(sender) = self.senders.get(&key.address()) {
            return Ok(sender.clone());
        }
        let (sender, lane) = Sender::open(self.client.clone(), key.clone(), self.journal.clone(), self.policy).await?;
        self.lanes.spawn(lane.run(self.stop.clone()));
        self.senders.insert(key.address(), sender.clone());
        Ok(sender)
    }

    /// Stops the senders.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        while self.lanes.join_next().await.is_some() {}
    }

    /// Brings every role up to its amounts. What is there already is not given again.
    pub(crate) async fn fund(&mut self, keyring: &Keyring, amounts: &Amounts, admin: &Sender) -> eyre::Result<()> {
        let hub = Hub::new(self.client.clone(), self.deployment.hub);
        let mut deposits = JoinSet::new();
        for (name, key) in keyring.roles() {
            let address = key.address();
            let (deposit, wallet) = match name.as_str() {
                "requester" => (amounts.requester, amounts.requester),
                "pool owner" => (amounts.workerpool_owner, Nrlc::ZERO),
                _ => (amounts.worker, Nrlc::ZERO),
            };
            self.give_ether(admin, &name, address, amounts.ether).await?;
            let account = hub.account(address).await?;
            let held = account.stake.checked_add(account.locked).unwrap_or(account.stake);
            let missing =
                if held < Nrlc(deposit.0 / U256::from(2)) { deposit.saturating_sub(held) } else { Nrlc::ZERO };
            let in_wallet =
                Nrlc(self.client.call(self.deployment.rlc, &IRlc::balanceOfCall { account: address }).await?);
            let wanted = Nrlc(missing.0 + wallet.0);
            if missing == Nrlc::ZERO && in_wallet.0 * U256::from(2) >= wallet.0 {
                continue;
            }
            let value = wanted.saturating_sub(in_wallet).0;
            if !value.is_zero() {
                let call = IRlc::transferCall { to: address, value };
                admin
                    .send(&format!("fund:{}:rlc:{address}", self.run), self.deployment.rlc, &call)
                    .await
                    .wrap_err_with(|| format!("cannot give RLC to the {name}"))?;
            }
            if missing != Nrlc::ZERO {
                let sender = self.sender(key).await?;
                let (id, rlc, hub) = (format!("fund:{}:deposit:{address}", self.run), self.deployment.rlc, hub.address);
                deposits.spawn(async move {
                    let call = IRlc::approveAndCallCall { spender: hub, value: missing.0, data: Bytes::new() };
                    sender.send(&id, rlc, &call).await.wrap_err_with(|| format!("cannot deposit RLC of the {name}"))
                });
            }
        }
        while let Some(done) = deposits.join_next().await {
            done??;
        }
        Ok(())
    }

    async fn give_ether(&self, admin: &Sender, name: &str, to: Address, wanted: U256) -> eyre::Result<()> {
        let have = self.client.balance(to).await?;
        if have >= wanted / U256::from(2) {
            return Ok(());
        }
        let id = format!("fund:{}:ether:{to}", self.run);
        admin.pay(&id, to, wanted - have).await.wrap_err_with(|| format!("cannot give ether to the {name}"))?;
        Ok(())
    }

    /// Takes back all that is free: deposits, RLC, ether. Who still has something locked keeps what it has.
    pub(crate) async fn sweep(&mut self, keyring: &Keyring) -> eyre::Result<()> {
        let to = keyring.admin.address();
        let mut jobs = JoinSet::new();
        for (name, key) in keyring.roles() {
            let sender = self.sender(key).await?;
            let (client, deployment, run, policy) =
                (self.client.clone(), self.deployment.clone(), self.run, self.policy);
            jobs.spawn(async move {
                let done = sweep_one(&client, &deployment, &sender, to, run, &policy).await;
                done.wrap_err_with(|| format!("cannot take back what the {name} has left")).map(|left| (name, left))
            });
        }
        while let Some(done) = jobs.join_next().await {
            match done? {
                Ok((_, None)) => {}
                Ok((name, Some(locked))) => output::say(&format!(
                    "  the {name} keeps its funds: {locked} RLC are locked in open tasks; start again on this folder later"
                )),
                Err(error) => output::say(&format!("  {error:#}; its key stays in the data directory")),
            }
        }
        Ok(())
    }
}

/// Returns what is still locked, if anything: then nothing was taken.
async fn sweep_one(
    client: &Client,
    deployment: &Deployment,
    sender: &Sender,
    to: Address,
    run: u64,
    policy: &GasPolicy,
) -> eyre::Result<Option<Nrlc>> {
    let address = sender.address();
    let account = Hub::new(client.clone(), deployment.hub).account(address).await?;
    if account.locked != Nrlc::ZERO {
        return Ok(Some(account.locked));
    }
    if account.stake != Nrlc::ZERO {
        let call = IHub::withdrawCall { amount: account.stake.0 };
        sender.send(&format!("sweep:{run}:withdraw:{address}"), deployment.hub, &call).await?;
    }
    let value = client.call(deployment.rlc, &IRlc::balanceOfCall { account: address }).await?;
    if !value.is_zero() {
        let call = IRlc::transferCall { to, value };
        sender.send(&format!("sweep:{run}:rlc:{address}"), deployment.rlc, &call).await?;
    }
    let (base, tip) = client.fees().await?;
    let Ok(fees) = policy.fees(base, tip) else { return Ok(None) };
    // The sender keeps a quarter more gas in hand than it estimates.
    let cost = U256::from(GAS_OF_PAYMENT * 5 / 4) * U256::from(fees.max_fee) * U256::from(2);
    let rest = client.balance(address).await?.saturating_sub(cost);
    if !rest.is_zero() {
        sender.pay(&format!("sweep:{run}:ether:{address}"), to, rest).await?;
    }
    Ok(None)
}

/// Says what will be spent, and asks unless that is settled.
pub(crate) fn confirm(
    chain_id: u64,
    node: &str,
    wallet: Address,
    total: (U256, Nrlc),
    roles: usize,
    yes: bool,
) -> eyre::Result<()> {
    output::say(&format!(
        "On chain {chain_id} at {node}, {wallet} will give {roles} wallets {} ether and {} RLC in all;\nwhat is left over comes back at the end.",
        ether(total.0),
        total.1
    ));
    if yes || chain_id == 31337 {
        return Ok(());
    }
    use std::io::{BufRead, IsTerminal};
    if !std::io::stdin().is_terminal() {
        return Err(failure::refused(format!(
            "chain {chain_id} is not a test chain and nobody can be asked: add --yes to spend"
        )));
    }
    output::say("Go on? Type yes:");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).wrap_err("cannot read the answer")?;
    if answer.trim() == "yes" { Ok(()) } else { Err(failure::refused("not confirmed: nothing was sent")) }
}

/// Refuses before anything is sent if the wallet cannot pay.
pub(crate) async fn check_wallet(
    client: &Client,
    wallet: Address,
    rlc: Option<Address>,
    total: (U256, Nrlc),
) -> eyre::Result<()> {
    let have = client.balance(wallet).await?;
    if have < total.0 {
        return Err(failure::refused(format!(
            "wallet {wallet} has {} ether and {} are needed: send ether to it",
            ether(have),
            ether(total.0)
        )));
    }
    if let Some(rlc) = rlc {
        let have = Nrlc(client.call(rlc, &IRlc::balanceOfCall { account: wallet }).await?);
        if have < total.1 {
            return Err(failure::refused(format!(
                "wallet {wallet} has {have} RLC and {} are needed: send RLC to it",
                total.1
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ether_is_shown_with_nine_decimals() {
        assert_eq!(ether(U256::from(10).pow(U256::from(18))), "1");
        assert_eq!(ether(U256::from(1_500_000_000_000_000_000u64)), "1.5");
        assert_eq!(ether(U256::ZERO), "0");
        assert_eq!(ether(U256::from(1)), "0");
    }

    #[test]
    fn totals_count_everybody() {
        let amounts = Amounts::embedded();
        let (wei, rlc) = amounts.total(5);
        assert_eq!(wei, amounts.ether * U256::from(5));
        assert_eq!(rlc, Nrlc::rlc(2000 + 1000 + 300));
    }
}
