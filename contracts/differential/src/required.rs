//! What a run must have exercised on each side: every function, event and refusal of poco.md §5, §6, §11, §13, and both
//! sides of every guard.

/// State-changing functions and views of the hub that must have succeeded.
pub const HUB: &[&str] = &[
    "verifySignature(address,bytes32,bytes)",
    "verifyPresignature(address,bytes32)",
    "verifyPresignatureOrSignature(address,bytes32,bytes)",
    "matchOrders(App,Dset,Wpool,Req)",
    "sponsorMatchOrders(App,Dset,Wpool,Req)",
    "computeDealVolume(App,Dset,Wpool,Req)",
    "assertDatasetDealCompatibility(Dset,bytes32)",
    "manageAppOrder((App,uint8,bytes))",
    "manageDatasetOrder((Dset,uint8,bytes))",
    "manageWorkerpoolOrder((Wpool,uint8,bytes))",
    "manageRequestOrder((Req,uint8,bytes))",
    "broadcastAppOrder(App)",
    "broadcastDatasetOrder(Dset)",
    "broadcastWorkerpoolOrder(Wpool)",
    "broadcastRequestOrder(Req)",
    "initialize(bytes32,uint256)",
    "initializeArray(bytes32[],uint256[])",
    "contribute(bytes32,bytes32,bytes32,address,bytes,bytes)",
    "contributeAndFinalize(bytes32,bytes32,bytes,bytes,address,bytes,bytes)",
    "reveal(bytes32,bytes32)",
    "reopen(bytes32)",
    "finalize(bytes32,bytes,bytes)",
    "claim(bytes32)",
    "claimArray(bytes32[])",
    "initializeAndClaimArray(bytes32[],uint256[])",
    "deposit(uint256)",
    "depositFor(uint256,address)",
    "depositForArray(uint256[],address[])",
    "withdraw(uint256)",
    "withdrawTo(uint256,address)",
    "recover()",
    "receiveApproval(address,uint256,address,bytes)",
    "transfer(address,uint256)",
    "transferFrom(address,address,uint256)",
    "approve(address,uint256)",
    "increaseAllowance(address,uint256)",
    "decreaseAllowance(address,uint256)",
    "approveAndCall(address,uint256,bytes)",
    "domain()",
    "updateDomainSeparator()",
    "setTeeBroker(address)",
    "setCallbackGas(uint256)",
    "changeRegistries(address,address,address)",
    "createCategory(string,string,uint256)",
    "owner()",
    "transferOwnership(address)",
    "viewDeal(bytes32)",
    "viewTask(bytes32)",
    "viewContribution(bytes32,address)",
    "viewConsumed(bytes32)",
    "viewPresigned(bytes32)",
    "viewScore(address)",
    "viewAccount(address)",
    "balanceOf(address)",
    "frozenOf(address)",
    "totalSupply()",
    "allowance(address,address)",
    "name()",
    "symbol()",
    "decimals()",
    "token()",
    "viewCategory(uint256)",
    "countCategory()",
    "appregistry()",
    "datasetregistry()",
    "workerpoolregistry()",
    "teebroker()",
    "callbackgas()",
    "viewApp(address)",
    "viewDataset(address)",
    "viewWorkerpool(address)",
    "resultFor(bytes32)",
    "eip712domain_separator()",
    "contribution_deadline_ratio()",
    "reveal_deadline_ratio()",
    "final_deadline_ratio()",
    "workerpool_stake_ratio()",
    "kitty_ratio()",
    "kitty_min()",
    "kitty_address()",
    "groupmember_purpose()",
    "viewAccountABILegacy(address)",
    "viewDealABILegacy_pt1(bytes32)",
    "viewDealABILegacy_pt2(bytes32)",
    "viewConfigABILegacy(bytes32)",
    "viewTaskABILegacy(bytes32)",
    "viewContributionABILegacy(bytes32,address)",
    "viewCategoryABILegacy(uint256)",
];

/// Functions of the hub that can only be refused here: there is no older hub, and it is configured.
pub const HUB_REFUSED: &[&str] =
    &["importScore(address)", "configure(address,string,string,uint8,address,address,address,address)"];

/// Functions that one of the two systems does not have.
pub const ONE_SIDED: &[&str] = &[
    "renounceOwnership()",
    "facets()",
    "facetAddresses()",
    "facetAddress(bytes4)",
    "facetFunctionSelectors(address)",
    "diamondCut((address,uint8,bytes4[])[],address,bytes)",
    "supportsInterface(bytes4)",
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
];

/// Functions of the registries that must have succeeded.
pub const REGISTRY: &[&str] = &[
    "createApp(address,string,string,bytes,bytes32,bytes)",
    "createDataset(address,string,bytes,bytes32)",
    "createWorkerpool(address,string)",
    "predictApp(address,string,string,bytes,bytes32,bytes)",
    "predictDataset(address,string,bytes,bytes32)",
    "predictWorkerpool(address,string)",
    "isRegistered(address)",
    "setBaseURI(string)",
    "baseURI()",
    "tokenURI(uint256)",
    "master()",
    "proxyCode()",
    "proxyCodeHash()",
    "previous()",
    "initialized()",
    "name()",
    "symbol()",
    "owner()",
    "transferOwnership(address)",
    "renounceOwnership()",
    "totalSupply()",
    "tokenByIndex(uint256)",
    "tokenOfOwnerByIndex(address,uint256)",
    "balanceOf(address)",
    "ownerOf(uint256)",
    "getApproved(uint256)",
    "isApprovedForAll(address,address)",
    "approve(address,uint256)",
    "setApprovalForAll(address,bool)",
    "transferFrom(address,address,uint256)",
    "safeTransferFrom(address,address,uint256)",
    "safeTransferFrom(address,address,uint256,bytes)",
    "supportsInterface(bytes4)",
];

/// Functions of the registries that can only be refused.
pub const REGISTRY_REFUSED: &[&str] = &["initialize(address)", "setName(address,string)"];

/// Functions of assets that must have succeeded.
pub const ASSET: &[&str] = &[
    "owner()",
    "registry()",
    "m_appName()",
    "m_appType()",
    "m_appMultiaddr()",
    "m_appChecksum()",
    "m_appMREnclave()",
    "m_datasetName()",
    "m_datasetMultiaddr()",
    "m_datasetChecksum()",
    "m_workerpoolDescription()",
    "m_workerStakeRatioPolicy()",
    "m_schedulerRewardRatioPolicy()",
    "changePolicy(uint256,uint256)",
];

/// Every event of §11 that is not Boost's, of §13.2 and of ERC-721.
pub const EVENTS: &[&str] = &[
    "Transfer(address,address,uint256)",
    "Approval(address,address,uint256)",
    "Lock(address,uint256)",
    "Unlock(address,uint256)",
    "Reward(address,uint256,bytes32)",
    "Seize(address,uint256,bytes32)",
    "SchedulerNotice(address,bytes32)",
    "OrdersMatched(bytes32,bytes32,bytes32,bytes32,bytes32,uint256)",
    "DealSponsored(bytes32,address)",
    "TaskInitialize(bytes32,address)",
    "TaskContribute(bytes32,address,bytes32)",
    "TaskConsensus(bytes32,bytes32)",
    "TaskReveal(bytes32,address,bytes32)",
    "TaskReopen(bytes32)",
    "TaskFinalize(bytes32,bytes)",
    "TaskClaimed(bytes32)",
    "AccurateContribution(address,bytes32)",
    "FaultyContribution(address,bytes32)",
    "SignedAppOrder(bytes32)",
    "SignedDatasetOrder(bytes32)",
    "SignedWorkerpoolOrder(bytes32)",
    "SignedRequestOrder(bytes32)",
    "ClosedAppOrder(bytes32)",
    "ClosedDatasetOrder(bytes32)",
    "ClosedWorkerpoolOrder(bytes32)",
    "ClosedRequestOrder(bytes32)",
    "BroadcastAppOrder(App)",
    "BroadcastDatasetOrder(Dset)",
    "BroadcastWorkerpoolOrder(Wpool)",
    "BroadcastRequestOrder(Req)",
    "CreateCategory(uint256,string,string,uint256)",
    "OwnershipTransferred(address,address)",
    "PolicyUpdate(uint256,uint256,uint256,uint256)",
    "ApprovalForAll(address,address,bool)",
];

/// Custom errors, for naming refusals.
pub const ERRORS: &[&str] = &[
    "IncompatibleDatasetOrder(string)",
    "UnsupportedOperation(bytes4)",
    "OperationFailed()",
    "CallerIsNotTheRequester()",
    "NotContractOwner(address,address)",
    "FunctionNotFound(bytes4)",
    "CallbackNeedsMoreGas(uint256,uint256)",
    "DoesNotFit(string,uint256)",
    "TooManyContributors(uint256)",
    "NotAContract(address)",
    "ChangeNotProposed(bytes32)",
    "ChangeNotInWindow(bytes32,uint256,uint256)",
    "MetadataTooLong(uint256,uint256)",
    "StakeRatioTooHigh(uint256,uint256)",
    "OwnableInvalidOwner(address)",
    "ERC721InvalidOwner(address)",
    "ERC721NonexistentToken(uint256)",
    "ERC721IncorrectOwner(address,uint256,address)",
    "ERC721InvalidSender(address)",
    "ERC721InvalidReceiver(address)",
    "ERC721InsufficientApproval(address,uint256)",
    "ERC721InvalidApprover(address)",
    "ERC721InvalidOperator(address)",
    "ERC721OutOfBoundsIndex(address,uint256)",
];

/// The codes of §6.1.
const MATCH_CODES: &[&str] = &[
    "00", "01", "02", "03", "04", "05", "06", "07", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "1a",
    "1b", "20", "21", "30", "31", "40", "41", "50", "60",
];

/// Refusals in words that both sides must have made.
const REASONS: &[&str] = &[
    "invalid-signature-format",
    "invalid-sender-or-signature",
    "IexecEscrow: Transfer amount exceeds balance",
    "IncompatibleDatasetOrder: Dataset order is revoked or fully consumed",
    "IncompatibleDatasetOrder: Invalid dataset order signature",
    "IncompatibleDatasetOrder: Deal not found",
    "IncompatibleDatasetOrder: Deal already has a dataset",
    "IncompatibleDatasetOrder: App restriction not satisfied",
    "IncompatibleDatasetOrder: Workerpool restriction not satisfied",
    "IncompatibleDatasetOrder: Requester restriction not satisfied",
    "IncompatibleDatasetOrder: Tag compatibility not satisfied",
    "ERC20: mint to the zero address",
    "ERC20: transfer to the zero address",
    "ERC20: approve to the zero address",
    "invalid-array-length",
    "wrong-token",
    "approval-refused",
    "already-configured",
    "not-configured",
    "Ownable: caller is not the owner",
    "NotContractOwner(address,address)",
    "fallback-disabled",
    "task-pending",
    "caller is not the owner",
    "Operation not supported on this chain",
    "Create2: Failed on deploy",
    "panic 0x11",
];

/// Refusals without data that both sides must have made.
const BARE: &[&str] = &[
    "hub initialize(bytes32,uint256)",
    "hub initializeArray(bytes32[],uint256[])",
    "hub contribute(bytes32,bytes32,bytes32,address,bytes,bytes)",
    "hub contributeAndFinalize(bytes32,bytes32,bytes,bytes,address,bytes,bytes)",
    "hub reveal(bytes32,bytes32)",
    "hub reopen(bytes32)",
    "hub finalize(bytes32,bytes,bytes)",
    "hub claim(bytes32)",
    "hub claimArray(bytes32[])",
    "hub initializeAndClaimArray(bytes32[],uint256[])",
    "hub withdraw(uint256)",
    "hub withdrawTo(uint256,address)",
    "hub transfer(address,uint256)",
    "hub transferFrom(address,address,uint256)",
    "hub decreaseAllowance(address,uint256)",
    "hub viewCategory(uint256)",
    "hub importScore(address)",
    "hub matchOrders(App,Dset,Wpool,Req)",
    "hub assertDatasetDealCompatibility(Dset,bytes32)",
    "hub manageAppOrder((App,uint8,bytes))",
    "registry initialize(address)",
    "asset changePolicy(uint256,uint256)",
];

/// Steps that must have ended so.
pub const AIMS: &[&str] = &[
    "match: ok",
    "match again: ok",
    "match through the token: ok",
    "match: unsigned: refused",
    "match: forged signature: refused",
    "match: malleable signature: refused",
    "match: app is no contract: refused",
    "match: dataset is no contract: refused",
    "match: workerpool is no contract: refused",
    "match: price overflows: refused",
    "initialize: after the last task: refused",
    "initialize: before the first task: refused",
    "initialize: unknown deal: refused",
    "match: the rest of a request: ok",
    "contribute: ok",
    "contribute: in a crowd: ok",
    "contribute: twice: refused",
    "contribute: not authorized: refused",
    "contribute: authorized another: refused",
    "contribute: no enclave: refused",
    "contribute: wrong enclave: refused",
    "contribute: with enclave: ok",
    "contribute: malformed authorization: refused",
    "contribute: too little stake: refused",
    "contributeAndFinalize: ok",
    "contributeAndFinalize: with enclave: ok",
    "contributeAndFinalize: not authorized: refused",
    "contributeAndFinalize: no enclave: refused",
    "contributeAndFinalize: wrong enclave: refused",
    "contributeAndFinalize: not alone or trust above 1: refused",
    "reveal: ok",
    "reveal: not a winner: refused",
    "reveal: wrong digest: refused",
    "reopen: ok",
    "reopen: too early: refused",
    "reopen: not the scheduler: refused",
    "finalize: ok",
    "finalize: some did not reveal: ok",
    "finalize: not the scheduler: refused",
    "finalize: starved callback: refused",
    "claim: ok",
    "claim: too early: refused",
    "contribute: deadline - 1: ok",
    "contribute: deadline: refused",
    "contribute: deadline + 1: refused",
    "contributeAndFinalize: deadline - 1: ok",
    "contributeAndFinalize: deadline: refused",
    "contributeAndFinalize: deadline + 1: refused",
    "reveal: deadline - 1: ok",
    "reveal: deadline: refused",
    "reveal: deadline + 1: refused",
    "reopen: reveal deadline - 1: refused",
    "reopen: reveal deadline: ok",
    "reopen: reveal deadline + 1: ok",
    "finalize: reveal deadline - 1: refused",
    "finalize: reveal deadline: ok",
    "finalize: reveal deadline + 1: ok",
    "finalize: final deadline - 1: ok",
    "finalize: final deadline: refused",
    "finalize: final deadline + 1: refused",
    "reopen: final deadline - 1: ok",
    "reopen: final deadline: refused",
    "reopen: final deadline + 1: refused",
    "claim: final deadline - 1: refused",
    "claim: final deadline: ok",
    "claim: final deadline + 1: ok",
];

/// Rules of the protocol crate that must have been asked.
pub const RULES: &[&str] =
    &["match", "no match", "contribute", "contributeAndFinalize", "reveal", "reopen", "finalize", "claim"];

/// Every signature that may occur, for naming calls.
pub fn functions() -> impl Iterator<Item = &'static str> {
    let lists = [HUB, HUB_REFUSED, ONE_SIDED, REGISTRY, REGISTRY_REFUSED, ASSET, RLC];
    lists.into_iter().flatten().copied()
}

const RLC: &[&str] = &["transfer(address,uint256)", "approve(address,uint256)", "kept(bytes32)"];

/// Functions that must have succeeded, and of whom.
pub fn successes() -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |whom: &'static str, list: &'static [&'static str]| list.iter().map(move |s| (whom, *s));
    of("hub", HUB).chain(of("registry", REGISTRY)).chain(of("asset", ASSET))
}

/// Functions that must have been refused because nothing else is possible.
pub fn never_succeed(side: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
    let of = |whom: &'static str, list: &'static [&'static str]| list.iter().map(move |s| (whom, *s));
    let renounce: &[&str] = if side == 0 { &["renounceOwnership()"] } else { &[] };
    of("hub", HUB_REFUSED).chain(of("hub", renounce)).chain(of("registry", REGISTRY_REFUSED))
}

/// Refusals that this side must have made.
pub fn reasons(side: usize) -> Vec<String> {
    let mut reasons: Vec<String> = MATCH_CODES.iter().map(|c| format!("iExecV5-matchOrders-0x{c}")).collect();
    reasons.extend(REASONS.iter().map(|r| (*r).to_owned()));
    reasons.extend(BARE.iter().map(|r| format!("{} {r}", crate::coverage::BARE)));
    let own: &[&str] = if side == 0 { PUBLISHED } else { OURS };
    reasons.extend(own.iter().map(|r| (*r).to_owned()));
    reasons
}

/// Refusals that only the published contracts make.
const PUBLISHED: &[&str] = &[
    "IexecEscrow: Transfer from empty address",
    "failled-transferFrom",
    "panic 0x01",
    "ERC721: owner query for nonexistent token",
    "ERC721: balance query for the zero address",
    "ERC721: approved query for nonexistent token",
    "ERC721: transfer caller is not owner nor approved",
    "ERC721: transfer to the zero address",
    "ERC721: transfer of token that is not own",
    "ERC721: transfer to non ERC721Receiver implementer",
    "ERC721: approve caller is not owner nor approved for all",
    "ERC721: mint to the zero address",
    "ERC721Metadata: URI query for nonexistent token",
    "ERC721: operator query for nonexistent token",
    "EnumerableSet: index out of bounds",
    "EnumerableMap: index out of bounds",
    "Ownable: new owner is the zero address",
];

/// Refusals that only ours make.
const OURS: &[&str] = &[
    "panic 0x32",
    "failed-transferFrom",
    "OperationFailed()",
    "TooManyContributors(uint256)",
    "CallbackNeedsMoreGas(uint256,uint256)",
    "DoesNotFit(string,uint256)",
    "UnsupportedOperation(bytes4)",
    "CallerIsNotTheRequester()",
    "MetadataTooLong(uint256,uint256)",
    "StakeRatioTooHigh(uint256,uint256)",
    "ERC721NonexistentToken(uint256)",
    "ERC721InvalidOwner(address)",
    "ERC721InsufficientApproval(address,uint256)",
    "ERC721InvalidReceiver(address)",
    "ERC721IncorrectOwner(address,uint256,address)",
    "ERC721InvalidApprover(address)",
    "ERC721OutOfBoundsIndex(address,uint256)",
    "OwnableInvalidOwner(address)",
];
