// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Test} from "./Test.sol";
import {IHub} from "../../src/interfaces/IHub.sol";
import {PenaltyRule} from "../../src/types/Views.sol";
import {RLC} from "../../src/token/RLC.sol";
import {HubCore} from "../../src/hub/HubCore.sol";
import {HubExtension} from "../../src/hub/HubExtension.sol";
import {HubViews} from "../../src/hub/HubViews.sol";
import {HubProxy} from "../../src/hub/HubProxy.sol";
import {AppRegistry} from "../../src/registry/AppRegistry.sol";
import {DatasetRegistry} from "../../src/registry/DatasetRegistry.sol";
import {WorkerpoolRegistry} from "../../src/registry/WorkerpoolRegistry.sol";

/// Everything deployed as contracts/README.md says. The test contract is deployer and owner.
abstract contract Deployed is Test {
    uint256 internal constant T = 1200;
    uint256 internal constant CATEGORY = 1;

    RLC internal rlc;
    IHub internal hub;
    AppRegistry internal apps;
    DatasetRegistry internal datasets;
    WorkerpoolRegistry internal pools;

    function setUp() public virtual {
        vm.warp(1_700_000_000);
        deploy(PenaltyRule.FIXED_50, 0);
    }

    function deploy(PenaltyRule rule, uint256 delay) internal {
        rlc = new RLC();
        apps = new AppRegistry(address(this));
        datasets = new DatasetRegistry(address(this));
        pools = new WorkerpoolRegistry(address(this));
        HubExtension extension = new HubExtension(delay, address(new HubViews()));
        HubCore core = new HubCore(rule, address(extension));
        hub = IHub(address(new HubProxy(address(core), address(this))));
        apps.initialize(address(0));
        datasets.initialize(address(0));
        pools.initialize(address(0));
        hub.configure(
            address(rlc), "Staked RLC", "SRLC", 9, address(apps), address(datasets), address(pools), address(0)
        );
        hub.createCategory("XS", "", 300);
        hub.createCategory("S", "", T);
        hub.createCategory("M", "", 3600);
        hub.createCategory("L", "", 10800);
        hub.createCategory("XL", "", 36000);
    }

    function fund(address account, uint256 amount) internal {
        rlc.approve(address(hub), amount);
        hub.depositFor(amount, account);
    }
}
