// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Test} from "./base/Test.sol";
import {Hashing} from "./base/Hashing.sol";
import {OrderHash} from "../src/libraries/OrderHash.sol";
import {Signatures} from "../src/libraries/Signatures.sol";
import {
    AppOrder, DatasetOrder, WorkerpoolOrder, RequestOrder, OrderOperation
} from "../src/types/Orders.sol";

/// The libraries behind external calls, at the address of the published vectors.
contract Hashes {
    function separator() external view returns (bytes32) {
        return OrderHash.domainSeparator();
    }

    function typed(bytes32 structHash) public view returns (bytes32) {
        return OrderHash.typed(OrderHash.domainSeparator(), structHash);
    }

    function app(AppOrder calldata o) external pure returns (bytes32) {
        return OrderHash.hashApp(o);
    }

    function dataset(DatasetOrder calldata o) external pure returns (bytes32) {
        return OrderHash.hashDataset(o);
    }

    function workerpool(WorkerpoolOrder calldata o) external pure returns (bytes32) {
        return OrderHash.hashWorkerpool(o);
    }

    function request(RequestOrder calldata o) external pure returns (bytes32) {
        return OrderHash.hashRequest(o);
    }

    function check(address account, bytes32 hash, bytes calldata sign) external view returns (bool) {
        return Signatures.check(account, hash, sign);
    }
}

/// The published hashes and signatures.
contract VectorsTest is Test {
    address internal constant HUB = 0x000000000000000000000000000000000000ABcD;
    address internal constant ACCOUNT_0 = 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266;

    Hashes internal hashes = Hashes(HUB);
    Hashing internal twin = new Hashing();
    AppOrder internal app;
    DatasetOrder internal dataset;
    WorkerpoolOrder internal pool;
    RequestOrder internal request;

    function setUp() public {
        vm.chainId(31337);
        vm.etch(HUB, address(new Hashes()).code);
        app.app = address(1);
        (app.appprice, app.volume, app.tag) = (3, 1000, bytes32(uint256(1)));
        (app.workerpoolrestrict, app.salt) = (address(2), bytes32(uint256(0x11)));
        dataset.dataset = address(4);
        (dataset.datasetprice, dataset.volume, dataset.tag) = (5, 1000, bytes32(uint256(3)));
        dataset.salt = bytes32(uint256(0x12));
        pool.workerpool = address(2);
        (pool.workerpoolprice, pool.volume, pool.tag) = (25, 1000, bytes32(uint256(9)));
        (pool.category, pool.trust, pool.salt) = (4, 5, bytes32(uint256(0x13)));
        (request.app, request.appmaxprice, request.dataset, request.datasetmaxprice) = (address(1), 3, address(4), 5);
        (request.workerpool, request.workerpoolmaxprice, request.requester) = (address(2), 25, ACCOUNT_0);
        (request.volume, request.tag, request.category, request.trust) = (2, bytes32(uint256(1)), 4, 5);
        (request.beneficiary, request.params, request.salt) = (address(6), "<parameters>", bytes32(uint256(0x14)));
    }

    function test_domain_separator() public view {
        bytes32 want = 0x62c8b7fb38409275b4dd40455a38f3949fe5689242ca814b712fafa55a6854f0;
        eq(hashes.separator(), want, "separator");
        eq(twin.domain(HUB), want, "twin");
    }

    function test_order_hashes() public view {
        bytes32[2][4] memory got = [
            [hashes.app(app), twin.app(app)],
            [hashes.dataset(dataset), twin.dataset(dataset)],
            [hashes.workerpool(pool), twin.workerpool(pool)],
            [hashes.request(request), twin.request(request)]
        ];
        bytes32[2][4] memory want = [
            [
                bytes32(0x470fbd7a6ca6fce6b09b197b39bab249c7fed99d05c4eab47de48175a22a53bd),
                0xbdc7a1a1cfbd0efd13e383a4cff3960c094213ca99b607fd29e2c3e6f5fd068a
            ],
            [
                bytes32(0x18696cdf954d60276ffe9344c52bd061fb9186ecaf65ecb66df732ebb18ed586),
                0x6df4090ef33e21127591cb02a5dfabbe537aca21158da6e398227ecb728df8e6
            ],
            [
                bytes32(0x27384c19cbcd41676d092eae2346ff347f58364baec44d86e502710219f84937),
                0x74dc1dd431cb1452a0de68b37dcac88607a27edd6fe6b314a6df182d55e46830
            ],
            [
                bytes32(0xe173e9411b1c498a9dabc37f76960ecb4eefed6871240e1b33a7c66c763a4fbd),
                0x3dfc03d2769c78b3bc8eee436ce0ff4f3050a60e3de48e7355361d3017f9358b
            ]
        ];
        for (uint256 i = 0; i < 4; ++i) {
            eq(got[i][0], want[i][0], "struct hash");
            eq(got[i][1], want[i][0], "twin");
            eq(hashes.typed(got[i][0]), want[i][1], "order hash");
            eq(twin.typed(HUB, got[i][0]), want[i][1], "twin typed");
        }
    }

    function test_operation_hash() public view {
        bytes32 operation =
            OrderHash.hashOperation(OrderHash.APP_OPERATION_TYPEHASH, hashes.app(app), OrderOperation.CLOSE);
        eq(
            hashes.typed(operation),
            0xe27a793ed6725f926f6a0f90716ccc028d53e507f10953a60572e47b64beddce,
            "close of the app order"
        );
        bytes32[4] memory got = [
            OrderHash.APP_OPERATION_TYPEHASH,
            OrderHash.DATASET_OPERATION_TYPEHASH,
            OrderHash.WORKERPOOL_OPERATION_TYPEHASH,
            OrderHash.REQUEST_OPERATION_TYPEHASH
        ];
        bytes32[4] memory want = [
            bytes32(0x0638bb0702457e2b4b01be8a202579b8bf97e587fb4f2cc4d4aad01f21a06ee0),
            0x075eb6f7578ff4292c241bd2484cd5c1d5e6ecc2ddd3317e1d8176b5a45865ec,
            0x322d980b7d7a6a1f7c39ff0c5445da6ae1d8e0393ff0dd468c8be3e2c8644388,
            0x0ded7b52c2d77595a40d242eca751df172b18e686326dbbed3f4748828af77c7
        ];
        for (uint256 i = 0; i < 4; ++i) {
            eq(got[i], want[i], "operation type hash");
        }
    }

    function test_ids() public pure {
        bytes32 order = 0x3dfc03d2769c78b3bc8eee436ce0ff4f3050a60e3de48e7355361d3017f9358b;
        bytes32 deal = keccak256(abi.encodePacked(order, uint256(0)));
        eq(deal, 0xd91ea3b7b685e0a6970e61b308a4f3afa21ac1745b926db4e71501d1a725ff67, "deal 0");
        eq(
            keccak256(abi.encodePacked(order, uint256(2))),
            0xd3e07218a164ffff2a57d4ddd556b0ada522b728f9afca809f208b4c878129db,
            "deal 2"
        );
        bytes32 task = keccak256(abi.encodePacked(deal, uint256(1)));
        eq(task, 0x607a939f38601f02943dbb89010cbefd76f6ad0ba98c69bda057ed9b5b3c0a5d, "task");
        bytes32 digest = keccak256("result");
        eq(
            keccak256(abi.encodePacked(task, digest)),
            0xfae2bbfe856677d3d561bc047f5ae42b2f3e55ef3ce0b88fc30c654b5b72c474,
            "result hash"
        );
        eq(
            keccak256(abi.encodePacked(address(7), task, digest)),
            0x7d3bd284dc675b06fca06888d1598a3ea28df20a3de524cab324aa85678168e2,
            "seal"
        );
    }

    function test_signatures() public view {
        bytes32 task = 0x607a939f38601f02943dbb89010cbefd76f6ad0ba98c69bda057ed9b5b3c0a5d;
        bytes32 message = keccak256(abi.encodePacked(address(7), task, address(0)));
        eq(message, 0xc73bcd18ad7ac9983235243ff869f1469d3050935ad2e7fe31c56d1a464e8c76, "message");
        bytes32 digest = Signatures.personal(message);
        eq(digest, 0xf29707ca9687b085d69ffa9b8ff6fbc52398ca116c0534bf61c44d01c05caeb3, "digest");
        check(
            hashes.check(
                ACCOUNT_0,
                digest,
                hex"e77c009dae15299172b75de1bbc3f04771d45b7ced2667b024a2c2fcd181c89e222ef383096d5bde8383e5174e11ccedba7a1545774809bbac280d32c42c27851c"
            ),
            "authorization"
        );
        check(
            hashes.check(
                ACCOUNT_0,
                0x3dfc03d2769c78b3bc8eee436ce0ff4f3050a60e3de48e7355361d3017f9358b,
                hex"c805a98ea1d0dba47b3aee3ef492c1908e6441df856307f216236cd3a8342ee116e9e13ae67386a2f933ece11177aad1fe9ec6b6fc74f371bd6b8e213339126f1c"
            ),
            "request order"
        );
    }
}
