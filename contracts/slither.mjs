// Compares slither's findings with the answers: node slither.mjs REPORT.json slither-answers.txt
// Fails on a finding without an answer and on an answer without a finding.
import { readFileSync } from "node:fs";

const [report, answersPath] = process.argv.slice(2);
const parsed = JSON.parse(readFileSync(report, "utf8"));
if (!parsed.success) throw new Error(`slither failed: ${parsed.error}`);
const found = new Set((parsed.results.detectors ?? []).map(key));
const answered = new Set(
  readFileSync(answersPath, "utf8")
    .split("\n")
    .filter((line) => line && !line.startsWith("#") && !line.startsWith(" ")),
);
const open = [...found].filter((k) => !answered.has(k)).sort();
const stale = [...answered].filter((k) => !found.has(k)).sort();
for (const k of open) console.error(`no answer: ${k}`);
for (const k of stale) console.error(`answered, but no longer found: ${k}`);
console.log(`${found.size} findings, ${found.size - open.length} answered`);
process.exit(open.length + stale.length ? 1 : 0);

// What was found and where, without line numbers: "detector Contract.function".
function key({ check, elements }) {
  const element = elements[0];
  const parent = element.type_specific_fields?.parent;
  const outer = parent?.type === "function" ? parent.type_specific_fields?.parent : undefined;
  return [check, [outer?.name, parent?.type === "file" ? undefined : parent?.name, element.name].filter(Boolean).join(".")].join(" ");
}
