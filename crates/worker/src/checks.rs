//! What must be true before a worker takes work: processors, a true clock, a pool, a deposit, ether for gas.

use crate::{
    Config, Error,
    context::{Context, Trouble},
    machine,
    owner::Owner,
    store::Record,
};
use bourse_chain::{
    GasPolicy, Hub, Sender, clock,
    gas::{self, Fees, WorkGas},
};
use bourse_protocol::{
    Address, U256,
    deal::ContributionStatus,
    ids::TaskId,
    money::Nrlc,
    replicate::{Cause, CauseCode},
};
use std::sync::{Mutex, PoisonError};

/// Looks at the machine and reads the pool, and refuses to start where no work could come or none could be done.
///
/// With `busy`, replicates of an earlier life wait: what they still need may be less, so money is not asked for. Returns the
/// owner of the pool.
pub(crate) async fn at_start(hub: &Hub, wallet: Address, config: &Config, busy: bool) -> Result<Owner, Error> {
    let (have, needed) = (machine::cpus(), config.min_cpus);
    if have < needed {
        return Err(Error::TooFewCpus { have, needed });
    }
    if let Some(wrong) = clock::wrong(&hub.client, &config.clock).await? {
        return Err(wrong.into());
    }
    let (workerpool, gas) = (config.workerpool, &config.gas);
    let unknown = || Error::UnknownPool { workerpool, hub: hub.address };
    let pool = hub.workerpool(workerpool).await?.ok_or_else(unknown)?;
    let account = hub.account(wallet).await?;
    let deposit = account.stake.checked_add(account.locked);
    if !busy && deposit == Some(Nrlc::ZERO) && !pool.worker_stake_percent.is_zero() {
        return Err(Error::NoDeposit { wallet, percent: pool.worker_stake_percent });
    }
    let (fees, work) = rates(hub, gas, None).await?;
    let (needed, have) = (work.needed(fees), hub.client.balance(wallet).await?);
    match have >= needed {
        true => {}
        false if busy => {
            tracing::warn!(%wallet, %have, %needed, "ether is short: going on with what was begun, send ether for more");
        }
        false => return Err(Error::NoGas { wallet, needed, have }),
    }
    tracing::info!(%workerpool, owner = %pool.owner, %wallet, deposit = %account.stake, "the pool is on chain");
    Ok(Owner::new(hub.clone(), workerpool, pool.owner))
}

/// Replicates that count on the wallet's ether, in the order in which they came: each leaves enough for those before it.
#[derive(Debug, Default)]
pub(crate) struct Purse(Mutex<Vec<TaskId>>);

impl Purse {
    /// Those that came before `task`, which counts from now on.
    fn before(&self, task: TaskId) -> Vec<TaskId> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&task) {
            all.push(task);
        }
        all.iter().copied().take_while(|other| *other != task).collect()
    }

    /// It needs nothing more.
    pub(crate) fn leave(&self, task: TaskId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != task);
    }
}

/// Whether the wallet can pay for one more task and for what its other tasks still owe; the cause if it cannot. Whoever
/// contributes and cannot reveal loses the stake.
pub(crate) async fn gas_for_a_task(context: &Context, task: TaskId) -> Result<Result<(), Cause>, Trouble> {
    let before = context.purse.before(task);
    let owes = |record: &Record| record.contribution_out || before.contains(&record.task());
    let open = context.store.open()?;
    let others: Vec<_> = open.iter().filter(|record| owes(record)).map(Record::task).filter(|o| *o != task).collect();
    let (fees, gas) = rates(&context.hub, &context.config.gas, Some(&context.sender)).await?;
    let hub = context.hub.at(context.hub.client.recent_header().await?.head);
    let have = hub.client.balance(context.wallet).await?;
    // Mostly there is enough even if nothing of the others is on chain yet.
    let nothing_yet = others.iter().map(|_| ContributionStatus::Unset);
    if have >= needed(nothing_yet, gas, fees) {
        return Ok(Ok(()));
    }
    let mut stand = Vec::with_capacity(others.len());
    for other in &others {
        stand.push(hub.contribution(*other, context.wallet).await?.status);
    }
    let needed = needed(stand.into_iter(), gas, fees);
    Ok(match have >= needed {
        true => Ok(()),
        false => {
            let (wallet, others) = (context.wallet, others.len());
            let text = match others {
                0 => Error::NoGas { wallet, needed, have }.to_string(),
                _ => format!(
                    "worker {wallet} has {have} wei, and one more task beside {others} others may take {needed} wei of gas: send ether to it"
                ),
            };
            Err(Cause::new(CauseCode::OutOfGas, text))
        }
    })
}

/// Ether for one more task, in wei, after what other contributions of this wallet still owe as they stand on chain. One that
/// was outvoted is taken to owe its reveal: the vote may be reopened.
fn needed(others: impl Iterator<Item = ContributionStatus>, gas: WorkGas, fees: Fees) -> U256 {
    let WorkGas { contribute, reveal } = gas;
    let owed = others.flat_map(|stands| match stands {
        ContributionStatus::Unset => vec![contribute, reveal],
        ContributionStatus::Contributed => vec![reveal],
        ContributionStatus::Proved | ContributionStatus::Rejected => vec![],
    });
    let calls: Vec<u64> = owed.chain([contribute, reveal]).collect();
    gas::needed(&calls, fees)
}

/// What gas costs now, and how much a task's calls use here.
async fn rates(hub: &Hub, policy: &GasPolicy, own: Option<&Sender>) -> Result<(Fees, WorkGas), bourse_chain::Error> {
    // Over the cap the sender waits, and pays at most the cap in the end.
    let at_most = Fees { max_fee: policy.cap, tip: policy.cap };
    let fees = policy.offer(hub.client.price().await?).unwrap_or(at_most);
    Ok((fees, hub.work_gas(own).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourse_protocol::B256;

    const GAS: WorkGas = WorkGas { contribute: 100_000, reveal: 40_000 };
    const FEES: Fees = Fees { max_fee: 10, tip: 1 };

    #[test]
    fn one_more_task_needs_what_it_takes_and_what_the_others_owe() {
        use ContributionStatus::{Contributed, Proved, Rejected, Unset};
        let alone = GAS.needed(FEES);
        for (others, gas) in [
            (vec![], 0),
            (vec![Proved, Rejected], 0),
            (vec![Contributed], 40_000),
            (vec![Unset], 140_000),
            (vec![Contributed, Unset, Proved, Contributed], 220_000),
        ] {
            let all = needed(others.iter().copied(), GAS, FEES);
            assert_eq!(all, alone + U256::from(10 * gas), "{others:?}");
        }
    }

    #[test]
    fn who_comes_first_is_paid_for_first() {
        let (purse, task) = (Purse::default(), |n| TaskId(B256::repeat_byte(n)));
        assert_eq!(purse.before(task(2)), []);
        assert_eq!(purse.before(task(1)), [task(2)]);
        assert_eq!(purse.before(task(3)), [task(2), task(1)]);
        assert_eq!(purse.before(task(1)), [task(2)], "it keeps its place");
        purse.leave(task(2));
        assert_eq!(purse.before(task(3)), [task(1)]);
    }
}
