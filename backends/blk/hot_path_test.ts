import { assert, assertEquals } from "@std/assert";
import { uring } from "../../sys/io_uring/testing/test_ring.ts";
import { countCollections } from "../../sys/testing/collections.ts";

// A young generation of 1 MiB is collected before it has 87,000 numbers: one on
// the heap for each request shows, also where a request costs a system call.
const REQUESTS = 200_000;
const YOUNG = ["--min-semi-space-size=1", "--max-semi-space-size=1"];

const PROGRAM = `
import { main } from "${new URL("./testing/hot_path.ts", import.meta.url)}";
main(Deno.args);
`;

const RANGES = ["DISCARD", "WRITE_ZEROES", "WRITE_ZEROES_unmap"];
/** What is sent over each engine. */
const PARTS: Record<string, readonly string[]> = {
  sync: ["READ", "WRITE", "FLUSH", ...RANGES],
  // Its zeroes are those of `sync`.
  io_uring: ["READ", "WRITE", "FLUSH", "DISCARD"],
  memory: ["READ", "WRITE", "WRITE_durable", "FLUSH", ...RANGES]
    .concat("READ_tracked"),
};

/** A file in memory where there is a place for such: a flush waits for no disk. */
async function makeImage(): Promise<string> {
  const inMemory = await Deno.stat("/dev/shm").then(() => true, () => false);
  return Deno.makeTempFile({ dir: inMemory ? "/dev/shm" : undefined });
}

async function check(engine: string, layout: string): Promise<void> {
  const path = await makeImage();
  try {
    const args = [engine, layout, path, String(REQUESTS)];
    const { collections, output } = await countCollections(
      PROGRAM,
      args,
      YOUNG,
    );
    assertEquals([...collections.keys()], [
      ...PARTS[engine],
      "control",
    ], output);
    // That the count sees garbage at all: a number on the heap for each request.
    assert((collections.get("control") ?? 0) > 1, output);
    collections.delete("control");
    for (const [part, count] of collections) {
      assert(count <= 1, `${part}: ${count} collections\n${output}`);
    }
  } finally {
    await Deno.remove(path);
  }
}

for (const layout of ["split", "packed"]) {
  for (const engine of Object.keys(PARTS)) {
    const test = engine === "io_uring" ? uring.test : Deno.test;
    test(
      `requests of a ${layout} ring over ${engine} leave nothing for the garbage collector`,
      () => check(engine, layout),
    );
  }
}
