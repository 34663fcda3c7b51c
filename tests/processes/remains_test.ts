/**
 * A process that is killed while the disk does not answer: the kernel goes on
 * with its requests, and nobody serves the guest until they have ended.
 */

import { assert, assertEquals } from "@std/assert";
import { Bench, LIMIT } from "../../host/supervisor/testing/bench.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { Guest, stampedImage } from "../protocol/disk.ts";
import { readFromMedium, SECTORS, SlowReads } from "../protocol/slow_reads.ts";
import { waitUntil, withDeadline } from "../support/deadline.ts";
import { ReadThrottle } from "../support/read_throttle.ts";
import { skipUnless } from "../support/skip.ts";

const MODULE = new URL("../../backends/blk/mod.ts", import.meta.url).href;
/** Where the lock of the image keeps no successor out: it forbids nothing. */
const SHARING = ["readOnly", "share"];

const missing = IoUring.supported() ? ReadThrottle.missing() : "needs io_uring";
const slowly = skipUnless(missing === null, missing ?? "");

/** A disk whose process was killed, while the kernel goes on with its reads. */
class Stalled implements AsyncDisposable {
  readonly bench = new Bench();
  readonly path = this.bench.directory.file("disk.img");
  throttle!: ReadThrottle;
  guest!: Guest;
  reads!: SlowReads;

  async start(more: Readonly<Record<string, unknown>>): Promise<void> {
    const { bench, path } = this;
    Deno.writeFileSync(path, stampedImage(SECTORS));
    const { spec, process } = bench.device("a", { module: MODULE });
    const options = { path, engine: "io_uring", direct: true, ...more };
    await bench.start([{ spec: { ...spec, options }, process }], {
      startPatience: 100,
    });
    this.throttle = ReadThrottle.make(path);
    const { pid } = await bench.facts("a");
    this.throttle.add(pid);

    this.guest = await Guest.connect(spec.socket!);
    this.reads = new SlowReads(this.guest);
    const { guest, reads } = this;
    const regions = [guest.region, reads.region];
    await guest.frontEnd.start(regions, new Map([[0, guest.drivers[0]]]));
    reads.mark();
    reads.submit();
    await waitUntil(async () => {
      const { rings } = await bench.facts("a") as unknown as {
        rings: { inFlight: number }[];
      };
      return rings[0].inFlight > 0;
    }, { what: "the reads to be in flight", timeout: LIMIT });

    Deno.kill(pid, "SIGKILL");
    await waitUntil(
      async () => /has not ended/.test((await bench.facts("a")).problem ?? ""),
      { what: "the wait for the kernel", timeout: LIMIT },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.reads?.[Symbol.dispose]();
    this.guest?.[Symbol.dispose]();
    await this.bench[Symbol.asyncDispose]();
    await this.throttle?.[Symbol.asyncDispose]();
  }
}

for (const how of SHARING) {
  slowly.test(
    `${how}: what the kernel reads for the dead comes before anybody serves`,
    async () => {
      await using stalled = new Stalled();
      await stalled.start({ [how]: true });
      const { bench, reads, throttle } = stalled;
      assertEquals((await bench.facts("a")).state, "restarting");
      assertEquals(bench.logged("Waiting on: the kernel").length, 1);
      assertEquals(bench.logged("Served again"), []);

      // The kernel has still to write into this memory, and does.
      reads.mark();
      throttle.release();
      const { problem } = await bench.until("a", "running", 1);
      assertEquals(problem, null);
      const { changed } = reads;
      assert(changed > 0, "the reads have ended before the process");
      reads.mark();
      readFromMedium(stalled.path);
      assertEquals(reads.changed, 0);
    },
  );
}

slowly.test("a server that waits for the kernel can be stopped", async () => {
  await using stalled = new Stalled();
  await stalled.start({});
  const { supervisor } = stalled.bench;
  assert(await withDeadline(supervisor.stop(), LIMIT, "the stop"));
  assertEquals(stalled.bench.logged("Served again"), []);
});
