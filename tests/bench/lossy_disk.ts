/**
 * A virtio block device that answers some writes without doing them: what a
 * client that verifies must find out.
 *
 * @module
 */

import { BlkDevice } from "../../backends/blk/device.ts";
import { resolveBlkOptions } from "../../backends/blk/options.ts";
import { MemoryEngine } from "../../backends/storage/memory_engine.ts";
import { openStorage } from "../../backends/storage/open.ts";
import { type Storage, STORAGE_WRITE } from "../../backends/storage/storage.ts";
import type { IoTable } from "../../sys/io_table.ts";
import type { DeviceContext } from "../../virtqueue/device.ts";

/**
 * Makes the device.
 *
 * @param options those of a block device, and `lose`: one write in so many is
 * not done
 */
export default function createLossyDisk(
  { lose, ...options }: Readonly<Record<string, unknown>>,
  context: DeviceContext,
): BlkDevice {
  const resolved = resolveBlkOptions(options);
  const storage: Storage = resolved.storage === "memory"
    ? new MemoryEngine({ ...resolved, blockSize: 512 })
    : openStorage(resolved, () => null);
  const attach = storage.attach.bind(storage);
  const submit = storage.submit.bind(storage);
  let table: IoTable;
  let writes = 0;
  storage.attach = (operands) => attach(table = operands);
  storage.submit = (slot, operation) => {
    if (operation === STORAGE_WRITE && ++writes % Number(lose) === 0) {
      storage.onComplete(slot, table.lengths[slot] >>> 0);
    } else submit(slot, operation);
  };
  return new BlkDevice(resolved, storage, context);
}
