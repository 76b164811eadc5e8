//! How senders recognise each other: the last digits of the gas limit.
//!
//! Two processes on one key have no channel but the chain. So every sender writes a tag of its own, kept in its store,
//! into the gas limits that it asks for, with a check on the nonce that other software would hit once in sixteen times.
//! Who sees another's tag knows that there are two, and both know which of them has to stop: the one with the larger.

/// Tags from here on are of services, those below of guests: commands that end soon, and that services put up with.
const SERVICES: u8 = 0x80;

/// Gas limits are multiples of this, plus the tag and its check.
const STEP: u64 = 4_096;

/// The tag of a service, or of a guest, whose store has drawn this number.
pub(super) fn of(drawn: u8, guest: bool) -> u8 {
    if guest { drawn % SERVICES } else { drawn | SERVICES }
}

/// Whether a tag is one of a guest. Any is smaller than all of services.
pub(super) fn is_guest(tag: u8) -> bool {
    tag < SERVICES
}

/// A gas limit of at least `gas` that carries a tag.
pub(super) fn mark(gas: u64, tag: u8, nonce: u64) -> u64 {
    let mark = u64::from(tag) * 16 + check(tag, nonce);
    // What a node says of gas may be beyond all bounds.
    gas.div_ceil(STEP).saturating_mul(STEP).saturating_add(mark)
}

/// The tag in a gas limit; an error with what would be one but for its check, if it is not one of ours.
pub(super) fn read(gas_limit: u64, nonce: u64) -> Result<u8, u8> {
    let mark = gas_limit % STEP;
    let tag = u8::try_from(mark / 16).expect("a twelve bit number has eight above its last four");
    if mark % 16 == check(tag, nonce) { Ok(tag) } else { Err(tag) }
}

fn check(tag: u8, nonce: u64) -> u64 {
    (nonce ^ (nonce >> 4) ^ u64::from(tag) ^ (u64::from(tag) >> 4) ^ 0b1010) % 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_costs_little() {
        for (gas, tag, nonce) in [(21_000, 0, 0), (21_000, 255, 7), (4_096, 9, 1 << 40), (5_000_000, 128, 12_345)] {
            let limit = mark(gas, tag, nonce);
            assert!((gas..gas + 2 * STEP).contains(&limit));
            assert_eq!(read(limit, nonce), Ok(tag));
        }
    }

    #[test]
    fn nonsense_of_a_node_is_no_end_of_a_process() {
        assert_eq!(mark(u64::MAX, 255, 7), u64::MAX);
    }

    #[test]
    fn limits_of_other_software_are_rarely_taken_for_ours() {
        let ours = (0..1_600).filter(|nonce| read(21_000, *nonce).is_ok()).count();
        assert!(ours <= 100, "{ours} of 1600");
    }
}
