/**
 * The virtio block device: serves a raw image or a block device as a disk.
 *
 * @example Usage
 * ```ts ignore
 * import createBlk from "./mod.ts";
 *
 * const device = createBlk({ path: "disk.img" }, context);
 * ```
 *
 * @module
 */

import type { DeviceContext, VirtioDevice } from "../../virtqueue/device.ts";
import { IoUring } from "../../sys/io_uring/io_uring.ts";
import { MemoryEngine, NullEngine } from "../storage/memory_engine.ts";
import { openStorage } from "../storage/open.ts";
import type { Storage } from "../storage/storage.ts";
import { BlkDevice } from "./device.ts";
import { resolveBlkOptions, type ResolvedBlkOptions } from "./options.ts";

export { OptionError, type OptionPlace } from "../option_reader.ts";
export type { BlkOptions } from "./options.ts";

/**
 * Makes a block device: a {@linkcode CreateDevice}.
 *
 * @param options a {@linkcode BlkOptions}
 * @throws {OptionError} when an option is wrong
 * @throws {StorageError} when the image cannot be served
 */
export default function createBlk(
  options: Readonly<Record<string, unknown>>,
  context: DeviceContext,
): VirtioDevice {
  const resolved = resolveBlkOptions(options);
  const storage = makeStorage(resolved, context);
  try {
    return new BlkDevice(resolved, storage, context);
  } catch (error) {
    storage.close();
    throw error;
  }
}

function makeStorage(
  options: ResolvedBlkOptions,
  context: DeviceContext,
): Storage {
  const { storage, blockSize = 512 } = options;
  if (storage === "null") return new NullEngine({ ...options, blockSize });
  if (storage === "memory") return new MemoryEngine({ ...options, blockSize });
  // The first Worker's lock stands for all of them.
  const share = options.share || context.worker > 0;
  context.waitsFor?.(`"${options.path}" to open`);
  return openStorage({ ...options, share }, () => {
    const ring = context.ring();
    return ring instanceof IoUring ? ring : null;
  });
}
