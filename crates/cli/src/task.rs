//! `bourse task`: what became of what was bought.

use crate::{
    args::{DataDir, Gas},
    buy::{self, Purchase},
    failure,
    network_file::NetworkFile,
    output,
    run::{deliver, need},
    turn::Turn,
};
use bourse_chain::Hub;
use bourse_protocol::{
    abi::IHub,
    api::TaskView,
    deal::TaskStatus,
    ids::{DealId, TaskId},
    money::Nrlc,
    outlook::Outlook,
    replicate::Cause,
};
use clap::{Args, Subcommand};
use eyre::WrapErr;
use std::{path::PathBuf, time::Duration, time::Instant};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The pool's newest tasks.
    List(ListArguments),
    /// Where a task stands and why, what each worker does, what comes next and by when.
    #[command(visible_alias = "show")]
    Explain(OneArguments),
    /// Download a task's result, checked against the chain.
    Result(ResultArguments),
    /// Take back the price of a task that ran out of time. Anyone may; the money goes to who paid.
    Claim(ClaimArguments),
}

/// Which network.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    data_dir: DataDir,
    /// One JSON document on stdout.
    #[arg(long)]
    json: bool,
}

/// Which task.
#[derive(Debug, Args)]
pub(crate) struct OneArguments {
    /// The task's id.
    task: TaskId,
    #[command(flatten)]
    list: ListArguments,
}

/// Which task, and where to.
#[derive(Debug, Args)]
pub(crate) struct ResultArguments {
    #[command(flatten)]
    one: OneArguments,
    /// Where the result goes [default: TASK.result in this folder, TASK being its id].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Which task, and what gas may cost.
#[derive(Debug, Args)]
pub(crate) struct ClaimArguments {
    #[command(flatten)]
    one: OneArguments,
    #[command(flatten)]
    gas: Gas,
}

/// Does it.
pub(crate) async fn execute(command: Command) -> eyre::Result<()> {
    match command {
        Command::List(arguments) => list(arguments).await,
        Command::Explain(arguments) => explain(arguments).await,
        Command::Result(arguments) => result(arguments).await,
        Command::Claim(arguments) => claim(arguments).await,
    }
}

fn http() -> reqwest::Client {
    bourse_service::http::client(Duration::from_secs(30))
}

async fn list(arguments: ListArguments) -> eyre::Result<()> {
    #[derive(serde::Deserialize)]
    struct Tasks {
        tasks: Vec<TaskView>,
    }
    let (network, _) = NetworkFile::running(&arguments.data_dir.path()).await?;
    let url = format!("{}/tasks", need(&network.scheduler_url, "scheduler")?);
    let answer = http().get(&url).send().await.wrap_err("the scheduler does not answer: is the network running?")?;
    if answer.status() == reqwest::StatusCode::TOO_MANY_REQUESTS {
        return Err(failure::refused("the scheduler is asked too much just now: try again in a second"));
    }
    let Tasks { tasks } = answer.json().await.wrap_err("the scheduler's answer is not understood")?;
    if arguments.json {
        output::json(&tasks);
    } else if tasks.is_empty() {
        output::say("no tasks yet: `bourse run` buys one");
    } else {
        let mut rows = vec![vec!["task".to_owned(), "status".into(), "workers".into()]];
        let row = |t: &TaskView| {
            vec![t.chain_task_id.to_string(), t.current_status.to_string(), t.replicates.len().to_string()]
        };
        rows.extend(tasks.iter().map(row));
        output::data(output::table(&rows).trim_end());
    }
    Ok(())
}

async fn explain(arguments: OneArguments) -> eyre::Result<()> {
    let (network, _) = NetworkFile::running(&arguments.list.data_dir.path()).await?;
    let scheduler = need(&network.scheduler_url, "scheduler")?;
    let task = arguments.task;
    let view = buy::view(&http(), scheduler, task).await.ok_or_else(|| {
        failure::refused(format!(
            "the pool knows no task {task}, or does not answer: check the id; `bourse task list` shows the newest"
        ))
    })?;
    if arguments.list.json {
        output::json(&view);
        return Ok(());
    }
    output::data(&told(&view).join("\n"));
    Ok(())
}

fn time(seconds: u64) -> String {
    bourse_service::clock::iso8601(seconds.saturating_mul(1000))
}

/// A task in lines for people.
fn told(view: &TaskView) -> Vec<String> {
    let mut lines = vec![
        format!("task {}", view.chain_task_id),
        format!("  deal    {}", view.deal_id),
        format!("  status  {}: {}", view.current_status, view.current_status.meaning()),
    ];
    lines.extend(view.date_status_list.last().map(|s| format!("  since   {}", time(s.date))));
    lines.extend(view.cause.as_ref().map(|c| format!("  why     {c}")));
    lines.push(format!("  next    {}", foretold(&view.outlook)));
    if view.final_deadline > 0 && !matches!(view.chain_status, TaskStatus::Completed | TaskStatus::Failed) {
        lines.push(format!("  refund  due from {}", time(view.final_deadline)));
    }
    lines.extend(view.result.as_ref().map(|r| format!("  result  {}", r.location)));
    lines.push("  history".into());
    let history = view.date_status_list.iter().map(|s| change(s.date, &s.status, s.cause.as_ref()));
    lines.extend(history.map(|line| format!("    {line}")));
    for r in &view.replicates {
        lines.push(format!("  worker {} {}", r.worker_name, r.wallet_address));
        let again = if r.attempt > 1 { format!(", attempt {}", r.attempt) } else { String::new() };
        lines.push(format!("    status  {}: {}", r.current_status, r.current_status.meaning()));
        lines.push(format!("    phase   {}, {}{again}", r.phase, r.outcome));
        lines.extend(r.status_update_list.last().map(|c| format!("    since   {}", time(c.date))));
        lines.extend(r.cause.as_ref().map(|c| format!("    why     {c}")));
        lines.push(format!("    next    {}", foretold(&r.outlook)));
        lines.push("    history".into());
        let history = r.status_update_list.iter().map(|s| change(s.date, &s.status, s.cause.as_ref()));
        lines.extend(history.map(|line| format!("      {line}")));
    }
    lines
}

/// A line of a history.
fn change(date: u64, status: &dyn std::fmt::Display, cause: Option<&Cause>) -> String {
    let cause = cause.map(|c| format!(" ({c})")).unwrap_or_default();
    format!("{}  {status}{cause}", time(date))
}

fn foretold(outlook: &Outlook) -> String {
    match outlook.by {
        Some(by) => format!("{}, by {}", outlook.next, time(by)),
        None => outlook.next.clone(),
    }
}

async fn result(arguments: ResultArguments) -> eyre::Result<()> {
    let started = Instant::now();
    let (network, client) = NetworkFile::running(&arguments.one.list.data_dir.path()).await?;
    let hub = Hub::new(client, network.hub);
    let task = arguments.one.task;
    let state = hub.task(task).await?;
    match state.status {
        TaskStatus::Completed => {}
        TaskStatus::Failed => {
            return Err(failure::computation(format!("task {task} has no result: its price was refunded")));
        }
        TaskStatus::Unset | TaskStatus::Active | TaskStatus::Revealing => {
            return Err(failure::refused(format!(
                "task {task} has no result yet: `bourse task explain {task}` says where it stands"
            )));
        }
    }
    let gateway = need(&network.ipfs_gateway_url, "result store")?;
    let outcome = buy::fetch(&http(), gateway, &state.results, state.digest).await?;
    let path = arguments.output.unwrap_or_else(|| PathBuf::from(format!("{task}.result")));
    let purchase = Purchase { deal: DealId::default(), task, price: Nrlc::ZERO };
    deliver(&outcome, &path, &purchase, started, arguments.one.list.json)
}

async fn claim(arguments: ClaimArguments) -> eyre::Result<()> {
    let data_dir = arguments.one.list.data_dir.path();
    let (network, client) = NetworkFile::running(&data_dir).await?;
    let hub = Hub::new(client, network.hub);
    let task = arguments.one.task;
    let state = hub.task(task).await?;
    let now = crate::network::now();
    match state.status {
        TaskStatus::Active | TaskStatus::Revealing if now >= state.final_deadline => {}
        TaskStatus::Active | TaskStatus::Revealing => {
            return Err(failure::refused(format!(
                "task {task} still has time: it can be claimed from {}",
                bourse_service::clock::iso8601(state.final_deadline * 1000)
            )));
        }
        TaskStatus::Unset => {
            return Err(failure::refused(format!(
                "task {task} was not started on this chain: check the id; its pool claims tasks that never start"
            )));
        }
        TaskStatus::Completed => return Err(failure::refused(format!("task {task} was completed and paid"))),
        TaskStatus::Failed => return Err(failure::refused(format!("task {task} was refunded before"))),
    }
    let key = network.keys.requester.signer()?;
    let turn = Turn::take(&hub, &key, &data_dir, &arguments.gas).await?;
    let sent = turn.sender.send(&format!("claim:{task}"), hub.address, &IHub::claimCall { taskid: task.0 }).await;
    turn.end().await;
    sent.wrap_err("cannot claim")?;
    output::say(&format!("claimed: the price of task {task} went back to who paid it"));
    Ok(())
}
