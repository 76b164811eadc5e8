// Checks that every function of the interfaces has an example and a fuzz test, and that docs/reference/contracts.md names every
// function, event and error: node covered.mjs [table]
// A test counts for a function when it, or a helper that it calls, names it on a contract that has it. `table` prints who tests what.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

// What is asked of whom: the ABIs, and the names under which the tests know a contract that has them.
const GROUPS = [
  ["hub", ["IHub"], "hub|fresh|IWork|IMatching|IEscrow|IApprovalReceiver|IStakedToken|IOrderBook|IOffice|IViews|ILegacyViews"],
  [
    "registry",
    ["AppRegistry", "DatasetRegistry", "WorkerpoolRegistry"],
    "apps|datasets|pools|registry|registries\\(\\)\\[i\\]|freshApps|IRegistry|IAppRegistry|IDatasetRegistry|IWorkerpoolRegistry",
  ],
  ["asset", ["IApp", "IDataset", "IWorkerpool"], "w|IAsset(?:\\([\\w[\\]]+\\))?|IApp(?:\\(\\w+\\))?|IDataset(?:\\(\\w+\\))?|I?Workerpool(?:\\(\\w+\\))?"],
  ["rlc", ["RLC"], "rlc|RLC"],
];

const files = ["test/base/Market.sol", "test/base/Deployed.sol"].concat(
  readdirSync(join(here, "test"))
    .filter((f) => f.endsWith(".t.sol") && f !== "Gas.t.sol")
    .map((f) => `test/${f}`),
);
const parsed = files.map((file) => ({ file, functions: functionsOf(readFileSync(join(here, file), "utf8")) }));
const base = parsed.filter(({ file }) => file.includes("/base/")).flatMap(({ functions }) => functions);
const tests = parsed
  .filter(({ file }) => !file.includes("/base/"))
  .flatMap(({ file, functions }) => {
    const known = new Map([...base, ...functions].map((f) => [f.name, f]));
    return functions.filter((f) => /^test/.test(f.name)).map((f) => ({ file, name: f.name, text: textOf(f, known) }));
  });

const missing = [];
let count = 0;
const page = readFileSync(join(here, "..", "docs", "reference", "contracts.md"), "utf8");
for (const [whom, contracts, names] of GROUPS) {
  for (const name of abiOf(contracts, ["function", "event", "error"])) {
    if (!new RegExp(`(?<!\\w)${name}(?!\\w)`).test(page)) missing.push(`${whom} ${name}: not in docs/reference/contracts.md`);
  }
  for (const name of abiOf(contracts, ["function"])) {
    count += 1;
    const named = new RegExp(`(?<!\\w)(?:${names})\\.${name}\\b|"${name}\\(`);
    const of = tests.filter((t) => named.test(t.text));
    const examples = of.filter((t) => t.name.startsWith("test_"));
    const fuzz = of.filter((t) => t.name.startsWith("testFuzz_"));
    if (!examples.length) missing.push(`${whom} ${name}: no example`);
    if (!fuzz.length) missing.push(`${whom} ${name}: no fuzz test`);
    if (process.argv[2] === "table") console.log([whom, name, examples[0]?.name ?? "-", fuzz[0]?.name ?? "-"].join("\t"));
  }
}
for (const line of missing) console.error(line);
console.log(`${count} functions, ${missing.length} gaps`);
process.exit(missing.length ? 1 : 0);

function abiOf(contracts, kinds) {
  const names = contracts.flatMap((c) =>
    JSON.parse(readFileSync(join(here, "artifacts", `${c}.json`), "utf8"))
      .abi.filter((e) => kinds.includes(e.type))
      .map((e) => e.name),
  );
  return [...new Set(names)].sort();
}

// Functions with their bodies, found by their braces; the tests have none in strings.
function functionsOf(source) {
  const functions = [];
  for (const match of source.matchAll(/function\s+(\w+)\s*\(/g)) {
    const open = source.indexOf("{", match.index);
    let depth = 0;
    let at = open;
    do {
      if (source[at] === "{") depth += 1;
      if (source[at] === "}") depth -= 1;
      at += 1;
    } while (depth > 0 && at < source.length);
    functions.push({ name: match[1], body: source.slice(open, at) });
  }
  return functions;
}

function textOf(test, known) {
  const seen = new Set([test.name]);
  const queue = [test];
  let text = "";
  while (queue.length) {
    const { body } = queue.pop();
    text += body;
    for (const [, name] of body.matchAll(/(?<![\w.])(\w+)\s*\(/g)) {
      if (known.has(name) && !seen.has(name)) {
        seen.add(name);
        queue.push(known.get(name));
      }
    }
  }
  return text;
}
