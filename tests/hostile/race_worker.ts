/**
 * A thread that changes words of guest memory without pause, while the device
 * reads them.
 *
 * @module
 */

import { detachMemory, viewMemory } from "../../sys/mapping.ts";
import type { RaceOrder } from "./race.ts";

const scope = self as unknown as {
  onmessage: ((event: MessageEvent<RaceOrder>) => void) | null;
  postMessage(message: unknown): void;
  close(): void;
};

scope.onmessage = ({ data: { stop, words } }) => {
  const views = words.map(({ address }) =>
    new Uint32Array(viewMemory(address, 4))
  );
  scope.postMessage("running");
  // A generator of its own: Math.random would be the slowest part.
  let random = 0x2545_f491;
  let writes = 0;
  while (Atomics.load(stop, 0) === 0) {
    for (let i = 0; i < 256; i++) {
      random ^= random << 13;
      random ^= random >>> 17;
      random ^= random << 5;
      const which = (random >>> 8) % words.length;
      const { values } = words[which];
      views[which][0] = values[(random >>> 20) % values.length];
    }
    writes += 256;
  }
  for (const view of views) detachMemory(view.buffer);
  scope.postMessage(writes);
  scope.close();
};
