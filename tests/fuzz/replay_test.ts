/**
 * Inputs that lead to much code, and those that once were findings, run again.
 */

import { assert, assertEquals } from "@std/assert";
import { corpusFolder, readInputs, regressionFolder } from "./engine/corpus.ts";
import { replay } from "./engine/fuzzer.ts";
import { NOBODY } from "./engine/target.ts";
import { targets } from "./targets.ts";

for (const [name, make] of targets) {
  Deno.test(`${name}: inputs of the corpus and earlier findings`, async () => {
    const target = await make();
    try {
      for (const seed of target.seeds) await target.run(seed, NOBODY);
      const corpus = readInputs(corpusFolder(name));
      assert(corpus.length >= 20, `The corpus has ${corpus.length} inputs`);
      for (
        const { name: file, input } of [
          ...corpus,
          ...readInputs(regressionFolder(name)),
        ]
      ) {
        const { header, record, maxRecords } = target;
        assert(input.length <= header + record * maxRecords, file);
        const found = await replay(target, input);
        assertEquals(found, null, `Input ${file}`);
      }
    } finally {
      await target.close?.();
    }
  });
}
