/**
 * `serve --check`: opens images as they would be served, and serves nothing.
 *
 * @module
 */

import { StorageError } from "../../backends/storage/error.ts";
import { HostError, messageOf } from "../error.ts";
import type { PlannedDevice } from "../options/device_specs.ts";

/**
 * Opens every image, takes its lock and lets go of it, one after the other. The
 * engine is not tried: it belongs to the thread that serves.
 *
 * @param mayBeAbsent whether an image that is not there would be made
 * @returns how many were opened
 * @throws {HostError} of kind `start`, with all that is wrong
 */
export async function checkImages(
  devices: readonly PlannedDevice[],
  mayBeAbsent: boolean,
): Promise<number> {
  // Who serves has no use for it in this process.
  const { openStorage } = await import("../../backends/storage/open.ts");
  let count = 0;
  const problems: string[] = [];
  for (const { type, spec, options } of devices) {
    for (const image of type.storages?.(options) ?? []) {
      try {
        const storage = openStorage({ ...image, engine: "sync" });
        try {
          storage.acquire();
          count++;
        } finally {
          storage.close();
        }
      } catch (error) {
        const isAbsent = error instanceof StorageError &&
          error.kind === "not-found";
        if (isAbsent && mayBeAbsent) continue;
        problems.push(`"${spec.name}": ${messageOf(error)}`);
      }
    }
  }
  if (problems.length === 0) return count;
  throw new HostError("start", problems.join("; "));
}
