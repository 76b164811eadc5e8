// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Asset} from "./Asset.sol";
import {IDataset} from "../interfaces/IAssets.sol";
import {Clone} from "../libraries/Clone.sol";

/// @title A dataset
/// @notice Fields: name, multiaddr, checksum.
contract Dataset is IDataset, Asset {
    function m_datasetName() external view returns (string memory) {
        return string(Clone.field(0));
    }

    function m_datasetMultiaddr() external view returns (bytes memory) {
        return Clone.field(1);
    }

    function m_datasetChecksum() external view returns (bytes32) {
        return bytes32(Clone.field(2));
    }
}
