/**
 * What can be fuzzed, by name. Modules are loaded when they are asked for,
 * since only what is loaded after the coverage has begun is counted.
 *
 * @module
 */

import type { Target } from "./engine/target.ts";

/** Makes a target. */
export type MakeTarget = () => Promise<Target>;

/** The targets. */
export const targets: ReadonlyMap<string, MakeTarget> = new Map<
  string,
  MakeTarget
>([
  ["ring", async () => (await import("./ring/target.ts")).ringTarget()],
  [
    "packed",
    async () => (await import("./packed/target.ts")).packedTarget(),
  ],
  ["blk", async () => new (await import("./blk/target.ts")).BlkTarget()],
  ["scsi", async () => new (await import("./scsi/target.ts")).ScsiTarget()],
  ["net", async () => new (await import("./net/target.ts")).NetTarget()],
  [
    "balloon",
    async () => new (await import("./balloon/target.ts")).BalloonTarget(),
  ],
  [
    "session",
    async () => new (await import("./session/target.ts")).SessionTarget(),
  ],
]);
