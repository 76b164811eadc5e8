// Plants each defect of list.txt in a copy of the contracts and runs the tests there: node run.mjs FORGE [WORD]
// Fails when a defect survives, does not compile, or cannot be planted. WORD selects the defects whose text contains it.
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const [forge, word = ""] = process.argv.slice(2);
const mutants = parse(readFileSync(join(here, "list.txt"), "utf8")).filter((m) => m.what.includes(word));
const work = mkdtempSync(join(tmpdir(), "mutants-"));
let failures = 0;
try {
  for (const name of ["src", "test", "foundry.toml"]) cpSync(join(here, "..", name), join(work, name), { recursive: true });
  if (run("test", "--no-match-path", "test/Gas.t.sol") !== 0) fail("the tests fail without any defect");
  for (const mutant of mutants) check(mutant);
} finally {
  rmSync(work, { recursive: true, force: true });
}
console.log(`${mutants.length} planted defects, ${mutants.length - failures} caught`);
process.exit(failures ? 1 : 0);

function check({ what, file, out, put }) {
  const path = join(work, file);
  const source = readFileSync(path, "utf8");
  const began = Date.now();
  if (source.split(out).length !== 2) return fail(`not planted, the lines are not in ${file} exactly once: ${what}`);
  writeFileSync(path, source.replace(out, () => put));
  const built = run("build", "--skip", "test");
  const tested = built === 0 ? run("test", "--no-match-path", "test/Gas.t.sol", "--fail-fast") : 0;
  writeFileSync(path, source);
  if (built !== 0) return fail(`does not compile: ${what}`);
  if (tested === 0) return fail(`SURVIVED: ${what}`);
  console.log(`caught in ${Math.round((Date.now() - began) / 1000)} s: ${what}`);
}

function run(...args) {
  return spawnSync(forge, args, { cwd: work, stdio: "ignore" }).status;
}

function fail(message) {
  failures += 1;
  console.error(message);
}

function parse(text) {
  return text
    .split(/\n\n+/)
    .map((block) => block.split("\n").filter((line) => line && !line.startsWith("#")))
    .filter((lines) => lines.length)
    .map((lines) => ({
      what: lines[0].replace(/^what /, ""),
      file: lines[1].replace(/^file /, ""),
      out: lines.filter((l) => l.startsWith("-")).map((l) => l.slice(1)).join("\n"),
      put: lines.filter((l) => l.startsWith("+")).map((l) => l.slice(1)).join("\n"),
    }));
}
