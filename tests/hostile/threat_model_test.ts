/**
 * The page on the threat model names tests: each of them exists, and each test
 * of this folder is named.
 */

import { assert, assertEquals } from "@std/assert";
import { fromFileUrl, join } from "@std/path";

const ROOT = fromFileUrl(new URL("../../", import.meta.url));
const HERE = "tests/hostile";

/** A test that the page names. */
interface Named {
  /** Path of its file from the root. */
  readonly file: string;
  readonly name: string;
}

/** The tests that a text names: a file in backquotes, a name in quotes. */
function namedTests(text: string): Named[] {
  const pattern = /`([\w./-]+_test\.ts)`:\s+"([^"]+)"/g;
  return Array.from(text.matchAll(pattern), ([, path, name]) => ({
    file: path.includes("/") ? path : `${HERE}/${path}`,
    name: name.replaceAll(/\s+/g, " "),
  }));
}

/** A test as its file declares it. */
interface Declared {
  /** Its name, up to the first part that is put in when it runs. */
  readonly name: string;
  /** Something is put in after that. */
  readonly open: boolean;
}

/** The tests of a file, steps left out. */
function testsOf(file: string): Declared[] {
  const source = Deno.readTextFileSync(join(ROOT, file));
  const pattern = /^ *(?:[\w.]+\.test|\w+Test)\(\s*(["`])(.*?)\1/gm;
  return Array.from(source.matchAll(pattern), ([, , name]) => {
    const [start, ...rest] = name.split("${");
    return { name: start, open: rest.length > 0 };
  });
}

/** Whether a name is that of a test; what it has in parentheses may be left out. */
function isNamed(name: string, test: Declared): boolean {
  if (!test.open) return name === test.name;
  return name === test.name.replace(/ \([^)]*$/, "") ||
    name.startsWith(test.name);
}

const page = Deno.readTextFileSync(join(ROOT, "docs/threat-model.md"));
const named = namedTests(page);

Deno.test("every test that the threat model names exists", () => {
  assert(named.length > 40, `${named.length} tests are named`);
  const missing = named.filter(({ file, name }) =>
    !testsOf(file).some((test) => isNamed(name, test))
  );
  assertEquals(missing, []);
});

Deno.test("every attack is named by the threat model", () => {
  const forgotten: Named[] = [];
  for (const { name: file } of Deno.readDirSync(join(ROOT, HERE))) {
    if (!file.endsWith("_test.ts") || file === "threat_model_test.ts") continue;
    const path = `${HERE}/${file}`;
    for (const test of testsOf(path)) {
      const found = named.some(({ file, name }) =>
        file === path && isNamed(name, test)
      );
      if (!found) forgotten.push({ file: path, name: test.name });
    }
  }
  assertEquals(forgotten, []);
});
