// Table of gas costs beside the published ones: node gas.mjs (check|write)
// Reads snapshots/gas.json, which forge measured; checks the limits and that docs/reference/gas.md shows these numbers.
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const page = join(here, "..", "docs", "reference", "gas.md");
const gas = Object.fromEntries(
  Object.entries(JSON.parse(readFileSync(join(here, "snapshots", "gas.json"), "utf8"))).map(([k, v]) => [k, Number(v)]),
);

// [what, measured, published (npm 6.1.0), limit]
const further = Math.round((gas["10 workers, dataset total"] - gas["3 workers, dataset total"]) / 7);
const one = (step) => gas[`1 worker, dataset ${step}`];
const ROWS = [
  ["**1 worker, dataset, match to finalize**", one("total"), 1843873, 1050000],
  ["matchOrders", one("matchOrders"), 839939],
  ["initialize", one("initialize"), 222340],
  ["contribute, reaching consensus", one("contribute 1"), 390333],
  ["reveal", one("reveal 1"), 93455],
  ["finalize", one("finalize"), 297806],
  ["1 worker, no dataset, match to finalize", gas["1 worker, no dataset total"], 1708344],
  ["**3 workers, dataset, match to finalize**", gas["3 workers, dataset total"], 2606661, 1500000],
  ["finalize, 3 workers", gas["3 workers, dataset finalize"], 377046],
  ["10 workers, dataset, match to finalize", gas["10 workers, dataset total"], 5280888],
  ["**each further worker** (3 to 10 workers, average)", further, 373000, 200000],
  ["**match + initialize + contributeAndFinalize**", gas["contributeAndFinalize total"], 1575941, 900000],
  ["contributeAndFinalize", gas["contributeAndFinalize contributeAndFinalize"], 513650],
  ["callback to a storing client, match to finalize", gas["callback to a storing client total"], 1958488],
  ["sponsorMatchOrders", gas.sponsorMatchOrders, 807045],
  ["bag of 10: matchOrders", gas["bag of 10: matchOrders"], 839939],
  ["bag of 10: initializeArray", gas["bag of 10: initializeArray"], 1733434],
  ["claim, first ever", gas["claim, first ever"], 146911],
  ["claim, next", gas["claim, next"], 129823],
  ["claim with 1 contributor", gas["claim, 1 contributor"], 150191],
  ["claimArray of 3", gas["claimArray of 3"], 201093],
  ["reopen, 1 rejected", gas["reopen, 1 rejected"], 67705],
  ["finalize, 1 proved and 1 rejected", gas["finalize, 1 proved and 1 rejected"], 295419],
  ["**createApp**", gas.createApp, 581562, 250000],
  ["createDataset", gas.createDataset, 552703],
  ["createWorkerpool", gas.createWorkerpool, 549395],
  ["**deposit by approveAndCall, first ever**", gas["deposit by approveAndCall, first ever"], 111685, 95000],
  ["deposit by approveAndCall, again", gas["deposit by approveAndCall, again"], 68030],
  ["approve + deposit", gas.approve + gas.deposit, 46073 + 70673],
  ["withdraw", gas.withdraw, 74785],
  ["manageAppOrder SIGN", gas["manageAppOrder SIGN"], 85221],
  ["manageRequestOrder SIGN", gas["manageRequestOrder SIGN"], 72406],
  ["manageAppOrder CLOSE", gas["manageAppOrder CLOSE"], 87031],
  ["createCategory", gas.createCategory, 112638],
];

const text = `# Gas

What each transaction costs (\`gasUsed\`, with everything a transaction pays for), beside the published contracts (npm \`@iexec/poco\`
6.1.0). Written by \`contracts/check gas-update\`; \`contracts/check gas\` fails when a number here is no longer true or a limit is passed.

Scenario: prices 1 (app), 2 (dataset), 10 RLC (pool); stake 30 %, pool share 1 %; signatures of 65 bytes; params of 12 characters; a
result of 84 bytes; steady state: all accounts have money, nothing is locked. Orders are new. Creations: the lengths of the names,
addresses and checksums are ours, those of the published measurement are not known beyond its calldata.

| call | gas | published | of it | limit |
|---|---:|---:|---:|---:|
${ROWS.map(([what, used, published, limit]) => `| ${what} | ${number(used)} | ${number(published)} | ${Math.round((100 * used) / published)} % | ${limit ? number(limit) : ""} |`).join("\n")}

Where it is saved is told in [the contracts' design](../design/contracts.md).
`;

for (const [what, used, , limit] of ROWS) {
  if (!(used > 0)) stop(`no measurement of ${what}`);
  if (limit && used > limit) stop(`${what}: ${used} gas, limit ${limit}`);
}
if (process.argv[2] === "write") writeFileSync(page, text);
else if (readFileSync(page, "utf8") !== text) stop("docs/reference/gas.md does not show these numbers: run contracts/check gas-update");

function number(n) {
  return String(n).replace(/\B(?=(\d{3})+$)/g, " ");
}

function stop(message) {
  console.error(message);
  process.exit(1);
}
