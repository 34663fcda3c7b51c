import { assert, assertEquals } from "@std/assert";
import { serve } from "../../host/serve.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { type LoadResult, runLoad } from "./load.ts";
import { STAMP_UNIT, stampImage, WriteLog } from "./stamps.ts";

const BLK = new URL("../../backends/blk/mod.ts", import.meta.url);
const LOSSY = new URL("./lossy_disk.ts", import.meta.url);
/** Bytes of the disks. */
const BYTES = 4 << 20;

/** Loads a disk for a moment. */
type LoadDisk = (
  operation: "read" | "write",
  pattern: "random" | "sequential",
  blockSize: number,
  packed?: boolean,
) => Promise<LoadResult>;

/** Serves a disk while `use` loads it. */
async function withDisk(
  device: URL,
  options: Record<string, unknown>,
  use: (load: LoadDisk) => Promise<void>,
): Promise<void> {
  using directory = TemporaryDirectory.make("bench");
  const socket = directory.file("blk.sock");
  const path = directory.file("disk.img");
  stampImage(path, BYTES);
  await using _server = await serve({
    device,
    options: "storage" in options ? options : { ...options, path },
    socket,
    logLevel: "error",
    signals: false,
  });
  await use((operation, pattern, blockSize, packed = false) =>
    runLoad({
      ...{ socket, operation, pattern, blockSize, packed, depth: 16 },
      ...{ seconds: 0.1, mode: "sleep", verify: true, everyLatency: false },
      ...{ eventIdx: true, indirect: true },
    })
  );
}

const MEMORY = { storage: "memory", size: BYTES };

for (const [medium, options] of [["a file", {}], ["memory", MEMORY]] as const) {
  Deno.test(`what was written to ${medium} is read back`, () =>
    withDisk(BLK, options, async (load) => {
      for (const packed of [false, true]) {
        for (
          const [pattern, blockSize] of [
            ["random", 4096],
            ["random", 512],
            ["sequential", 6144],
            ["sequential", 131_072],
          ] as const
        ) {
          const { errors, readBack, requests } = await load(
            "write",
            pattern,
            blockSize,
            packed,
          );
          assertEquals(errors, 0, `${pattern} ${blockSize}`);
          assert(requests > 0 && readBack > 0);
        }
        // Of the last run all blocks were written, so all can be verified.
        const { errors, readBack } = await load("read", "random", 4096, packed);
        assertEquals({ errors, readBack }, { errors: 0, readBack: 0 });
      }
    }));

  Deno.test(`a disk in ${medium} that loses all writes is found out`, () =>
    withDisk(LOSSY, { ...options, lose: 1 }, async (load) => {
      for (
        const [pattern, blockSize] of [
          ["random", 4096],
          ["sequential", 131_072],
        ] as const
      ) {
        const { errors, readBack } = await load("write", pattern, blockSize);
        assert(readBack > 0);
        assertEquals(errors, readBack);
      }
    }));
}

Deno.test("a disk that loses one write in 25 is found out", () =>
  withDisk(LOSSY, { lose: 25 }, async (load) => {
    const random = await load("write", "random", 4096);
    assert(random.errors > 0 && random.errors < random.readBack);
    const sequential = await load("write", "sequential", 131_072);
    assert(sequential.errors > 0 && sequential.errors < sequential.readBack);
  }));

Deno.test("a write is the last one of a block when none was begun after its answer", () => {
  const log = new WriteLog(3);
  const { run } = log;
  assert(run > 0);
  assertEquals(log.wrote(1), false);
  assertEquals([log.begin(1), log.begin(0), log.begin(1)], [1, 2, 3]);
  log.end(1);
  log.end(1);
  // Both were in flight at once.
  assertEquals(
    [0, 1, 2, 3, 4].map((number) => log.mayBeLast(1, run, number)),
    [false, true, true, true, false],
  );
  assertEquals(log.begin(1), 4);
  assertEquals([3, 4].map((number) => log.mayBeLast(1, run, number)), [
    false,
    true,
  ]);
  assertEquals(log.mayBeLast(1, run + 1, 4), false);
  assertEquals([0, 1, 2].map((block) => log.wrote(block)), [true, true, false]);
});

Deno.test("an image has no run in its stamps", () => {
  using directory = TemporaryDirectory.make("bench");
  const path = directory.file("disk.img");
  stampImage(path, 2 * STAMP_UNIT);
  const { buffer } = Deno.readFileSync(path);
  assertEquals([...new Uint32Array(buffer, STAMP_UNIT, 3)], [1, 0, 0]);
});
