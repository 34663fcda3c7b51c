/**
 * Hostile memory, and rings in places where none may be, on a served disk: see
 * `bench.ts` for what is asserted after each of them.
 */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { DataFile } from "../../sys/file.ts";
import { FrontEndMessage, MAX_MEMORY_SLOTS } from "../../vhost/constants.ts";
import {
  encodeMemoryRegion,
  encodeMemoryTable,
  encodeVringState,
} from "../../vhost/message.ts";
import {
  FrontEndError,
  type RingLayout,
  SharedRegion,
} from "../../vhost/testing/front_end.ts";
import { Guest, SECTOR, T_IN } from "../protocol/disk.ts";
import { VhostdProcess } from "../protocol/vhostd_process.ts";
import { waitUntil } from "../support/deadline.ts";
import { useBench, VICTIM } from "./bench.ts";
import {
  BORDER,
  FAR,
  FAR_SIZE,
  HOLE,
  HostileGuest,
  MAIN,
  RING_SIZE,
  TABLE,
} from "./guest.ts";
import {
  encodeRawRegion,
  goodBacking,
  MEMORY_ATTACKS,
} from "./memory_attacks.ts";

const theBench = useBench();

const M = FrontEndMessage;
const EPERM = 1;

/** A memory table of the guest's regions and one more. */
function tableWith(guest: HostileGuest, added: Uint8Array): Uint8Array {
  const descriptions = guest.regions.map((region) => region.description);
  const table = encodeMemoryTable(descriptions);
  const bytes = new Uint8Array(table.length + added.length);
  bytes.set(table);
  bytes.set(added, table.length);
  bytes[0]++;
  return bytes;
}

Deno.test("memory that cannot be is refused, and what there is stays", async (t) => {
  const bench = theBench(), { server } = bench;
  for (const attack of MEMORY_ATTACKS) {
    const { name, region = {}, backing = goodBacking, error } = attack;
    await t.step(name, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(VICTIM));
        const { frontEnd, regions } = guest;
        using fd = backing();
        const raw = encodeRawRegion(region);
        const single = new Uint8Array(8 + raw.length);
        single.set(raw, 8);
        const messages = [
          () => frontEnd.set(M.ADD_MEM_REG, single, [fd.fd]),
          () =>
            frontEnd.set(M.SET_MEM_TABLE, tableWith(guest, raw), [
              ...regions.map((region) => region.fd),
              fd.fd,
            ]),
        ];
        let refused = 0;
        for (const send of messages) {
          await assertRejects(send, FrontEndError, "refused");
          const { session } = await server.status(VICTIM);
          assertEquals(session?.refused, ++refused);
          assertStringIncludes(session!.lastError!, error);
          assertEquals(session?.regions.length, regions.length);
        }
        await guest.verify(0);
        await guest.verify(1);
      }));
  }
});

Deno.test("all memory slots can be used, and not one more", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(VICTIM));
    const { frontEnd, regions } = guest;
    const size = 4096, free = MAX_MEMORY_SLOTS - regions.length;
    using many = SharedRegion.create(HOLE, size * (free + 1));
    const describe = (i: number) =>
      encodeMemoryRegion({
        guestAddress: HOLE + 2 * size * i,
        size,
        userAddress: many.userAddress + 2 * size * i,
        mmapOffset: size * i,
      });
    for (let i = 0; i < free; i++) {
      await frontEnd.set(M.ADD_MEM_REG, describe(i), [many.fd]);
    }
    await assertRejects(
      () => frontEnd.set(M.ADD_MEM_REG, describe(free), [many.fd]),
      FrontEndError,
    );
    const { session } = await server.status(VICTIM);
    assertStringIncludes(
      session!.lastError!,
      "all 512 memory slots are in use",
    );
    for (const i of [0, 1, 7, 8, 9, free >> 1, free - 2, free - 1]) {
      const used = guest.rings[0].usedIndex;
      guest.chain(0, [
        guest.header(T_IN, i),
        { address: HOLE + 2 * size * i, length: SECTOR, flags: 2 },
        guest.status(),
      ]);
      guest.strike([0]);
      await guest.used(used + 1);
      assertEquals(guest.changes([{ address: MAIN + 0x8100, length: 1 }]), []);
      const words = new Uint32Array(many.bytes.buffer, size * i, 1);
      assertEquals(words[0], i);
    }
    for (let i = 0; i < free; i++) {
      await frontEnd.set(M.REM_MEM_REG, describe(i));
    }
    await guest.verify(0);
  });
});

/** A ring at an address, one part after the other, but for `changes`. */
function ringAt(
  address: number,
  changes: Partial<RingLayout> = {},
): RingLayout {
  return {
    size: RING_SIZE,
    descriptorTable: address,
    availableRing: address + 16 * RING_SIZE,
    usedRing: address + 18 * RING_SIZE + 8,
    ...changes,
  };
}

Deno.test("a ring that is not in memory does not run, and says so", async (t) => {
  const bench = theBench(), { server } = bench;
  const cases: readonly (readonly [string, RingLayout])[] = [
    ["a ring in a hole", ringAt(HOLE)],
    [
      "a descriptor table over the border of two regions",
      ringAt(MAIN + 0x2_0000, { descriptorTable: BORDER - 16 }),
    ],
    [
      "an available ring over the border of two regions",
      ringAt(MAIN + 0x2_0000, { availableRing: BORDER - 2 }),
    ],
    [
      "a used ring over the border of two regions",
      ringAt(MAIN + 0x2_0000, { usedRing: BORDER - 4 }),
    ],
    [
      "a used ring whose last field is beyond the end of memory",
      ringAt(MAIN + 0x2_0000, {
        usedRing: FAR + FAR_SIZE - 4 - 8 * RING_SIZE,
      }),
    ],
    [
      "an available ring whose last field is beyond the end of memory",
      ringAt(MAIN + 0x2_0000, {
        availableRing: FAR + FAR_SIZE - 4 - 2 * RING_SIZE,
      }),
    ],
    ["a ring of 32768 entries in 64 KiB", { ...ringAt(FAR), size: 32768 }],
  ];
  for (const [name, layout] of cases) {
    await t.step(name, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.connect(server.socket(VICTIM));
        const { frontEnd, regions, rings } = guest;
        await frontEnd.start(
          regions,
          new Map<number, RingLayout>([[0, layout], [1, rings[1]]]),
        );
        frontEnd.kick(0);
        await guest.verify(1);
        const { session } = await server.status(VICTIM);
        assertEquals(session?.rings[0].running, false);
        assertEquals(session?.rings[0].activity, "waits for its memory");
        await frontEnd.getVringBase(0);
        await frontEnd.setupRing(0, rings[0]);
        await guest.verify(0);
      }));
  }
});

Deno.test("a ring whose parts lie on each other harms itself only", async (t) => {
  const bench = theBench(), { server } = bench;
  const at = TABLE;
  const cases: readonly (readonly [string, Partial<RingLayout>])[] = [
    ["all three at one address", { availableRing: at, usedRing: at }],
    ["the used ring in the descriptor table", { usedRing: at + 64 }],
    ["the used ring in the available ring", {
      usedRing: at + 16 * RING_SIZE + 4,
    }],
    ["the available ring in the descriptor table", { availableRing: at + 2 }],
  ];
  for (const [name, changes] of cases) {
    await t.step(name, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.connect(server.socket(VICTIM));
        const { frontEnd, memory, regions, rings } = guest;
        const layout = ringAt(at, changes);
        const ring = { address: at, length: 0x1000 };
        memory.bytes(at, ring.length).fill(0);
        await frontEnd.start(
          regions,
          new Map<number, RingLayout>([[0, layout], [1, rings[1]]]),
        );
        for (let i = 1; i < 40; i++) {
          memory.setUint16(layout.availableRing + 2, i);
          frontEnd.kick(0);
          if (i % 10 === 0) {
            await guest.verify(1, [ring]);
          }
        }
        const { rings: [status] } = await server.status(VICTIM);
        assert(status.completed + status.badChains > 0 || status.broken);
        await frontEnd.getVringBase(0);
        await frontEnd.setupRing(0, rings[0]);
        await guest.verify(0);
      }));
  }
});

Deno.test("an index of a ring is never cut down to one that exists", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(VICTIM));
    const { frontEnd } = guest;
    let refused = 0;
    for (const index of [2, 255, 256, 257, 65536, 0x8000_0000, 0xffff_ffff]) {
      for (const request of [M.SET_VRING_NUM, M.SET_VRING_BASE]) {
        const payload = encodeVringState({ index, num: 1 });
        await assertRejects(
          () => frontEnd.set(request, payload),
          FrontEndError,
        );
        const { session } = await server.status(VICTIM);
        assertEquals(session?.refused, ++refused);
        assertStringIncludes(
          session!.lastError!,
          `ring index ${index} is not below 2`,
        );
      }
      await assertRejects(
        () => frontEnd.setVringEnable(index, false),
        FrontEndError,
      );
      refused++;
    }
    await guest.verify(0);
    await guest.verify(1);
  });
});

Deno.test("memory that could be made smaller is sealed", async () => {
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(VICTIM));
    for (const { fd, bytes } of guest.regions) {
      using file = DataFile.open(`/proc/self/fd/${fd}`);
      assertEquals(file.truncate(0), -EPERM);
      assertEquals(file.size(), bytes.length);
    }
    await guest.verify(0);
  });
});

Deno.test("memory that is made smaller ends one process, which is started again", async () => {
  await using server = await VhostdProcess.start({
    apart: true,
    disks: [{ name: VICTIM }, { name: "bystander" }],
  });
  using bystander = await Guest.run(server.socket("bystander"));
  const read = async (guest: Guest): Promise<void> => {
    const { status, data } = await guest.request(T_IN, 3, SECTOR);
    assertEquals(status, 0);
    assertEquals(new Uint32Array(data.slice().buffer)[0], 3);
  };
  await read(bystander);
  const before = await server.status(VICTIM);
  {
    using guest = await Guest.connect(server.socket(VICTIM));
    // Its seals are closed: nobody can keep it from being made smaller.
    using open = SharedRegion.create(HOLE, 0x1_0000, { seals: false });
    await guest.frontEnd.start([open], new Map([[0, ringAt(HOLE)]]));
    {
      using file = DataFile.open(`/proc/self/fd/${open.fd}`);
      assertEquals(file.truncate(0), 0);
    }
    guest.frontEnd.kick(0);
    await guest.frontEnd.closedByPeer();
  }
  await read(bystander);
  await waitUntil(async () => (await server.status(VICTIM)).restarts === 1, {
    what: "the process to be started again",
  });
  using guest = await Guest.run(server.socket(VICTIM));
  await read(guest);
  await read(bystander);
  const after = await server.status(VICTIM);
  assert(after.pid !== before.pid);
  assertEquals((await server.status("bystander")).restarts, 0);
});
