// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Registry} from "./Registry.sol";
import {Dataset} from "./Dataset.sol";
import {IDatasetRegistry} from "../interfaces/IRegistry.sol";

/// @title The registry of datasets
contract DatasetRegistry is IDatasetRegistry, Registry {
    constructor(address owner_)
        Registry(owner_, address(new Dataset()), "iExec Dataset Registry (V5)", "iExecDatasetsV5")
    {}

    /// @inheritdoc IDatasetRegistry
    function createDataset(
        address datasetOwner,
        string calldata datasetName,
        bytes calldata datasetMultiaddr,
        bytes32 datasetChecksum
    ) external returns (address) {
        return _create(datasetOwner, _metadata(datasetName, datasetMultiaddr, datasetChecksum));
    }

    /// @inheritdoc IDatasetRegistry
    function predictDataset(
        address datasetOwner,
        string calldata datasetName,
        bytes calldata datasetMultiaddr,
        bytes32 datasetChecksum
    ) external view returns (address) {
        return _predict(datasetOwner, _metadata(datasetName, datasetMultiaddr, datasetChecksum));
    }

    function _metadata(string calldata datasetName, bytes calldata datasetMultiaddr, bytes32 datasetChecksum)
        private
        pure
        returns (bytes[] memory fields)
    {
        fields = new bytes[](3);
        fields[0] = bytes(datasetName);
        fields[1] = datasetMultiaddr;
        fields[2] = bytes.concat(datasetChecksum);
    }
}
