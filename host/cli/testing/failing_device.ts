/**
 * A device whose Worker fails when it is told to resize.
 *
 * @module
 */

import type { CreateDevice } from "../../../virtqueue/device.ts";

const create: CreateDevice = () => ({
  deviceId: 4,
  features: 0n,
  queueCount: 1,
  maxSegments: 1,
  config: new Uint8Array(),
  serve: () => true,
  command: () =>
    new Promise(() => {
      setTimeout(() => {
        throw new Error("The medium caught fire");
      });
    }),
});

export default create;
