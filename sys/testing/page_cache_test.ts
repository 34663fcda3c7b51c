import { assert, assertEquals } from "@std/assert";
import { DataFile } from "../file.ts";
import { dirtyPages } from "./page_cache.ts";

Deno.test("dirtyPages() counts what was written and not synchronised", () => {
  const directory = Deno.makeTempDirSync();
  try {
    const path = `${directory}/file`;
    using file = DataFile.open(path, { create: true });
    file.write(new Uint8Array(8 * 4096).fill(1), 0);
    const dirty = dirtyPages(path);
    // Old kernels do not tell, file systems in memory have nothing to write.
    assert(dirty === null || dirty === 0 || dirty === 8);
    file.datasync();
    const left = dirtyPages(path);
    assertEquals(left, dirty === null ? null : 0);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
});
