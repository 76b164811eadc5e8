// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder} from "../../src/types/Orders.sol";

/// Order hashes by EIP-712, written a second time and checked against the published vectors: the twin of libraries/OrderHash.sol.
contract Hashing {
    function domain(address hub) public view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("iExecODB"),
                keccak256("5.0.0"),
                block.chainid,
                hub
            )
        );
    }

    function typed(address hub, bytes32 structHash) public view returns (bytes32) {
        return keccak256(abi.encodePacked(bytes2(0x1901), domain(hub), structHash));
    }

    function app(AppOrder memory o) public pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                bytes32(0x60815a0eeec47dddf1615fe53b31d016c31444e01b9d796db365443a6445d008),
                abi.encode(o.app, o.appprice, o.volume, o.tag),
                abi.encode(o.datasetrestrict, o.workerpoolrestrict, o.requesterrestrict, o.salt)
            )
        );
    }

    function dataset(DatasetOrder memory o) public pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                bytes32(0x6cfc932a5a3d22c4359295b9f433edff52b60703fa47690a04a83e40933dd47c),
                abi.encode(o.dataset, o.datasetprice, o.volume, o.tag),
                abi.encode(o.apprestrict, o.workerpoolrestrict, o.requesterrestrict, o.salt)
            )
        );
    }

    function workerpool(WorkerpoolOrder memory o) public pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                bytes32(0xaa3429fb281b34691803133d3d978a75bb77c617ed6bc9aa162b9b30920022bb),
                abi.encode(o.workerpool, o.workerpoolprice, o.volume, o.tag, o.category, o.trust),
                abi.encode(o.apprestrict, o.datasetrestrict, o.requesterrestrict, o.salt)
            )
        );
    }

    function request(RequestOrder memory o) public pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                bytes32(0xf24e853034a3a450aba845a82914fbb564ad85accca6cf62be112a154520fae0),
                abi.encode(o.app, o.appmaxprice, o.dataset, o.datasetmaxprice, o.workerpool, o.workerpoolmaxprice),
                abi.encode(o.requester, o.volume, o.tag, o.category, o.trust, o.beneficiary, o.callback),
                abi.encode(keccak256(bytes(o.params)), o.salt)
            )
        );
    }
}
