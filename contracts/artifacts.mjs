// Writes one small JSON per contract from forge's output: node artifacts.mjs OUT TARGET
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// Deployed contracts with their code, and interfaces for clients.
const NAMES = {
  "RLC.sol": ["RLC"],
  "AppRegistry.sol": ["AppRegistry"],
  "DatasetRegistry.sol": ["DatasetRegistry"],
  "WorkerpoolRegistry.sol": ["WorkerpoolRegistry"],
  "HubViews.sol": ["HubViews"],
  "HubExtension.sol": ["HubExtension"],
  "HubCore.sol": ["HubCore"],
  "HubProxy.sol": ["HubProxy"],
  "IHub.sol": ["IHub"],
  "IAssets.sol": ["IApp", "IDataset", "IWorkerpool"],
};

const [out, target] = process.argv.slice(2);
mkdirSync(target, { recursive: true });
for (const old of readdirSync(target)) rmSync(join(target, old));
for (const [file, contracts] of Object.entries(NAMES)) {
  for (const name of contracts) {
    const built = JSON.parse(readFileSync(join(out, file, `${name}.json`), "utf8"));
    const lines = [
      `{"contractName": ${JSON.stringify(name)},`,
      `"abi": [`,
      built.abi.map((entry) => JSON.stringify(plain(entry))).join(",\n"),
      `],`,
      `"bytecode": ${JSON.stringify(built.bytecode.object)},`,
      `"deployedBytecode": ${JSON.stringify(built.deployedBytecode.object)}}`,
    ];
    writeFileSync(join(target, `${name}.json`), lines.join("\n") + "\n");
  }
}

// `internalType` is the compiler's business, not the client's.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== "internalType")
      .map(([key, inner]) => [key, plain(inner)]),
  );
}
