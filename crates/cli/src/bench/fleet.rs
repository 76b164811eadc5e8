//! The machines of a bench's workers and the needs of its tasks: as mixed as they are in the world, and the same each time.
//!
//! Every task finds a machine, whoever got the tasks before it.

use bourse_chain::alloy::primitives::keccak256;
use bourse_protocol::{
    B256,
    link::Capabilities,
    orders::{TAG_GPU, TAG_TEE},
};
use std::collections::BTreeSet;

/// What every machine runs.
const MODULES: &str = "WASM";
/// What about half of them run as well.
const CONTAINERS: &str = "DOCKER";
/// Every machine has so much; the bench's pool asks for it.
pub(super) const FLOOR: bourse_scheduler::Floor =
    bourse_scheduler::Floor { cpus: 2, memory_mib: 1_024, disk_mib: 10_000 };
/// Memory that the firmware keeps, in MiB at most: never the same.
const FIRMWARE: u64 = 900;
/// Room on a disk above the least, in MiB at most: a worker says it to the MiB.
const DISK: u64 = 2_000_000;

/// Numbers that look like chance and are the same each time.
struct Dice {
    bytes: B256,
    thrown: usize,
}

impl Dice {
    fn of(what: &str, n: u64) -> Self {
        Self { bytes: keccak256([what.as_bytes(), &n.to_be_bytes()].concat()), thrown: 0 }
    }

    /// Below `limit`. Eight times at most.
    fn below(&mut self, limit: u64) -> u64 {
        let four: [u8; 4] = *self.bytes[4 * self.thrown..].first_chunk().expect("eight throws are enough");
        self.thrown += 1;
        u64::from(u32::from_be_bytes(four)) % limit
    }

    fn one_of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }
}

/// The machine of a worker.
pub(super) fn machine(n: u32) -> Capabilities {
    let mut dice = Dice::of("machine", n.into());
    let cpus: u32 = dice.one_of(&[2, 4, 4, 6, 8, 8, 12, 16, 24, 32, 64]);
    let memory = u64::from(cpus) * 1_024 * dice.one_of(&[1, 2, 4, 8]);
    Capabilities {
        cpus,
        memory_mib: memory - dice.below(FIRMWARE),
        disk_mib: FLOOR.disk_mib + dice.below(DISK),
        gpus: dice.one_of(&[0, 0, 0, 0, 0, 0, 1, 1, 2, 8]),
        tee: dice.one_of::<&[&str]>(&[&[], &[], &[], &["scone"], &["gramine", "scone"]]).iter().map(text).collect(),
        slots: 1,
        app_types: dice.one_of::<&[&str]>(&[&[MODULES], &[MODULES, CONTAINERS]]).iter().map(text).collect(),
        platform: dice.one_of(&["linux/x86_64", "linux/x86_64", "linux/aarch64"]).into(),
    }
}

fn text(words: &&str) -> String {
    (*words).into()
}

/// How many different machines so many workers have.
pub(super) fn different(workers: u32) -> usize {
    (0..workers).map(machine).collect::<BTreeSet<_>>().len()
}

/// What a bag of tasks needs of a machine, as far as orders say it. Memory and disk are the pool's floor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Demand {
    pub(super) containers: bool,
    pub(super) gpu: bool,
    pub(super) enclave: bool,
}

impl Demand {
    /// What every machine can do.
    pub(crate) const PLAIN: Self = Self { containers: false, gpu: false, enclave: false };

    /// Of the n-th bag.
    fn of(n: u64) -> Self {
        let mut dice = Dice::of("bag", n);
        let mut once_in = |times| dice.below(times) == 0;
        Self { containers: once_in(4), gpu: once_in(5), enclave: once_in(5) }
    }

    /// The type of its app.
    pub(super) fn app_type(self) -> &'static str {
        if self.containers { CONTAINERS } else { MODULES }
    }

    /// The tag of its orders.
    pub(super) fn tag(self) -> B256 {
        let bit = |wanted: bool, bit: B256| if wanted { bit } else { B256::ZERO };
        bit(self.gpu, TAG_GPU) | bit(self.enclave, TAG_TEE)
    }

    fn fits(self, machine: &Capabilities) -> bool {
        machine.app_types.iter().any(|kind| kind == self.app_type())
            && (!self.gpu || machine.gpus > 0)
            && (!self.enclave || !machine.tee.is_empty())
    }
}

/// The needs of bags, one after another, that so many workers have machines for.
pub(super) struct Demands {
    machines: Vec<Capabilities>,
    bags: u64,
    tasks: u64,
}

impl Demands {
    pub(super) fn on(workers: u32) -> Self {
        Self { machines: (0..workers).map(machine).collect(), bags: 0, tasks: 0 }
    }

    /// Of the next bag, if workers end what they have begun: something special if anybody can do it.
    pub(super) fn next_ended(&mut self) -> Demand {
        self.next(1)
    }

    /// Of the next bag, if workers keep what they have begun: something special only while a machine for each of its tasks
    /// is idle for certain.
    pub(super) fn next_kept(&mut self, size: u64) -> Demand {
        self.tasks += size;
        self.next(self.tasks)
    }

    /// Something special if so many machines can do it.
    fn next(&mut self, machines: u64) -> Demand {
        let wanted = Demand::of(self.bags);
        self.bags += 1;
        let able = self.machines.iter().filter(|machine| wanted.fits(machine)).count() as u64;
        if able >= machines { wanted } else { Demand::PLAIN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_mixed_the_same_each_time_and_none_is_below_the_floor() {
        let machines: Vec<_> = (0..10_000).map(machine).collect();
        assert_eq!(machine(7), machine(7));
        assert_eq!(different(10_000), 10_000, "each is a class of its own");
        for m in &machines {
            assert!(m.cpus >= FLOOR.cpus && m.memory_mib >= FLOOR.memory_mib && m.disk_mib >= FLOOR.disk_mib, "{m:?}");
            assert!(Demand::PLAIN.fits(m) && m.slots == 1, "{m:?}");
        }
        let able = |wanted: Demand| machines.iter().filter(|m| wanted.fits(m)).count();
        let only = Demand::PLAIN;
        assert!((4_500..5_500).contains(&able(Demand { containers: true, ..only })));
        assert!((3_500..4_500).contains(&able(Demand { gpu: true, ..only })));
        assert!((3_500..4_500).contains(&able(Demand { enclave: true, ..only })));
    }

    #[test]
    fn something_special_is_needed_only_while_a_machine_for_it_is_idle_for_certain() {
        let mut demands = Demands::on(10_000);
        let bags: Vec<_> = (0..300).map(|_| demands.next_kept(10)).collect();
        assert!(bags.iter().copied().collect::<BTreeSet<_>>().len() >= 6, "{bags:?}");
        let mut few = Demands::on(20);
        let late: Vec<_> = (0..20).map(|_| few.next_kept(1)).skip(15).collect();
        assert_eq!(late, [Demand::PLAIN; 5]);
        let mut lone = Demands::on(1);
        assert!((0..50).all(|_| lone.next_ended().fits(&machine(0))));
        let mut many = Demands::on(100);
        assert!((0..50).map(|_| many.next_ended()).collect::<BTreeSet<_>>().len() >= 6);
    }

    #[test]
    fn a_demand_stands_in_the_tag_as_the_scheduler_reads_it() {
        let all = Demand { containers: true, gpu: true, enclave: true };
        assert_eq!((all.tag()[31], all.tag()[30], all.app_type()), (1, 1, "DOCKER"));
        assert_eq!((Demand::PLAIN.tag(), Demand::PLAIN.app_type()), (B256::ZERO, "WASM"));
    }
}
