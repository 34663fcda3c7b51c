/**
 * Two devices of one Worker that find each other: what the driver of one sends,
 * the driver of the other receives.
 *
 * @module
 */

import type { DescriptorChain } from "../../../virtqueue/chain.ts";
import type {
  CreateDevice,
  DeviceContext,
  VirtioDevice,
  VirtQueue,
} from "../../../virtqueue/device.ts";

/** Queues of the device. */
const RECEIVE = 0;

const ends: PairDevice[] = [];

class PairDevice implements VirtioDevice {
  readonly deviceId = 4;
  readonly features = 0n;
  readonly queueCount = 2;
  readonly maxSegments = 4;
  readonly config = new Uint8Array();
  readonly #context: DeviceContext;
  readonly #buffers: DescriptorChain[] = [];

  constructor(context: DeviceContext) {
    this.#context = context;
    ends.push(this);
  }

  serve(queue: VirtQueue, budget: number): boolean {
    for (let i = 0; i < budget; i++) {
      const chain = queue.take();
      if (chain === null) break;
      if (queue.index === RECEIVE) {
        this.#buffers.push(chain);
      } else {
        const text = new Uint8Array(chain.readableLength);
        chain.read(0, text);
        for (const end of ends) if (end !== this) end.#receive(text);
        queue.complete(chain, 0);
      }
    }
    return true;
  }

  #receive(text: Uint8Array): void {
    const chain = this.#buffers.shift();
    if (chain === undefined) return;
    const { queue } = chain;
    queue.complete(chain, chain.write(0, text));
    this.#context.resume(queue);
  }

  quiesce(queue: VirtQueue): void {
    if (queue.index !== RECEIVE) return;
    for (const chain of this.#buffers.splice(0).reverse()) queue.untake(chain);
  }

  status(): Record<string, unknown> {
    return { ends: ends.length };
  }

  close(): void {
    ends.splice(ends.indexOf(this), 1);
  }
}

/** Makes an end; refuses the option `refuse`. */
const create: CreateDevice = ({ refuse }, context) => {
  if (refuse) throw new Error("No third end");
  return new PairDevice(context);
};

export default create;
