//! Giving roles what they need to start, and taking back what is left at the end.

use crate::{failure, keyring::Keyring, output, waits};
use bourse_chain::{
    Client, GasPolicy, Hub, PrivateKeySigner, Sender, alloy::primitives::Bytes, deploy::Deployment,
    sender::open_intents,
};
use bourse_protocol::{
    Address, U256,
    abi::{IHub, IRlc},
    money::Nrlc,
};
use bourse_service::{CancellationToken, journal::Journal};
use eyre::WrapErr;
use std::{collections::BTreeMap, time::Duration};
use tokio::task::JoinSet;

/// Gas that a role's ether must last for: some hundred transactions.
const GAS_PER_ROLE: u64 = 20_000_000;
/// Gas of one plain payment of ether.
const GAS_OF_PAYMENT: u64 = 21_000;

/// How long taking back may take: some blocks of a slow chain.
const SWEEP: Duration = Duration::from_secs(300);

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
        Self {
            ether: gas_cost(policy, network_price, 2 * GAS_PER_ROLE),
            requester: Nrlc::rlc(100),
            workerpool_owner: Nrlc::rlc(50),
            worker: Nrlc::rlc(20),
        }
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
        let (whose, status) = (format!("the transactions of wallet {}", key.address()), lane.watch());
        self.lanes.spawn(async move { waits::transactions(&whose, status).await });
        self.lanes.spawn(lane.as_guest().run(self.stop.clone()));
        self.senders.insert(key.address(), sender.clone());
        Ok(sender)
    }

    /// Stops the senders for now: from here on the roles send from their keys themselves.
    pub(crate) async fn rest(&mut self) {
        std::mem::take(&mut self.stop).cancel();
        self.senders.clear();
        while self.lanes.join_next().await.is_some() {}
    }

    /// Stops the senders.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        while self.lanes.join_next().await.is_some() {}
    }

    /// Gives every role what it needs, all at the same time.
    pub(crate) async fn fund(&mut self, needs: Vec<Need>, admin: &Sender) -> eyre::Result<()> {
        let mut gifts = JoinSet::new();
        for need in needs {
            let (admin, role) = (admin.clone(), self.sender(&need.key).await?);
            let place = (self.run, self.deployment.rlc, self.deployment.hub);
            gifts.spawn(async move { need.fill(&admin, &role, place).await });
        }
        while let Some(given) = gifts.join_next().await {
            given??;
        }
        Ok(())
    }

    /// Takes back all that is free: deposits, RLC, ether. Who still has something locked keeps what it has.
    pub(crate) async fn sweep(&mut self, keyring: &Keyring) -> eyre::Result<()> {
        let unfinished = match tokio::time::timeout(SWEEP, self.sweep_all(keyring)).await {
            Ok(Ok(unfinished)) if unfinished.is_empty() => return Ok(()),
            Ok(Ok(unfinished)) => unfinished.join("; "),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => format!("the chain did not take it within {} s", SWEEP.as_secs()),
        };
        Err(eyre::eyre!(
            "not everything came back to {}: {unfinished}; the roles' keys stay in the data directory: start and stop again on it",
            keyring.admin.address()
        ))
    }

    /// Returns what could not be taken back, and why.
    async fn sweep_all(&mut self, keyring: &Keyring) -> eyre::Result<Vec<String>> {
        self.settled().await?;
        // The roles have sent from their keys meanwhile.
        self.rest().await;
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
        let mut unfinished = Vec::new();
        while let Some(done) = jobs.join_next().await {
            match done? {
                Ok((_, None)) => {}
                Ok((name, Some(locked))) => output::say(&format!(
                    "  the {name} keeps its funds: {locked} RLC are locked in open tasks; start again on this folder later"
                )),
                Err(error) => unfinished.push(format!("{error:#}")),
            }
        }
        Ok(unfinished)
    }

    /// Returns when nothing is on its way any more: a gift that was under way must arrive before it can be taken back.
    async fn settled(&self) -> eyre::Result<()> {
        for wallet in self.senders.keys() {
            while open_intents(&self.journal, *wallet)? > 0 {
                tokio::time::sleep(self.client.poll_interval()).await;
            }
        }
        Ok(())
    }
}

/// What one role lacks.
pub(crate) struct Need {
    name: String,
    key: PrivateKeySigner,
    /// Ether to give, in wei.
    ether: U256,
    /// RLC to give.
    rlc: Nrlc,
    /// RLC that it deposits then.
    deposit: Nrlc,
}

impl Need {
    async fn fill(self, admin: &Sender, role: &Sender, (run, rlc, hub): (u64, Address, Address)) -> eyre::Result<()> {
        let (name, to) = (&self.name, role.address());
        let ether = async {
            if self.ether.is_zero() {
                return Ok(());
            }
            let paid = admin.pay(&format!("fund:{run}:ether:{to}"), to, self.ether).await;
            paid.map(drop).wrap_err_with(|| format!("cannot give ether to the {name}"))
        };
        let tokens = async {
            if self.rlc == Nrlc::ZERO {
                return Ok(());
            }
            let call = IRlc::transferCall { to, value: self.rlc.0 };
            let paid = admin.send(&format!("fund:{run}:rlc:{to}"), rlc, &call).await;
            paid.map(drop).wrap_err_with(|| format!("cannot give RLC to the {name}"))
        };
        tokio::try_join!(ether, tokens)?;
        if self.deposit == Nrlc::ZERO {
            return Ok(());
        }
        let call = IRlc::approveAndCallCall { spender: hub, value: self.deposit.0, data: Bytes::new() };
        let deposited = role.send(&format!("fund:{run}:deposit:{to}"), rlc, &call).await;
        deposited.map(drop).wrap_err_with(|| format!("cannot deposit RLC of the {name}"))
    }
}

/// What the roles lack. What is there already is not given again. Without contracts there is no RLC yet.
pub(crate) async fn needs(
    client: &Client,
    contracts: Option<&Deployment>,
    keyring: &Keyring,
    amounts: &Amounts,
) -> eyre::Result<Vec<Need>> {
    let mut needs = Vec::new();
    for (name, key) in keyring.roles() {
        let address = key.address();
        let (deposit, wallet) = match name.as_str() {
            "requester" => (amounts.requester, amounts.requester),
            "pool owner" => (amounts.workerpool_owner, Nrlc::ZERO),
            _ => (amounts.worker, Nrlc::ZERO),
        };
        let (held, in_wallet) = match contracts {
            Some(contracts) => rlc_of(client, contracts, address).await?,
            None => (Nrlc::ZERO, Nrlc::ZERO),
        };
        let deposit = lacking(held, deposit);
        // A wallet that is filled up is filled up for both purposes at once.
        let rlc = match deposit == Nrlc::ZERO && lacking(in_wallet, wallet) == Nrlc::ZERO {
            true => Nrlc::ZERO,
            false => Nrlc(deposit.0 + wallet.0).saturating_sub(in_wallet),
        };
        let ether = lacking(Nrlc(client.balance(address).await?), Nrlc(amounts.ether)).0;
        needs.push(Need { name, key: key.clone(), ether, rlc, deposit });
    }
    Ok(needs)
}

/// What fills up to `wanted` who has less than half of it.
fn lacking(have: Nrlc, wanted: Nrlc) -> Nrlc {
    if have < Nrlc(wanted.0 / U256::from(2)) { wanted.saturating_sub(have) } else { Nrlc::ZERO }
}

/// RLC of an account: free and locked in the hub, and in its wallet.
async fn rlc_of(client: &Client, contracts: &Deployment, of: Address) -> eyre::Result<(Nrlc, Nrlc)> {
    let account = Hub::new(client.clone(), contracts.hub).account(of).await?;
    let held = account.stake.checked_add(account.locked).unwrap_or(account.stake);
    let wallet = client.call(contracts.rlc, &IRlc::balanceOfCall { account: of }).await?;
    Ok((held, Nrlc(wallet)))
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
    let fees = policy.fees(base, tip)?;
    // The sender keeps a quarter more gas in hand than it estimates.
    let cost = U256::from(GAS_OF_PAYMENT * 5 / 4) * U256::from(fees.max_fee) * U256::from(2);
    let rest = client.balance(address).await?.saturating_sub(cost);
    if !rest.is_zero() {
        sender.pay(&format!("sweep:{run}:ether:{address}"), to, rest).await?;
    }
    Ok(None)
}

/// What a wallet is about to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bill {
    /// How many roles get something.
    pub(crate) roles: usize,
    /// Ether that the roles get, in wei.
    pub(crate) ether: U256,
    /// RLC that the roles get.
    pub(crate) rlc: Nrlc,
    /// Most that putting the contracts there costs, in wei; nothing where they are.
    pub(crate) contracts: U256,
}

impl Bill {
    /// Everything together.
    pub(crate) fn of(needs: &[Need], contracts: U256) -> Self {
        let sum = |part: fn(&Need) -> U256| needs.iter().map(part).fold(U256::ZERO, U256::saturating_add);
        Self { roles: needs.len(), ether: sum(|n| n.ether), rlc: Nrlc(sum(|n| n.rlc.0)), contracts }
    }

    /// Says what will be spent, and asks unless that is settled.
    pub(crate) fn confirm(&self, chain_id: u64, node: &str, wallet: Address, yes: bool) -> eyre::Result<()> {
        let (wei, rlc, gas) = (ether(self.ether), self.rlc, ether(self.contracts));
        let gifts = format!(
            "give {} wallets\n{wei} ether and {rlc} RLC in all; what is left over comes back at the end.",
            self.roles
        );
        let what = match (self.roles > 0, self.contracts > U256::ZERO) {
            (true, true) => format!("{gifts}\nDeploying takes up to {gas} ether of gas."),
            (true, false) => gifts,
            (false, _) => format!("deploy the contracts\nfor up to {gas} ether of gas."),
        };
        output::say(&format!("On chain {chain_id} at {node},\n{wallet} will {what}"));
        ask(chain_id, yes)
    }

    /// Refuses before anything is sent if the wallet cannot pay. `rlc`: the token, where there is one.
    pub(crate) async fn check(&self, client: &Client, wallet: Address, rlc: Option<Address>) -> eyre::Result<()> {
        let (have, need) = (client.balance(wallet).await?, self.ether.saturating_add(self.contracts));
        if have < need {
            return Err(failure::refused(format!(
                "wallet {wallet} has {} ether and {} are needed: send ether to it",
                ether(have),
                ether(need)
            )));
        }
        let Some(rlc) = rlc else { return Ok(()) };
        let have = Nrlc(client.call(rlc, &IRlc::balanceOfCall { account: wallet }).await?);
        match have < self.rlc {
            true => Err(failure::refused(format!(
                "wallet {wallet} has {have} RLC and {} are needed: send RLC to it",
                self.rlc
            ))),
            false => Ok(()),
        }
    }
}

/// The most that so much gas may cost now, in wei.
pub(crate) fn gas_cost(policy: &GasPolicy, network_price: U256, gas: u64) -> U256 {
    let price = network_price.saturating_mul(U256::from(policy.multiplier_percent)) / U256::from(100);
    price.min(U256::from(policy.cap)).saturating_mul(U256::from(gas))
}

/// Asks whether to spend, unless that is settled: by `yes`, or by a chain for tests.
fn ask(chain_id: u64, yes: bool) -> eyre::Result<()> {
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
    fn a_bill_counts_everybody() {
        let need = |n: u64| Need {
            name: String::new(),
            key: bourse_chain::keys::test_key(0),
            ether: U256::from(n),
            rlc: Nrlc::rlc(n),
            deposit: Nrlc::ZERO,
        };
        let bill = Bill::of(&[need(1), need(5)], U256::from(7));
        let expected = Bill { roles: 2, ether: U256::from(6), rlc: Nrlc::rlc(6), contracts: U256::from(7) };
        assert_eq!(bill, expected);
    }

    #[test]
    fn who_has_half_lacks_nothing() {
        let lacks = |have, wanted| lacking(Nrlc::rlc(have), Nrlc::rlc(wanted));
        assert_eq!(lacks(50, 100), Nrlc::ZERO);
        assert_eq!(lacks(49, 100), Nrlc::rlc(51));
        assert_eq!(lacks(0, 0), Nrlc::ZERO);
    }
}
