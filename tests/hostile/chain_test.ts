/**
 * Hostile descriptors, heads and indices against a served disk: see
 * `bench.ts` for what is asserted after each of them.
 */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { SECTOR, T_IN } from "../protocol/disk.ts";
import { waitUntil } from "../support/deadline.ts";
import { type HostileBench, SYNC, useBench, VICTIM } from "./bench.ts";
import {
  CHAIN_ATTACKS,
  HEAD_ATTACKS,
  INDEX_ATTACKS,
  READ_HEAD,
} from "./chain_attacks.ts";
import { DATA, HEADER, HostileGuest, STATUS, TABLE, WRITE } from "./guest.ts";
import { LEGAL_CHAINS, LEGAL_SECTOR } from "./legal_chains.ts";

const theBench = useBench();

Deno.test("chains that break a rule are answered with length 0, counted and signalled", async (t) => {
  const bench = theBench(), { server } = bench;
  for (const { name, build, error, without } of CHAIN_ATTACKS) {
    await t.step(name, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(VICTIM), {
          without,
        });
        const head = build(guest);
        guest.strike([head]);
        await guest.used(1);
        assertEquals(guest.rings[0].usedElement(0), { id: head, length: 0 });
        assertEquals(guest.changes([]), []);
        await guest.errorSignalled();
        const { rings: [ring] } = await server.status(VICTIM);
        assertEquals([ring.badChains, ring.completed], [1, 1]);
        assertEquals(ring.broken, null);
        assertStringIncludes(ring.lastError!, `descriptor ${head}: ${error}`);
        await guest.verify(0);
        await guest.verify(1);
      }));
  }
});

for (const disk of [VICTIM, SYNC]) {
  Deno.test(`heads that are no chains are skipped, counted and signalled (${disk})`, async (t) => {
    const bench = theBench();
    for (const { name, heads } of HEAD_ATTACKS) {
      await t.step(
        name,
        () => bench.attack(() => strikeHeads(bench, disk, heads), { disk }),
      );
    }
  });
}

async function strikeHeads(
  bench: HostileBench,
  disk: string,
  heads: readonly number[],
): Promise<void> {
  using guest = await HostileGuest.run(bench.server.socket(disk));
  const [driver] = guest.rings;
  guest.chain(READ_HEAD, [
    guest.header(T_IN, LEGAL_SECTOR),
    { address: DATA, length: SECTOR, flags: WRITE },
    guest.status(),
  ]);
  guest.strike(heads);
  const none = heads.filter((head) => head >= driver.size).length;
  const good = heads.length - none;
  if (none > 0) await guest.errorSignalled();
  // A head that is available again before its answer is skipped as well; an
  // engine that answers at once never sees that.
  let answered = 0;
  await waitUntil(async () => {
    const { rings: [ring] } = await bench.server.status(disk);
    answered = ring.completed;
    return ring.badChains + answered === heads.length;
  }, { what: "all heads to be looked at", timeout: 5_000 });
  assert(good === 0 ? answered === 0 : answered >= 1 && answered <= good);
  if (disk === SYNC) assertEquals(answered, good);
  await guest.used(answered);
  for (let i = 0; i < answered; i++) {
    const expected = { id: READ_HEAD, length: SECTOR + 1 };
    assertEquals(driver.usedElement(i), expected);
  }
  const { rings: [ring] } = await bench.server.status(disk);
  const last = heads.at(-1)!;
  if (last !== READ_HEAD) {
    assertEquals(ring.lastError, `head ${last} is beyond the ring of 64`);
  } else if (answered < good) {
    assertEquals(
      ring.lastError,
      "chain at descriptor 20: made available again while in flight",
    );
  }
  const permitted = [
    { address: DATA, length: SECTOR },
    { address: STATUS, length: 1 },
  ];
  assertEquals(guest.changes(permitted), []);
  await guest.verify(0);
  await guest.verify(1);
}

Deno.test("a ring that cannot be followed is left alone until it is restarted", async (t) => {
  const bench = theBench(), { server } = bench;
  for (const { name, ahead } of INDEX_ATTACKS) {
    await t.step(
      `an available index ahead by ${name}`,
      () =>
        bench.attack(async () => {
          using guest = await HostileGuest.run(server.socket(VICTIM));
          await guest.verify(0);
          guest.jump(guest.rings[0].availableIndex + ahead);
          await guest.errorSignalled();
          const { rings } = await server.status(VICTIM);
          assertStringIncludes(rings[0].broken!, `is ${ahead} ahead of 1`);
          assertEquals(rings[1].broken, null);
          assertEquals(guest.rings[0].usedIndex, 1);
          assertEquals(guest.changes([]), []);
          // Not even when the index makes sense again.
          guest.jump(1);
          await guest.verify(1);
          assertEquals(guest.rings[0].usedIndex, 1);
          await guest.restart(0);
          await guest.verify(0);
          const { rings: restarted } = await server.status(VICTIM);
          assert(restarted.every((ring) => ring.broken === null));
        }),
    );
  }
  await t.step(
    "SET_VRING_BASE far from the available index",
    () =>
      bench.attack(async () => {
        using guest = await HostileGuest.connect(server.socket(VICTIM));
        const { frontEnd, rings, regions } = guest;
        await frontEnd.start(regions, new Map(rings.entries()), {
          positions: { 0: 1000 },
        });
        await guest.errorSignalled();
        const { rings: [ring] } = await server.status(VICTIM);
        assertStringIncludes(ring.broken!, "available index 0 is 64536 ahead");
        await guest.verify(1);
        await guest.restart(0);
        await guest.verify(0);
      }),
  );
});

Deno.test("chains that are legal, however strange, are served to the byte", async (t) => {
  const bench = theBench(), { server } = bench;
  for (const { name, build } of LEGAL_CHAINS) {
    await t.step(name, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(VICTIM));
        const { head = 0, data, status = STATUS } = build(guest);
        guest.strike([head]);
        await guest.used(1);
        const length = 2 * SECTOR + 1;
        assertEquals(guest.rings[0].usedElement(0), { id: head, length });
        const read = guest.memory.read(data, 2 * SECTOR);
        const expected = new Uint32Array(2 * SECTOR / 4);
        expected[0] = LEGAL_SECTOR;
        expected[SECTOR / 4] = LEGAL_SECTOR + 1;
        assertEquals(new Uint32Array(read.buffer), expected);
        assertEquals(guest.memory.read(status, 1)[0], 0);
        assertEquals(
          guest.changes([
            { address: data, length: 2 * SECTOR },
            { address: status, length: 1 },
          ]),
          [],
        );
        const { rings: [ring] } = await server.status(VICTIM);
        assertEquals([ring.badChains, ring.lastError], [0, null]);
      }));
  }
});

/** Where a hostile driver has a sector written that is no buffer at all. */
const OVERWRITTEN: readonly (readonly [
  string,
  (guest: HostileGuest) => number,
])[] = [
  ["its own descriptor table", (guest) => guest.rings[0].descriptorTable],
  ["its own available ring", (guest) => guest.rings[0].availableRing],
  ["its own used ring", (guest) => guest.rings[0].usedRing],
  ["its own indirect table", () => TABLE],
  ["its own header", () => HEADER],
  ["its own status byte", () => STATUS],
];

for (const disk of [VICTIM, SYNC]) {
  Deno.test(`data that overwrites what the device works with (${disk})`, async (t) => {
    const bench = theBench(), { server } = bench;
    for (const [name, target] of OVERWRITTEN) {
      await t.step(name, () =>
        bench.attack(async () => {
          using guest = await HostileGuest.run(server.socket(disk));
          const address = target(guest);
          guest.indirect(0, [
            guest.header(T_IN, LEGAL_SECTOR),
            { address, length: SECTOR, flags: WRITE },
            guest.status(),
          ]);
          guest.strike([0]);
          const [driver] = guest.rings;
          await waitUntil(async () => {
            const { rings: [ring] } = await server.status(disk);
            return ring.completed === 1;
          }, { what: "the request", timeout: 5_000 });
          assertEquals(driver.usedElement(0).id, 0);
          assertEquals(
            guest.changes([
              { address, length: SECTOR },
              { address: STATUS, length: 1 },
            ]),
            [],
          );
          // Other rings go on, and this one from its restart on.
          guest.frontEnd.kick(0);
          await guest.verify(1, [{ address, length: SECTOR }, {
            address: driver.usedRing,
            length: 6 + 8 * driver.size,
          }]);
          await guest.restart(0);
          await guest.verify(0);
        }, { disk }));
    }
  });
}
