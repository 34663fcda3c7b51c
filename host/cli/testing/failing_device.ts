/**
 * A device whose Worker fails when it is told to resize; or, with the option
 * `pipe`, waits until somebody writes that.
 *
 * @module
 */

import type { CreateDevice } from "../../../virtqueue/device.ts";

const create: CreateDevice = ({ pipe }) => ({
  deviceId: 4,
  features: 0n,
  queueCount: 1,
  maxSegments: 1,
  config: new Uint8Array(),
  serve: () => true,
  command: () => {
    if (typeof pipe === "string") {
      return { capacity: Deno.readFileSync(pipe).length, previousCapacity: 0 };
    }
    return new Promise(() => {
      setTimeout(() => {
        throw new Error("The medium caught fire");
      });
    });
  },
});

export default create;
