/**
 * A device that tells what it knows of the guest's memory.
 *
 * @module
 */

import type { DeviceContext, VirtioDevice } from "../../../virtqueue/device.ts";

/** Makes the device. */
export default function createMemoryDevice(
  _options: unknown,
  { memory }: DeviceContext,
): VirtioDevice {
  return {
    deviceId: 0,
    features: 0n,
    queueCount: 1,
    maxSegments: 1,
    config: new Uint8Array(0),
    serve: () => true,
    status: () => ({
      regions: memory.regions.map(({ guestAddress, size }) => ({
        guestAddress,
        size,
        backing: memory.backing(memory.find(guestAddress, size)),
      })),
    }),
  };
}
