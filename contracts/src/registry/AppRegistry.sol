// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Registry} from "./Registry.sol";
import {App} from "./App.sol";
import {IAppRegistry} from "../interfaces/IRegistry.sol";

/// @title The registry of apps
contract AppRegistry is IAppRegistry, Registry {
    constructor(address owner_)
        Registry(owner_, address(new App()), "iExec Application Registry (V5)", "iExecAppsV5")
    {}

    /// @inheritdoc IAppRegistry
    function createApp(
        address appOwner,
        string calldata appName,
        string calldata appType,
        bytes calldata appMultiaddr,
        bytes32 appChecksum,
        bytes calldata appMREnclave
    ) external returns (address) {
        return _create(appOwner, _metadata(appName, appType, appMultiaddr, appChecksum, appMREnclave));
    }

    /// @inheritdoc IAppRegistry
    function predictApp(
        address appOwner,
        string calldata appName,
        string calldata appType,
        bytes calldata appMultiaddr,
        bytes32 appChecksum,
        bytes calldata appMREnclave
    ) external view returns (address) {
        return _predict(appOwner, _metadata(appName, appType, appMultiaddr, appChecksum, appMREnclave));
    }

    function _metadata(
        string calldata appName,
        string calldata appType,
        bytes calldata appMultiaddr,
        bytes32 appChecksum,
        bytes calldata appMREnclave
    ) private pure returns (bytes[] memory fields) {
        fields = new bytes[](5);
        fields[0] = bytes(appName);
        fields[1] = bytes(appType);
        fields[2] = appMultiaddr;
        fields[3] = bytes.concat(appChecksum);
        fields[4] = appMREnclave;
    }
}
