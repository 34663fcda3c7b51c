import { assertEquals } from "@std/assert";
import { dupFd, OwnedFd } from "../sys/fd.ts";
import { detachMemory, viewMemory } from "../sys/mapping.ts";
import { createMemfd } from "../sys/memfd.ts";
import {
  featureMask,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "../virtqueue/constants.ts";
import { KEPT_RINGS_SIZE, KeptRings } from "./kept_rings.ts";
import type { FrontEnd } from "./testing/front_end.ts";
import { Harness } from "./testing/harness.ts";
import { InflightMemory } from "./testing/inflight_memory.ts";
import { SharedRegion } from "./testing/shared_region.ts";

const FEATURES = featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED);
const BASE = 0x10000, EVENT = 0xfffc;
const LAYOUT = {
  size: 7,
  descriptorTable: BASE,
  availableRing: BASE + EVENT - 4,
  usedRing: BASE + EVENT,
};
const SPLIT = {
  size: 8,
  descriptorTable: BASE,
  availableRing: BASE + 0x1000,
  usedRing: BASE + 0x2000,
};
const BEGIN = 0x8000_8000;

/** A guest's memory and what a supervisor keeps, over several sessions. */
class Guest implements Disposable {
  readonly region = SharedRegion.create(BASE, 0x10000);
  readonly #file: OwnedFd;

  /** @param saved the guest that this one is restored from, at the same server */
  constructor(saved?: Guest) {
    if (saved === undefined) {
      this.#file = createMemfd("vhostd-rings", KEPT_RINGS_SIZE);
    } else {
      this.#file = new OwnedFd(dupFd(saved.#file.fd));
      this.region.bytes.set(saved.region.bytes);
    }
  }

  /** Connects and starts ring 0; whether its area is as somebody left it. */
  async session(
    position: number,
    act: (frontEnd: FrontEnd, h: Harness) => Promise<void> = async () => {},
    packed = true,
  ): Promise<boolean | null> {
    using kept = new KeptRings(new OwnedFd(dupFd(this.#file.fd)));
    await using h = Harness.open({ features: FEATURES }, kept);
    await h.frontEnd.handshake({ packed });
    await h.frontEnd.setFeatures(h.frontEnd.features);
    await h.frontEnd.addMemReg(this.region);
    await h.frontEnd.setupRing(0, packed ? LAYOUT : SPLIT, position);
    await h.frontEnd.setVringEnable(0, true);
    await h.settled();
    const { inflight } = h.plane.running.get(0)!;
    if (!inflight) return null;
    const view = viewMemory(inflight.address, inflight.size);
    const bytes = new Uint8Array(view);
    const used = bytes.every((byte) => byte === 5);
    bytes.fill(5);
    detachMemory(view);
    // As a device does before it takes a chain.
    new DataView(this.region.bytes.buffer).setUint32(EVENT, 0x8000, true);
    await act(h.frontEnd, h);
    return used;
  }

  [Symbol.dispose](): void {
    this.#file.close();
    this.region[Symbol.dispose]();
  }
}

Deno.test("a packed ring goes on where it was, after a session that did not stop it", async () => {
  using guest = new Guest();
  assertEquals(await guest.session(BEGIN), false);
  assertEquals(await guest.session(BEGIN), true);
  assertEquals(await guest.session(0x8001_8001), false);
  // The driver set it up again.
  guest.region.bytes.fill(0);
  assertEquals(await guest.session(0x8001_8001), false);
});

Deno.test("a ring that stopped in order, or was reset, begins where the front-end says", async () => {
  using guest = new Guest();
  const acts: ((frontEnd: FrontEnd) => Promise<unknown>)[] = [
    (frontEnd) => frontEnd.getVringBase(0),
    (frontEnd) => frontEnd.resetDevice(),
  ];
  for (const act of acts) {
    await guest.session(BEGIN, async (frontEnd) => void await act(frontEnd));
    assertEquals(await guest.session(BEGIN), false);
  }
  // Disabled and enabled again it is the same ring all the time.
  const once = await guest.session(BEGIN, async (frontEnd, h) => {
    h.plane.positions.set(0, 0x8002_8002);
    await frontEnd.setVringEnable(0, false);
    await frontEnd.setVringEnable(0, true);
  });
  assertEquals([once, await guest.session(BEGIN)], [true, true]);
});

Deno.test("split rings, and those that the front-end tracks, are not kept", async () => {
  using guest = new Guest();
  assertEquals(await guest.session(0, undefined, false), null);
  using kept = new KeptRings(createMemfd("vhostd-rings", KEPT_RINGS_SIZE));
  await using h = Harness.open({ features: FEATURES }, kept);
  await h.frontEnd.handshake({ packed: true });
  await h.frontEnd.setFeatures(h.frontEnd.features);
  await h.frontEnd.addMemReg(guest.region);
  using area = await InflightMemory.get(h.frontEnd, 1, 256);
  await area.set(h.frontEnd);
  await h.frontEnd.setupRing(0, LAYOUT, BEGIN);
  await h.frontEnd.setVringEnable(0, true);
  await h.settled();
  // The front-end's has room for its largest queue.
  assertEquals(h.plane.running.get(0)!.inflight?.heads, 256);
});

Deno.test("another guest at the same places, or another life of it, begins anew", async () => {
  using guest = new Guest();
  assertEquals(await guest.session(0x8003_8003), false);
  // It was saved, and is restored: other memory, with the same in it.
  using again = new Guest(guest);
  assertEquals(await again.session(0x8003_8003), false);
  assertEquals(await again.session(0x8003_8003), true);
});

Deno.test("a ring that went on in the front-end's area was not kept meanwhile", async () => {
  using guest = new Guest();
  const once = await guest.session(BEGIN, async (frontEnd) => {
    using area = await InflightMemory.get(frontEnd, 1, 256);
    await area.set(frontEnd);
  });
  assertEquals([once, await guest.session(BEGIN)], [false, false]);
});
