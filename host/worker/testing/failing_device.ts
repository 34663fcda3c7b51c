/**
 * A device that fails where it is told to.
 *
 * @module
 */

import { ConfigRefusal } from "../../../virtqueue/config_refusal.ts";
import type { CreateDevice } from "../../../virtqueue/device.ts";

/** Options of the device. */
export interface FailingOptions {
  /** Number of the Worker that refuses to make the device. */
  readonly refuse?: number;
  /** Path of a file, made by the device of Worker 0 when it is closed. */
  readonly closed?: string;
  /** Closing fails. */
  readonly stuck?: boolean;
}

/** Takes a chain, and throws before it is answered. */
const create: CreateDevice = (options, { worker, tellOthers }) => {
  const { refuse, closed, stuck } = options as FailingOptions;
  if (worker === refuse) throw new Error(`Worker ${worker} refuses`);
  return {
    deviceId: 4,
    features: 0n,
    queueCount: 2,
    maxSegments: 4,
    config: new Uint8Array(new SharedArrayBuffer(4)),
    ...(tellOthers === undefined ? { driverWords: [0] } : {}),
    serve(queue) {
      queue.take();
      throw new Error("The medium caught fire");
    },
    writeConfig() {
      throw new ConfigRefusal("the medium stays as it is");
    },
    close() {
      if (closed !== undefined && worker === 0) {
        Deno.writeTextFileSync(closed, "");
      }
      if (stuck) throw new Error("The medium is stuck");
    },
  };
};

export default create;
