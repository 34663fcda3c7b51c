/**
 * An entropy device (virtio 1.4, section 5.4): one queue of device-writable
 * buffers, filled with random bytes.
 *
 * Serve it with `deno run -A docs/examples/entropy.ts ./rng.sock`, attach it with
 * `-chardev socket,id=r0,path=./rng.sock -device vhost-user-rng-pci,chardev=r0`.
 *
 * @module
 */

import {
  type DescriptorChain,
  serve,
  type VirtioDevice,
  type VirtQueue,
} from "../../mod.ts";

/** Most bytes given for one request; `crypto.getRandomValues` takes no more at once. */
const MAXIMUM = 65536;

/** Fills what the driver offers with random bytes. */
class EntropyDevice implements VirtioDevice {
  readonly deviceId = 4;
  readonly features = 0n;
  readonly queueCount = 1;
  readonly maxSegments = 64;
  readonly config = new Uint8Array(0);
  #bytesServed = 0;
  readonly #random = new Uint8Array(MAXIMUM);

  serve(queue: VirtQueue, budget: number): boolean {
    for (let taken = 0; taken < budget; taken++) {
      const chain = queue.take();
      if (chain === null) break;
      queue.complete(chain, this.#fill(chain));
    }
    return true;
  }

  status(): Record<string, unknown> {
    return { bytesServed: this.#bytesServed };
  }

  #fill(chain: DescriptorChain): number {
    const length = Math.min(chain.writableLength, MAXIMUM);
    const random = this.#random.subarray(0, length);
    crypto.getRandomValues(random);
    this.#bytesServed += length;
    return chain.write(0, random);
  }
}

/** Makes the device; called in the Worker that serves its queue. */
export default function createDevice(): VirtioDevice {
  return new EntropyDevice();
}

if (import.meta.main) {
  const [socket = "./rng.sock"] = Deno.args;
  const server = await serve({ device: import.meta.url, socket, name: "rng" });
  await server.finished;
}
