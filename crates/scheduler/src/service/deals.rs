//! What the chain says: news, deals and their tasks, and what a reorganisation takes away or puts in doubt.

use super::{Done, Service, transactions::openings};
use crate::{
    Error,
    crew::Need,
    reads::{self, Bag},
    store::{Remembered, Terms},
};
use bourse_chain::{alloy::sol_types::SolEvent, follower::News};
use bourse_protocol::{
    abi::IHub,
    ids::{DealId, TaskId},
};
use bourse_service::defect::{Defect, planted};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::sleep;
use tracing::{info, warn};

/// What tasks need and could not be read is tried again after this time.
const LATER: Duration = Duration::from_secs(1);

impl Service {
    /// Notes which tasks the news is about, and reads new deals.
    pub(super) fn discover(&mut self, news: News) {
        // After an outage the news is of old blocks.
        self.pool.saw_block(news.latest.timestamp);
        if planted(Defect::CursorFirst) {
            self.pool.store.advance(&news.cursor);
        }
        match news.reorg {
            true => {
                self.agenda.revisit(self.pool.all_tasks());
                self.suspects.extend(self.pool.all_tasks().into_iter().filter_map(|id| self.pool.unopened_deal(id)));
            }
            false => self.agenda.revisit(self.pool.buried(news.head.number)),
        }
        if news.latest.number > news.head.number {
            // Work may begin before the opening of its task is buried: it costs nothing, and without that block no
            // contribution stands.
            self.agenda.revisit(openings(&self.waiting));
        }
        let mut deals = Vec::new();
        for log in &news.logs {
            let (topics, data) = (log.topics(), log.inner.data.clone());
            if topics.first() == Some(&IHub::SchedulerNotice::SIGNATURE_HASH) {
                let notice = IHub::SchedulerNotice::decode_log_data(&data);
                let ours = notice.ok().filter(|n| n.workerpool == self.config.workerpool);
                deals.extend(ours.map(|n| DealId(n.dealid)));
            } else if let Some(task) = topics.get(1) {
                self.agenda.add(TaskId(*task));
            }
        }
        if news.reorg || !deals.is_empty() {
            self.upheavals += 1;
        }
        // At one block, for a node that has not seen the news yet shows no deal, and that is no answer. At the newest,
        // for nodes keep what was true after old blocks for a while only; a deal never changes.
        let hub = self.hub.at(news.latest);
        let most = self.config.bag;
        self.jobs.spawn(async move {
            match reads::news(&hub, deals, most, &news).await {
                Ok((bags, since)) => Done::Opened(bags, Box::new(news), since),
                Err(error) => Done::OpenFailed(error),
            }
        });
    }

    /// `since`: what ended at this second or later may not have ended any more.
    pub(super) fn opened(&mut self, bags: Vec<Bag>, news: News, since: Option<u64>) -> Result<(), Error> {
        for bag in bags {
            self.take_bag(bag)?;
        }
        if let Some(since) = since {
            self.doubt_endings(since)?;
        }
        self.taken = (news.left == 0).then_some(news.head);
        self.pool.store.advance(&news.cursor);
        self.cursor = news.cursor;
        self.following = false;
        if news.left > 0 {
            self.follow();
        }
        Ok(())
    }

    /// A reorg went deeper than tasks are watched after their end: those that ended since come back on the table.
    fn doubt_endings(&mut self, since: u64) -> Result<(), Error> {
        // An end that is not written yet would not be found.
        self.flush()?;
        let tasks = self.pool.store.ended_since(since)?;
        if tasks.is_empty() {
            return Ok(());
        }
        warn!(tasks = tasks.len(), "a deep reorganisation of the chain: looking again at tasks that had ended");
        tasks.iter().for_each(|task| self.pool.store.reopened(task.task));
        self.bring_back(tasks);
        Ok(())
    }

    /// Puts remembered tasks back on the table. What those of earlier versions need was not kept: it is read beside the loop.
    pub(super) fn bring_back(&mut self, tasks: Vec<Remembered>) {
        let mut unknown = Vec::new();
        for task in tasks {
            match task.terms.clone() {
                Some(terms) => {
                    self.agenda.revisit([task.task]);
                    self.put_on_table(task, &terms);
                }
                None => unknown.push(task),
            }
        }
        self.read_terms(unknown, Duration::ZERO);
    }

    fn read_terms(&mut self, tasks: Vec<Remembered>, after: Duration) {
        if tasks.is_empty() {
            return;
        }
        let hub = self.hub.clone();
        self.jobs.spawn(async move {
            sleep(after).await;
            let (known, unknown) = reads::all_terms(&hub, tasks).await;
            Done::Back(known, unknown)
        });
    }

    /// Puts remembered tasks on the table of which it was read what they need, and tries again with the others.
    pub(super) fn put_back(&mut self, known: Vec<(Remembered, Terms)>, unknown: Vec<Remembered>) {
        let of_deals: BTreeMap<_, _> = known.iter().map(|(task, terms)| (task.deal.id, terms)).collect();
        of_deals.into_iter().for_each(|(deal, terms)| self.keep(deal, terms));
        for (task, terms) in known {
            let id = task.task;
            self.agenda.add(id);
            self.put_on_table(task, &terms);
            // They may have logged in before.
            self.pool.at_work(id).into_iter().for_each(|worker| self.assign(id, worker));
        }
        self.read_terms(unknown, LATER.max(self.hub.client.poll_interval()));
    }

    /// A node that lags behind may not have known the app: then they are read again in the next life.
    fn keep(&mut self, deal: DealId, terms: &Terms) {
        if !terms.app_type.is_empty() {
            self.pool.store.terms(deal, terms);
        }
    }

    fn put_on_table(&mut self, task: Remembered, terms: &Terms) {
        let need = Need::new(terms.app_type.clone(), &task.deal);
        self.pool.open(task, terms.period, need);
    }

    /// Asks whether suspected deals are still part of the chain: a reorg takes a deal away with its block.
    pub(super) fn question_suspects(&mut self) {
        let Some(head) = self.taken.filter(|_| !self.suspects.is_empty()) else { return };
        let upheavals = self.upheavals;
        for deal in std::mem::take(&mut self.suspects) {
            let hub = self.hub.at(head);
            let stands = async move { hub.deal(deal).await.map(|found| found.is_some()) };
            self.jobs.spawn(async move { Done::Stands(upheavals, deal, stands.await) });
        }
    }

    /// Takes the tasks of a deal off the table that is not on the chain any more. At the block up to which all news was
    /// taken in this is certain, and if the deal comes again it is announced again.
    pub(super) fn hold_against_chain(
        &mut self,
        upheavals: u64,
        deal: DealId,
        stands: Result<bool, bourse_chain::Error>,
    ) {
        match stands {
            Ok(true) => {}
            Ok(false) if self.upheavals == upheavals => {
                warn!(%deal, "the deal is not part of the chain any more: its tasks are taken off the table");
                if self.bags.0.set(deal, None) {
                    self.pool.store.taken(deal, None);
                }
                for task in self.pool.drop_deal(deal) {
                    self.read_at.remove(&task);
                    self.failed.remove(&task);
                }
            }
            Ok(false) | Err(_) => drop(self.suspects.insert(deal)),
        }
    }

    pub(super) fn more(
        &mut self,
        deal: DealId,
        bag: Result<Option<Box<Bag>>, bourse_chain::Error>,
    ) -> Result<(), Error> {
        self.bags.1.remove(&deal);
        match bag {
            Ok(Some(bag)) => self.take_bag(*bag),
            // A reorg took the deal away, or the node has not seen it yet.
            Ok(None) => Ok(()),
            Err(error) => {
                warn!(%deal, %error, "cannot read the deal; trying again");
                Ok(())
            }
        }
    }

    /// Puts tasks of a deal on the table, and notes how far the deal was taken.
    fn take_bag(&mut self, bag: Bag) -> Result<(), Error> {
        let Bag { deal, window, terms } = bag;
        let mut fresh = Vec::new();
        for (id, index) in window.tasks {
            // One that was opened before keeps what is known of it, also when it has ended.
            let store = &self.pool.store;
            let is_new =
                || Ok::<_, Error>(store.forgets(id) || store.task(id)?.is_none_or(|known| known.stages.is_empty()));
            if self.pool.entry(id).is_none() && is_new()? {
                fresh.push((id, index));
            }
        }
        self.pool.store.take(&deal, &fresh);
        self.keep(deal.id, &terms);
        if self.bags.0.set(deal.id, window.next) {
            self.pool.store.taken(deal.id, window.next);
        }
        for (task, index) in fresh {
            info!(%task, deal = %deal.id, trust = %deal.trust, "bought");
            self.agenda.add(task);
            let task = Remembered {
                task,
                deal: deal.clone(),
                terms: Some(terms.clone()),
                index,
                result: None,
                stages: vec![],
                replicates: vec![],
            };
            self.put_on_table(task, &terms);
        }
        Ok(())
    }

    /// Starts reading more of the deals of which there is room for more.
    pub(super) fn take_more(&mut self) {
        if self.bags.0.is_empty() {
            return;
        }
        for (deal, next, room) in self.bags.0.room(&self.pool.open_by_deal(), self.config.bag) {
            if self.bags.1.insert(deal) {
                let hub = self.hub.clone();
                self.jobs.spawn(async move {
                    let bag = reads::bag(&hub, deal, next, room).await;
                    Done::More(deal, bag.map(|bag| bag.map(Box::new)))
                });
            }
        }
    }
}
