//! Where ours may differ from the published 6.1.0: the list of docs/design/contracts.md, and nothing else.

use crate::actors;
use crate::calls::selector;
use crate::coverage::{BARE, reason_of};
use crate::deploy::System;
use crate::machine::{CHAIN_ID, Call, End, Outcome};
use alloy_primitives::{U256, keccak256};
use bourse_protocol::orders::domain;

/// One call and what the two sides made of it.
pub struct Scene<'a> {
    /// Addresses.
    pub system: &'a System,
    /// The call.
    pub call: &'a Call,
    /// What the published contracts said.
    pub published: &'a Outcome,
    /// What ours said.
    pub ours: &'a Outcome,
}

impl Scene<'_> {
    fn is(&self, signatures: &[&str]) -> bool {
        self.call.data.get(..4).is_some_and(|head| signatures.iter().any(|s| selector(s) == head))
    }

    fn hub(&self) -> bool {
        self.call.to == self.system.hub
    }

    fn registry(&self) -> bool {
        self.system.registries().contains(&self.call.to)
    }

    fn ours_says(&self, reason: &str) -> bool {
        self.ours.end == End::Reverted && reason_of(&self.ours.output) == reason
    }

    fn published_says(&self, reason: &str) -> bool {
        self.published.end == End::Reverted && reason_of(&self.published.output) == reason
    }

    fn argument(&self, index: usize) -> U256 {
        self.call.data.get(4 + 32 * index..36 + 32 * index).map(U256::from_be_slice).unwrap_or_default()
    }
}

/// A difference that is meant.
pub struct Deviation {
    /// Its name in the list.
    pub name: &'static str,
    /// Whether a difference is this one.
    allows: fn(&Scene<'_>) -> bool,
    /// Whether the step counts nevertheless: both sides did the same and only told it differently.
    pub keeps: bool,
}

impl Deviation {
    const fn new(name: &'static str, allows: fn(&Scene<'_>) -> bool) -> Self {
        Self { name, allows, keeps: false }
    }

    const fn told(name: &'static str, allows: fn(&Scene<'_>) -> bool) -> Self {
        Self { name, allows, keeps: true }
    }
}

/// The deviation that explains a difference, if one does.
pub fn allowing(scene: &Scene<'_>) -> Option<&'static Deviation> {
    LIST.iter().chain(KNOWN).find(|d| (d.allows)(scene))
}

/// Calls whose answer is the address of something that is not yet created.
pub fn is_prediction(call: &Call) -> bool {
    let predictions = [
        "predictApp(address,string,string,bytes,bytes32,bytes)",
        "predictDataset(address,string,bytes,bytes32)",
        "predictWorkerpool(address,string)",
    ];
    call.data.get(..4).is_some_and(|head| predictions.iter().any(|s| selector(s) == head))
}

const MATCHES: &[&str] = &["matchOrders(App,Dset,Wpool,Req)", "sponsorMatchOrders(App,Dset,Wpool,Req)"];

/// All of them.
pub const LIST: &[Deviation] = &[
    Deviation::new("6.2: TEE framework bits of a dataset tag do not bind the deal", |s| {
        let asks = s.is(MATCHES) || s.is(&["assertDatasetDealCompatibility(Dset,bytes32)"]);
        let refused = s.published_says("iExecV5-matchOrders-0x06")
            || s.published_says("IncompatibleDatasetOrder: Tag compatibility not satisfied");
        s.hub() && asks && refused && framework_bits(s)
    }),
    Deviation::new("6.2: receiveApproval matches when it gets data", |s| {
        let asked = s.is(&["receiveApproval(address,uint256,address,bytes)", "approveAndCall(address,uint256,bytes)"]);
        let refusals = ["UnsupportedOperation(bytes4)", "CallerIsNotTheRequester()", "OperationFailed()"];
        let refused = refusals.iter().any(|r| s.ours_says(r));
        asked && s.published.ok() && (refused || s.ours.end == End::Reverted && s.ours.output.is_empty())
    }),
    Deviation::new("6.2: callbacks get 200,000 gas unless told otherwise", |s| {
        let answers = |o: &Outcome, value: u64| o.ok() && U256::from_be_slice(&o.output) == U256::from(value);
        s.hub() && s.is(&["callbackgas()"]) && answers(s.published, 100_000) && answers(s.ours, 200_000)
    }),
    Deviation::new("6.2: compiled by 0.8: the legacy view of an unknown category panics", |s| {
        s.hub() && s.is(&["viewCategoryABILegacy(uint256)"]) && s.published_says(BARE) && s.ours_says("panic 0x32")
    }),
    Deviation::new("6.2: registries refuse with custom errors", |s| s.registry() && renamed_refusal(s)),
    Deviation::told("6.2: OpenZeppelin 5 does not tell that an approval ended with a transfer", |s| {
        let ended = |log: &alloy_primitives::Log| {
            log.topics().first() == Some(&keccak256("Approval(address,address,uint256)")) && log.topics()[2].is_zero()
        };
        s.registry()
            && s.published.ok()
            && s.ours.ok()
            && s.published.output == s.ours.output
            && s.published.logs.iter().filter(|l| !ended(l)).eq(&s.ours.logs)
    }),
    Deviation::new("1: the zero address has signed nothing", |s| {
        let verify =
            s.is(&["verifySignature(address,bytes32,bytes)", "verifyPresignatureOrSignature(address,bytes32,bytes)"]);
        let answers = |o: &Outcome, value: u64| o.ok() && U256::from_be_slice(&o.output) == U256::from(value);
        let verified = verify && s.argument(0).is_zero() && answers(s.published, 1) && answers(s.ours, 0);
        let matched = s.is(MATCHES) && s.ours_says("iExecV5-matchOrders-0x50") && nobody_requests(s);
        s.hub() && (verified || matched)
    }),
    Deviation::new("4: a callback that might be starved is refused before it is made", |s| {
        let calls = s.is(&[
            "finalize(bytes32,bytes,bytes)",
            "contributeAndFinalize(bytes32,bytes32,bytes,bytes,address,bytes,bytes)",
        ]);
        let published = s.published.ok() || s.published_says("panic 0x01");
        s.hub() && calls && s.ours_says("CallbackNeedsMoreGas(uint256,uint256)") && published
    }),
    Deviation::new("17: a group that answers no boolean does not admit", |s| {
        let ours = reason_of(&s.ours.output);
        let restricted = ours.starts_with("iExecV5-matchOrders-0x1") || ours.contains("restriction not satisfied");
        s.ours.end == End::Reverted && s.published_says(BARE) && restricted
    }),
    Deviation::new("17: a wallet that answers no four bytes has not signed", |s| {
        let verify =
            s.is(&["verifySignature(address,bytes32,bytes)", "verifyPresignatureOrSignature(address,bytes32,bytes)"]);
        let refused = verify && s.published_says(BARE) && s.ours.ok() && s.ours.output.iter().all(|b| *b == 0);
        s.hub() && refused && odd_wallet(s)
    }),
    Deviation::new("16: a relayed match that fails without data says that it failed", |s| {
        let relayed = s.is(&["approveAndCall(address,uint256,bytes)"]);
        relayed && s.published_says(BARE) && s.ours_says("OperationFailed()")
    }),
    Deviation::new("6.2: the refusal of a transferFrom is spelled right", |s| {
        s.hub() && s.published_says("failled-transferFrom") && s.ours_says("failed-transferFrom")
    }),
    Deviation::new("10: renounceOwnership works", |s| {
        s.hub() && s.is(&["renounceOwnership()"]) && s.published_says("fallback-disabled")
    }),
    Deviation::new("6: values that the packed layout cannot hold are refused", |s| {
        s.hub() && s.is(MATCHES) && s.ours_says("DoesNotFit(string,uint256)")
    }),
    Deviation::new("8: there is no more SRLC than an account holds", |s| {
        let deposits = ["deposit(uint256)", "depositFor(uint256,address)"];
        s.hub() && s.is(&deposits) && s.published.ok() && s.ours_says("DoesNotFit(string,uint256)")
    }),
    Deviation::new("11: the domain separator follows a chain split by itself", |s| {
        let asked = s.hub() && s.is(&["eip712domain_separator()"]) && s.published.ok() && s.ours.ok();
        let of = |chain| domain(chain, s.system.hub).separator();
        asked && s.published.output[..] == of(CHAIN_ID)[..] && s.ours.output[..] == of(CHAIN_ID + 1)[..]
    }),
    Deviation::new("3: a task has at most 32 contributors", |s| {
        s.hub()
            && s.is(&["contribute(bytes32,bytes32,bytes32,address,bytes,bytes)"])
            && s.published.ok()
            && s.ours_says("TooManyContributors(uint256)")
    }),
    Deviation::new("13: no diamond", |s| {
        let diamond = s.is(&[
            "facets()",
            "facetAddresses()",
            "facetAddress(bytes4)",
            "facetFunctionSelectors(address)",
            "diamondCut((address,uint8,bytes4[])[],address,bytes)",
            "supportsInterface(bytes4)",
        ]);
        s.hub() && diamond
    }),
    Deviation::new("additions: changes are announced, code and settings can be read", |s| {
        let ours_only = s.is(&[
            "proposeChange(bytes)",
            "cancelChange(bytes32)",
            "changeReadyAt(bytes32)",
            "changeDelay()",
            "changeWindow()",
            "implementation()",
            "upgradeTo(address)",
            "penaltyRule()",
            "contributor_limit()",
            "pendingRecord()",
        ]);
        s.hub() && ours_only && s.published_says("fallback-disabled")
    }),
    Deviation::new("14: the inside of an asset", |s| {
        s.registry() && s.is(&["master()", "proxyCode()", "proxyCodeHash()"])
    }),
    Deviation::new("15: metadata must fit a contract", |s| {
        s.registry() && s.ours_says("MetadataTooLong(uint256,uint256)")
    }),
    Deviation::new("7: the stake of workers has 40 bits", |s| {
        s.is(&["changePolicy(uint256,uint256)"]) && s.ours_says("StakeRatioTooHigh(uint256,uint256)")
    }),
];

/// Rows of the design page that a comparison cannot show, and why.
pub const NOT_SHOWN: &[(&str, &str)] = &[
    ("2", "the comparison uses the published penalty; the other one is held against the Rust rules"),
    ("5", "costs gas and nothing else, and gas is not compared; hostile callbacks take part"),
    ("9", "there is no older hub here, so both refuse, without data"),
    ("12", "the comparison uses no delay, where both act at once"),
];

/// Whether the account that is asked about is a contract that answers, but not as a wallet does.
fn odd_wallet(scene: &Scene<'_>) -> bool {
    let asked: alloy_primitives::B256 = scene.argument(0).into();
    actors::ODD_WALLETS.iter().any(|wallet| wallet.into_word() == asked)
}

/// Whether the request order of a match, whose tuple the fourth word points to, has no requester.
fn nobody_requests(scene: &Scene<'_>) -> bool {
    let order: usize = scene.argument(3).saturating_to();
    let requester = scene.call.data.get(order.saturating_add(4 + 6 * 32)..order.saturating_add(4 + 7 * 32));
    requester.is_some_and(|word| word.iter().all(|b| *b == 0))
}

/// Found, reported and not yet decided or repaired.
pub const KNOWN: &[Deviation] = &[];

/// Whether a dataset order in the call names a TEE framework: its tag is the fourth word of its tuple.
fn framework_bits(scene: &Scene<'_>) -> bool {
    let arguments = &scene.call.data[4..];
    let word = |at: usize| arguments.get(at..at + 32).map(U256::from_be_slice).unwrap_or_default();
    let place = if scene.is(MATCHES) { word(32) } else { word(0) };
    let order: usize = place.saturating_to();
    !(word(order.saturating_add(96)) & U256::from(0b1110)).is_zero()
}

/// The same refusal, in the words of OpenZeppelin 3 and 5.
fn renamed_refusal(scene: &Scene<'_>) -> bool {
    let (theirs, mine) = (reason_of(&scene.published.output), reason_of(&scene.ours.output));
    let refused = scene.published.end == End::Reverted && scene.ours.end == End::Reverted;
    refused && RENAMED.iter().any(|(old, new)| *old == theirs && *new == mine)
}

/// Refusals of registries in 6.1.0 and in 6.2.0.
const RENAMED: &[(&str, &str)] = &[
    ("ERC721: balance query for the zero address", "ERC721InvalidOwner(address)"),
    ("ERC721: owner query for nonexistent token", "ERC721NonexistentToken(uint256)"),
    ("ERC721Metadata: URI query for nonexistent token", "ERC721NonexistentToken(uint256)"),
    ("ERC721: approve caller is not owner nor approved for all", "ERC721InvalidApprover(address)"),
    ("ERC721: approved query for nonexistent token", "ERC721NonexistentToken(uint256)"),
    ("ERC721: operator query for nonexistent token", "ERC721NonexistentToken(uint256)"),
    ("ERC721: transfer caller is not owner nor approved", "ERC721InsufficientApproval(address,uint256)"),
    ("ERC721: transfer of token that is not own", "ERC721IncorrectOwner(address,uint256,address)"),
    ("ERC721: transfer to the zero address", "ERC721InvalidReceiver(address)"),
    // 5 looks at the receiver first.
    ("ERC721: operator query for nonexistent token", "ERC721InvalidReceiver(address)"),
    ("ERC721: transfer caller is not owner nor approved", "ERC721InvalidReceiver(address)"),
    ("ERC721: transfer to non ERC721Receiver implementer", "ERC721InvalidReceiver(address)"),
    ("ERC721: mint to the zero address", "ERC721InvalidReceiver(address)"),
    ("EnumerableMap: index out of bounds", "ERC721OutOfBoundsIndex(address,uint256)"),
    ("EnumerableSet: index out of bounds", "ERC721OutOfBoundsIndex(address,uint256)"),
    ("Ownable: new owner is the zero address", "OwnableInvalidOwner(address)"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The numbers of the rows of the design page's table.
    fn rows() -> BTreeSet<String> {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/design/contracts.md");
        let page = std::fs::read_to_string(page).unwrap();
        let cells = page.lines().filter_map(|l| l.strip_prefix("| ")?.split_once(" |"));
        cells.map(|(first, _)| first.to_owned()).filter(|first| first.parse::<u32>().is_ok()).collect()
    }

    #[test]
    fn the_deviations_are_the_rows_of_the_design_page() {
        let shown =
            LIST.iter().map(|d| d.name.split_once(':').unwrap().0).filter(|r| !["6.2", "additions"].contains(r));
        let not_shown: BTreeSet<String> = NOT_SHOWN.iter().map(|(row, _)| (*row).to_owned()).collect();
        let shown: BTreeSet<String> = shown.map(ToOwned::to_owned).collect();
        assert_eq!(shown.intersection(&not_shown).next(), None, "shown after all");
        assert_eq!(shown.union(&not_shown).cloned().collect::<BTreeSet<_>>(), rows());
    }
}
