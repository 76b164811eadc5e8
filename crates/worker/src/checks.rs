//! What must be true before a worker takes work: processors, a true clock, a pool, a deposit, ether for gas.

use crate::{Config, Error, context::Context, machine, owner::Owner};
use bourse_chain::{GasPolicy, Hub, Sender, gas::Fees};
use bourse_protocol::{
    Address, U256,
    money::Nrlc,
    replicate::{Cause, CauseCode},
};

/// Ether that one task may cost at today's price, in wei, and what the wallet has.
#[derive(Clone, Copy, Debug)]
struct Ether {
    needed: U256,
    have: U256,
}

impl Ether {
    fn suffices(&self) -> bool {
        self.have >= self.needed
    }
}

/// A clock may be so many seconds behind the newest block.
const CLOCK_TOLERANCE: u64 = 60;
/// The chain id of development nodes, whose time may be moved on purpose.
const DEVELOPMENT: u64 = 31_337;

/// Looks at the machine and reads the pool, and refuses to start where no work could come or none could be done.
///
/// With `busy`, replicates of an earlier life wait: what they still need may be less, so money is not asked for. Returns the
/// owner of the pool.
pub(crate) async fn at_start(hub: &Hub, wallet: Address, config: &Config, busy: bool) -> Result<Owner, Error> {
    let (have, needed) = (machine::cpus(), config.min_cpus);
    if have < needed {
        return Err(Error::TooFewCpus { have, needed });
    }
    clock(hub, config).await?;
    let (workerpool, gas) = (config.workerpool, &config.gas);
    let unknown = || Error::UnknownPool { workerpool, hub: hub.address };
    let pool = hub.workerpool(workerpool).await?.ok_or_else(unknown)?;
    let account = hub.account(wallet).await?;
    let deposit = account.stake.checked_add(account.locked);
    if !busy && deposit == Some(Nrlc::ZERO) && !pool.worker_stake_percent.is_zero() {
        return Err(Error::NoDeposit { wallet, percent: pool.worker_stake_percent });
    }
    let ether = ether(hub, wallet, gas, None).await?;
    let Ether { needed, have } = ether;
    match ether.suffices() {
        true => {}
        false if busy => {
            tracing::warn!(%wallet, %have, %needed, "ether is short: going on with what was begun, send ether for more");
        }
        false => return Err(Error::NoGas { wallet, needed, have }),
    }
    tracing::info!(%workerpool, owner = %pool.owner, %wallet, deposit = %account.stake, "the pool is on chain");
    Ok(Owner::new(hub.clone(), workerpool, pool.owner))
}

async fn clock(hub: &Hub, config: &Config) -> Result<(), Error> {
    let behind = hub.client.head().await?.timestamp.saturating_sub(config.clock.seconds());
    match behind <= CLOCK_TOLERANCE {
        true => Ok(()),
        false if hub.client.chain_id().await? == DEVELOPMENT => {
            tracing::warn!(
                seconds = behind,
                "the chain's time is ahead of this machine's: a development node may do that"
            );
            Ok(())
        }
        false => Err(Error::Clock { behind }),
    }
}

/// Whether the wallet can pay for one more task; the cause if it cannot.
pub(crate) async fn gas_for_a_task(context: &Context) -> Result<Result<(), Cause>, bourse_chain::Error> {
    let own = Some(&context.sender);
    let ether = ether(&context.hub, context.wallet, &context.config.gas, own).await?;
    Ok(match ether.suffices() {
        true => Ok(()),
        false => {
            let Ether { needed, have } = ether;
            let text = Error::NoGas { wallet: context.wallet, needed, have }.to_string();
            Err(Cause::new(CauseCode::OutOfGas, text))
        }
    })
}

/// What contribute and reveal take here, from what such calls have used of late.
async fn ether(
    hub: &Hub,
    wallet: Address,
    gas: &GasPolicy,
    own: Option<&Sender>,
) -> Result<Ether, bourse_chain::Error> {
    // Over the cap the sender waits, and pays at most the cap in the end.
    let at_most = Fees { max_fee: gas.cap, tip: gas.cap };
    let fees = gas.offer(hub.client.price().await?).unwrap_or(at_most);
    let needed = hub.work_gas(own).await?.needed(fees);
    Ok(Ether { needed, have: hub.client.balance(wallet).await? })
}
