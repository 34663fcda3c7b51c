/**
 * Does three requests on a block device and says so on its output after each
 * answer; run as a process of its own, under a tracer of system calls.
 * Argument: the features to negotiate, as a number.
 *
 * @module
 */

import { VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_WRITE_ZEROES } from "../protocol.ts";
import { BlkBench, pattern, ranges } from "./bench.ts";

const encoder = new TextEncoder();

function say(what: string): void {
  Deno.stdout.writeSync(encoder.encode(`${what}\n`));
}

using bench = new BlkBench({
  features: BigInt(Deno.args[0]),
  blk: { engine: "sync" },
});
say(bench.path);
bench.write(8, pattern(4096, 2));
say("answered write");
bench.request(VIRTIO_BLK_T_WRITE_ZEROES, ranges([16, 8]));
say("answered zeroes");
bench.request(VIRTIO_BLK_T_FLUSH);
say("answered flush");
