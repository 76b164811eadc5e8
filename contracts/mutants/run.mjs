// Plants the defects of list.txt, one at a time, in copies of the contracts and runs the tests there:
//   node run.mjs FORGE           all
//   node run.mjs FORGE --core    those marked `core`, which ./test runs
//   node run.mjs FORGE WORD      those whose text matches WORD, a regular expression
// Fails when a defect survives, does not compile, or cannot be planted. Each begins with what the last `forge build` left, so that it
// costs the compilation of what it touches; one copy per processor.
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const BUILT = ["out", "cache"];
const here = dirname(fileURLToPath(import.meta.url));
const [forge, which = ""] = process.argv.slice(2);
const mutants = parse(readFileSync(join(here, "list.txt"), "utf8")).filter((m) => (which === "--core" ? m.core : new RegExp(which).test(m.what)));
if (!mutants.length) throw new Error(`no defect in list.txt is called ${which}`);
const env = { ...process.env, FOUNDRY_LINT_LINT_ON_BUILD: "false" };
const home = mkdtempSync(join(tmpdir(), "mutants-"));
const queue = [...mutants];
const built = join(home, "built");
let failures = 0;
try {
  for (const name of BUILT) cpSync(join(here, "..", name), join(built, name), { recursive: true, preserveTimestamps: true });
  await Promise.all(Array.from({ length: Math.min(availableParallelism(), mutants.length) }, (_, i) => worker(join(home, String(i)))));
} finally {
  rmSync(home, { recursive: true, force: true });
}
console.log(`${mutants.length} planted defects, ${mutants.length - failures} caught`);
process.exit(failures ? 1 : 0);

async function worker(folder) {
  for (const name of ["src", "test", "foundry.toml"]) cpSync(join(here, "..", name), join(folder, name), { recursive: true });
  for (let next = queue.shift(); next; next = queue.shift()) {
    for (const name of BUILT) {
      rmSync(join(folder, name), { recursive: true, force: true });
      cpSync(join(built, name), join(folder, name), { recursive: true, preserveTimestamps: true });
    }
    await check(folder, next);
  }
}

async function check(folder, { what, file, tests, out, put }) {
  const path = join(folder, file);
  const source = readFileSync(path, "utf8");
  const began = Date.now();
  if (source.split(out).length !== 2) return fail(`not planted, the lines are not in ${file} exactly once: ${what}`);
  writeFileSync(path, source.replace(out, () => put));
  const compiled = await run(folder, "build");
  const tested = compiled === 0 ? await run(folder, "test", "--match-path", `test/${tests}.t.sol`, "--fail-fast") : 0;
  writeFileSync(path, source);
  if (compiled !== 0) return fail(`does not compile: ${what}`);
  if (tested === 0) return fail(`SURVIVED test/${tests}.t.sol: ${what}`);
  console.log(`caught in ${Math.round((Date.now() - began) / 1000)} s: ${what}`);
}

function run(cwd, ...args) {
  return new Promise((resolve, reject) => spawn(forge, args, { cwd, env, stdio: "ignore" }).on("error", reject).on("close", resolve));
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
    .map((lines) => {
      const word = (name) => lines.find((l) => l.startsWith(`${name} `))?.slice(name.length + 1);
      const mutant = {
        what: word("what"),
        file: word("file"),
        tests: word("tests"),
        core: lines.includes("core"),
        out: lines.filter((l) => l.startsWith("-")).map((l) => l.slice(1)).join("\n"),
        put: lines.filter((l) => l.startsWith("+")).map((l) => l.slice(1)).join("\n"),
      };
      if (!mutant.what || !mutant.file || !mutant.tests || !mutant.out) throw new Error(`incomplete block in list.txt: ${lines[0]}`);
      return mutant;
    });
}
