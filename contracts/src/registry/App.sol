// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Asset} from "./Asset.sol";
import {IApp} from "../interfaces/IAssets.sol";
import {Clone} from "../libraries/Clone.sol";

/// @title An app
/// @notice Fields: name, type, multiaddr, checksum, mrenclave.
contract App is IApp, Asset {
    function m_appName() external view returns (string memory) {
        return string(Clone.field(0));
    }

    function m_appType() external view returns (string memory) {
        return string(Clone.field(1));
    }

    function m_appMultiaddr() external view returns (bytes memory) {
        return Clone.field(2);
    }

    function m_appChecksum() external view returns (bytes32) {
        return bytes32(Clone.field(3));
    }

    function m_appMREnclave() external view returns (bytes memory) {
        return Clone.field(4);
    }
}
