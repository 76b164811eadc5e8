//! What workers say, and what they are told when they come.

use super::Service;
use crate::{
    crew::Admission,
    link::{Applicant, Event},
    pool::Heard,
};
use bourse_protocol::{
    Address, Bytes,
    ids::TaskId,
    link::{Assignment, ToWorker, Welcome},
};
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::info;

impl Service {
    pub(super) fn hear(&mut self, event: Event) {
        match event {
            Event::Joined { worker, login, holds, answer } => self.join(worker, *login, &holds, answer),
            Event::Said { worker, connection, message } if self.pool.crew.is_current(worker, connection) => {
                match self.pool.hear(worker, message) {
                    Heard::Draining | Heard::Nothing => {}
                    Heard::Progress(task) => self.agenda.add(task),
                    // When thousands come back and say where they are, nobody is to wait for the chain because of it.
                    Heard::Known(task) => self.agenda.revisit([task]),
                    Heard::Free(task) => {
                        // It may have seen on the chain what we have not.
                        self.doubted.insert(task);
                        self.agenda.add(task);
                        self.hand_out();
                        self.pool.say_no_work(worker);
                    }
                    Heard::Result(task, link) => {
                        if self.pool.begin_check(task, worker) {
                            self.check(task, worker, link, Duration::ZERO);
                        }
                    }
                }
            }
            Event::Left { worker, connection, session } => {
                if self.pool.crew.leave(worker, connection, session) {
                    info!(%worker, "worker disconnected");
                    self.agenda.add_all(self.pool.part_of(worker));
                }
            }
            Event::Said { .. } => {}
        }
    }

    fn join(&mut self, worker: Address, login: Applicant, holds: &[TaskId], answer: oneshot::Sender<Admission>) {
        let welcome = Welcome {
            version: login.version,
            session: 0,
            resumed: false,
            received: 0,
            reconnect: self.config.reconnect,
            gateway_url: self.config.gateway_url.clone(),
            upload_url: self.config.upload_url.clone(),
            upload_token: self.config.upload_token.clone(),
        };
        let name = login.name.clone();
        let connection = login.connection;
        let admission = self.pool.crew.join(worker, login, welcome, self.pool.here());
        let resumed = match &admission {
            Admission::In { welcome, .. } => welcome.resumed,
            Admission::Out(greeting) => {
                info!(%worker, name, ?greeting, "worker not let in");
                // The connection may have ended.
                return drop(answer.send(admission));
            }
        };
        info!(%worker, name, resumed, "worker logged in");
        self.arrived += 1;
        if answer.is_closed() {
            // Its connection did not wait so long: no work goes there.
            self.pool.crew.leave(worker, connection, None);
            return;
        }
        match resumed {
            true => self.agenda.add_all(self.pool.part_of(worker)),
            false => self.begin(worker, holds),
        }
        // Last: then its connection says the welcome and all this in one go.
        if answer.send(admission).is_err() {
            self.pool.crew.leave(worker, connection, None);
            self.agenda.add_all(self.pool.part_of(worker));
        }
    }

    /// Tells a worker that begins a session all that still holds for it; what it holds is not assigned anew. New work may now
    /// find a hand.
    fn begin(&mut self, worker: Address, holds: &[TaskId]) {
        for task in self.pool.assigned(worker) {
            match holds.contains(&task) {
                true => self.pool.tell(worker, ToWorker::GoOn { task }),
                false => self.assign(task, worker),
            }
        }
        self.read_standing(worker, 0);
        self.agenda.revisit(self.pool.part_of(worker));
        self.hand_out();
        self.pool.say_no_work(worker);
    }

    pub(super) fn assign(&mut self, task: TaskId, worker: Address) {
        let Some(entry) = self.pool.entry(task) else { return };
        let (deal, index) = (entry.deal.id, entry.index);
        // The connection signs it.
        let authorization = Bytes::new();
        let assignment = Assignment { task, deal, index, authorization, enclave_challenge: Address::ZERO };
        self.pool.tell(worker, ToWorker::Assign(assignment));
    }
}
