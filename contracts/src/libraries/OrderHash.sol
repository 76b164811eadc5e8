// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder, OrderOperation} from "../types/Orders.sol";

/// @title EIP-712 hashes of orders
/// @notice An *order hash* is always the typed-data hash, domain included; the `sign` field is never part of it.
library OrderHash {
    string internal constant DOMAIN_NAME = "iExecODB";
    string internal constant DOMAIN_VERSION = "5.0.0";

    bytes private constant APP =
        "AppOrder(address app,uint256 appprice,uint256 volume,bytes32 tag,address datasetrestrict,address workerpoolrestrict,address requesterrestrict,bytes32 salt)";
    bytes private constant DATASET =
        "DatasetOrder(address dataset,uint256 datasetprice,uint256 volume,bytes32 tag,address apprestrict,address workerpoolrestrict,address requesterrestrict,bytes32 salt)";
    bytes private constant WORKERPOOL =
        "WorkerpoolOrder(address workerpool,uint256 workerpoolprice,uint256 volume,bytes32 tag,uint256 category,uint256 trust,address apprestrict,address datasetrestrict,address requesterrestrict,bytes32 salt)";
    bytes private constant REQUEST =
        "RequestOrder(address app,uint256 appmaxprice,address dataset,uint256 datasetmaxprice,address workerpool,uint256 workerpoolmaxprice,address requester,uint256 volume,bytes32 tag,uint256 category,uint256 trust,address beneficiary,address callback,string params,bytes32 salt)";

    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 internal constant APP_TYPEHASH = keccak256(APP);
    bytes32 internal constant DATASET_TYPEHASH = keccak256(DATASET);
    bytes32 internal constant WORKERPOOL_TYPEHASH = keccak256(WORKERPOOL);
    bytes32 internal constant REQUEST_TYPEHASH = keccak256(REQUEST);
    bytes32 internal constant APP_OPERATION_TYPEHASH =
        keccak256(bytes.concat("AppOrderOperation(AppOrder order,uint256 operation)", APP));
    bytes32 internal constant DATASET_OPERATION_TYPEHASH =
        keccak256(bytes.concat("DatasetOrderOperation(DatasetOrder order,uint256 operation)", DATASET));
    bytes32 internal constant WORKERPOOL_OPERATION_TYPEHASH =
        keccak256(bytes.concat("WorkerpoolOrderOperation(WorkerpoolOrder order,uint256 operation)", WORKERPOOL));
    bytes32 internal constant REQUEST_OPERATION_TYPEHASH =
        keccak256(bytes.concat("RequestOrderOperation(RequestOrder order,uint256 operation)", REQUEST));

    /// The separator for this contract on this chain, computed live so that it follows a chain split.
    function domainSeparator() internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                DOMAIN_TYPEHASH,
                keccak256(bytes(DOMAIN_NAME)),
                keccak256(bytes(DOMAIN_VERSION)),
                block.chainid,
                address(this)
            )
        );
    }

    function typed(bytes32 separator, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    function hashApp(AppOrder calldata o) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                APP_TYPEHASH,
                o.app,
                o.appprice,
                o.volume,
                o.tag,
                o.datasetrestrict,
                o.workerpoolrestrict,
                o.requesterrestrict,
                o.salt
            )
        );
    }

    function hashDataset(DatasetOrder calldata o) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                DATASET_TYPEHASH,
                o.dataset,
                o.datasetprice,
                o.volume,
                o.tag,
                o.apprestrict,
                o.workerpoolrestrict,
                o.requesterrestrict,
                o.salt
            )
        );
    }

    function hashWorkerpool(WorkerpoolOrder calldata o) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                WORKERPOOL_TYPEHASH,
                o.workerpool,
                o.workerpoolprice,
                o.volume,
                o.tag,
                o.category,
                o.trust,
                o.apprestrict,
                o.datasetrestrict,
                o.requesterrestrict,
                o.salt
            )
        );
    }

    function hashRequest(RequestOrder calldata o) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                REQUEST_TYPEHASH,
                o.app,
                o.appmaxprice,
                o.dataset,
                o.datasetmaxprice,
                o.workerpool,
                o.workerpoolmaxprice,
                o.requester,
                o.volume,
                o.tag,
                o.category,
                o.trust,
                o.beneficiary,
                o.callback,
                keccak256(bytes(o.params)),
                o.salt
            )
        );
    }

    /// Struct hash of an operation on the order with struct hash `orderStructHash`.
    function hashOperation(bytes32 typehash, bytes32 orderStructHash, OrderOperation operation)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(typehash, orderStructHash, uint256(operation)));
    }
}
