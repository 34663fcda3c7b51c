import { assert, assertEquals } from "@std/assert";
import { dupFd, OwnedFd } from "../sys/fd.ts";
import { detachMemory, viewMemory } from "../sys/mapping.ts";
import { createMemfd } from "../sys/memfd.ts";
import { packedInflightSize } from "../virtqueue/packed_inflight.ts";
import type { RingInflight, RingSetup } from "./data_plane.ts";
import { KEPT_RINGS_SIZE, KeptRings } from "./kept_rings.ts";

const SETUP: RingSetup = {
  index: 5,
  size: 7,
  descriptorTable: 0x10000,
  availableRing: 0x11000,
  usedRing: 0x11004,
  position: 0x8000_8000,
  kickFd: -1,
  callFd: -1,
  errorFd: -1,
};
const KNOWN = 0x8000_8000, EVENT = 0x0002_8003;
/** Two guests' memories. */
const MEMORY = createMemfd("guest", 4096), OTHER = createMemfd("guest", 4096);

/** One life after the other of the processes of a device. */
class Lives implements Disposable {
  readonly #file = createMemfd("vhostd-rings", KEPT_RINGS_SIZE);
  #rings: KeptRings | null = null;

  /** Another process; the one before has died, or not. */
  next(): KeptRings {
    this.#rings = new KeptRings(new OwnedFd(dupFd(this.#file.fd)));
    return this.#rings;
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

/** Fills the area with a value; what the first byte was before. */
function mark({ address, size }: RingInflight, value: number): number {
  const view = viewMemory(address, size);
  const bytes = new Uint8Array(view);
  const [before] = bytes;
  assert(bytes.every((byte) => byte === before));
  bytes.fill(value);
  detachMemory(view);
  return before;
}

Deno.test("an area is there again for the same ring, and cleared for another", () => {
  const others: [
    what: string,
    setup: RingSetup,
    known: number,
    event: number,
    memory?: OwnedFd,
  ][] = [
    ["another size", { ...SETUP, size: 8 }, KNOWN, EVENT],
    ["another ring", { ...SETUP, descriptorTable: 0x20000 }, KNOWN, EVENT],
    ["another driver event", { ...SETUP, availableRing: 0 }, KNOWN, EVENT],
    ["another device event", { ...SETUP, usedRing: 0x11008 }, KNOWN, EVENT],
    ["another position", SETUP, 0x8001_8001, EVENT],
    ["a driver that set it up again", SETUP, KNOWN, 0],
    ["another guest's memory", SETUP, KNOWN, EVENT, OTHER],
  ];
  for (const [what, setup, known, event, memory = MEMORY] of others) {
    using lives = new Lives();
    {
      using first = lives.next();
      const area = first.ring(SETUP, KNOWN, 0, MEMORY.fd);
      assertEquals([area.size, area.heads], [packedInflightSize(7), 7]);
      assertEquals(mark(area, 1), 0, what);
    }
    {
      using second = lives.next();
      // It went on at another position meanwhile, which the front-end cannot know.
      const later = { ...SETUP, position: 0x8002_8002 };
      assertEquals(
        mark(second.ring(later, KNOWN, EVENT, MEMORY.fd), 2),
        1,
        what,
      );
    }
    {
      using third = lives.next();
      assertEquals(
        mark(third.ring(setup, known, event, memory.fd), 3),
        0,
        what,
      );
    }
    {
      using fourth = lives.next();
      assertEquals(
        mark(fourth.ring(setup, known, EVENT, memory.fd), 4),
        3,
        what,
      );
    }
  }
});

Deno.test("a ring that stopped in order, or was reset, begins anew", () => {
  using lives = new Lives();
  const forgets: ((rings: KeptRings) => void)[] = [
    (rings) => rings.forget(5),
    (rings) => rings.forgetAll(),
  ];
  for (const forget of forgets) {
    using rings = lives.next();
    mark(rings.ring(SETUP, KNOWN, 0, MEMORY.fd), 1);
    const other = { ...SETUP, index: 6 };
    mark(rings.ring(other, KNOWN, 0, MEMORY.fd), 9);
    forget(rings);
    assertEquals(mark(rings.ring(SETUP, KNOWN, EVENT, MEMORY.fd), 1), 0);
  }
  using rings = lives.next();
  mark(rings.ring({ ...SETUP, index: 6 }, KNOWN, 0, MEMORY.fd), 9);
  rings.forget(5);
  assertEquals(
    mark(rings.ring({ ...SETUP, index: 6 }, KNOWN, EVENT, MEMORY.fd), 9),
    9,
  );
});

Deno.test("areas of rings of any size and index lie beside each other", () => {
  using lives = new Lives();
  using rings = lives.next();
  const indices = [0, 1, 2, 254, 255];
  for (const size of [1, 256, 32768, 100]) {
    for (const index of indices) {
      const area = rings.ring(
        { ...SETUP, index, size },
        KNOWN,
        EVENT,
        MEMORY.fd,
      );
      assertEquals(mark(area, index + 1), 0);
    }
    rings.release();
    for (const index of indices) {
      const area = rings.ring(
        { ...SETUP, index, size },
        KNOWN,
        EVENT,
        MEMORY.fd,
      );
      assertEquals(mark(area, 0), (index + 1) & 0xff);
    }
  }
});
