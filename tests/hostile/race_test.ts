/**
 * A guest that changes headers, descriptors, tables and indices while the
 * device reads them (time of check, time of use): see `bench.ts` for what is
 * asserted after each of them. Whatever the device makes of what it reads, it
 * writes nowhere but where one of the racing values allows it, answers each
 * chain once, and goes on.
 *
 * A word that changes while it is read may be read as a mixture of its values,
 * byte by byte. So the values are chosen such that every mixture of them is
 * either one that is allowed or far outside.
 */

import { assert, assertEquals } from "@std/assert";
import { T_IN } from "../protocol/disk.ts";
import { READ_ONLY, SCRATCH, SYNC, useBench, VICTIM } from "./bench.ts";
import {
  BORDER,
  DATA,
  HEADER,
  HostileGuest,
  INDIRECT,
  MAIN,
  NEXT,
  type Range,
  STATUS,
  WRITE,
} from "./guest.ts";
import { race, type RacingWord } from "./race.ts";

const theBench = useBench();

/** Chains that are served in one race. */
const ROUNDS = 2000;
const ALL_ONES = 0xffff_ffff;
/** Far from all memory; it changes one byte of an address or a length. */
const OUTSIDE = 0xff00_0000;
/** Far beyond the last sector; it changes one byte of a sector's number. */
const BEYOND = 0x0100_0000;
/** Where data of a racing request may end up. */
const PAGE = 0x1000;

/** Offers a head again and again; each time it must be answered once. */
async function serve(guest: HostileGuest, rounds: number): Promise<void> {
  const [driver] = guest.rings;
  for (let i = 0; i < rounds; i++) {
    const used = driver.usedIndex;
    if (driver.eventIdx) driver.usedEvent = used;
    driver.offer(0);
    guest.frontEnd.kick(0);
    while (driver.usedIndex === used) await guest.frontEnd.waitCall(0);
    assertEquals(driver.usedIndex, (used + 1) & 0xffff);
    assertEquals(driver.usedElement(used).id, 0);
    assert(driver.usedElement(used).length <= 4 * PAGE);
  }
}

/** The parts of the ring that the driver itself writes. */
function rings(guest: HostileGuest): Range[] {
  const [{ descriptorTable, availableRing, size }] = guest.rings;
  return [
    { address: descriptorTable, length: 16 * size },
    { address: availableRing, length: 6 + 2 * size },
  ];
}

/** A descriptor at `at` that is many things at once. */
function racingDescriptor(at: number, links: readonly number[]): RacingWord[] {
  return [
    { at, values: [HEADER, DATA, HEADER + OUTSIDE, DATA + OUTSIDE] },
    { at: at + 4, values: [0, 0, 0, 1, ALL_ONES] },
    { at: at + 8, values: [0, 1, 16, 512, 1024, OUTSIDE] },
    { at: at + 12, values: links },
  ];
}

/** Flags and next of a racing descriptor. */
const LINKS = [
  NEXT | 1 << 16,
  NEXT | 2 << 16,
  NEXT | WRITE | 2 << 16,
  NEXT | WRITE | 3 << 16,
  WRITE,
  WRITE,
  0,
  INDIRECT,
  INDIRECT | NEXT,
  NEXT,
  NEXT | 0xffff_0000,
];

for (const disk of [VICTIM, SYNC]) {
  Deno.test(`a header that changes while it is read (${disk})`, async () => {
    const bench = theBench(), { server } = bench;
    await bench.attack(async () => {
      using guest = await HostileGuest.run(server.socket(disk));
      guest.header(T_IN, SCRATCH);
      guest.memory.write(DATA, new Uint8Array(512));
      guest.chain(0, [
        { address: HEADER, length: 16 },
        { address: DATA, length: 512 },
        { address: DATA + PAGE, length: 512, flags: WRITE },
        guest.status(),
      ]);
      guest.note();
      const writes = await race(guest, [
        { at: HEADER, values: [0, 0, 1, 1, 4, 8, 11, 13, 2, ALL_ONES] },
        {
          at: HEADER + 8,
          values: [SCRATCH, SCRATCH + 8, SCRATCH + BEYOND],
        },
        { at: HEADER + 12, values: [0, 0, 1, 0x8000_0000] },
        // The first range of a discard.
        { at: DATA, values: [SCRATCH, SCRATCH + 8, SCRATCH + BEYOND] },
        { at: DATA + 4, values: [0, 0, ALL_ONES] },
        { at: DATA + 8, values: [0, 8, OUTSIDE] },
        { at: DATA + 12, values: [0, 1, 2] },
      ], () => serve(guest, ROUNDS));
      assert(writes > ROUNDS);
      assertEquals(
        guest.changes([
          ...rings(guest),
          { address: HEADER, length: 16 },
          { address: DATA, length: 16 },
          { address: DATA + PAGE, length: 512 },
          { address: STATUS, length: 1 },
        ]),
        [],
      );
      const { device, rings: [ring] } = await server.status(disk);
      assertEquals([ring.badChains, ring.completed], [0, ROUNDS]);
      const { refused, errors, reads, writes: written } = device.requests;
      assertEquals(errors, {});
      assert(reads > 0 && written > 0);
      assert(refused.outOfRange > 0 && refused.unsupportedType > 0);
      await guest.verify(1);
    }, { disk, writes: true });
  });
}

// The disk is read-only: what the device takes for a header may be anything,
// and a write that the guest asked for would be no fault of the device.
Deno.test("descriptors that change while they are read", async () => {
  const disk = READ_ONLY;
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(disk));
    guest.header(T_IN, 3);
    const { descriptorTable } = guest.rings[0];
    guest.note();
    await race(
      guest,
      [0, 1, 2, 3].flatMap((i) =>
        racingDescriptor(descriptorTable + 16 * i, LINKS)
      ),
      () => serve(guest, ROUNDS),
    );
    assertEquals(
      guest.changes([
        ...rings(guest),
        { address: HEADER, length: PAGE },
        { address: DATA, length: PAGE },
      ]),
      [],
    );
    const { rings: [ring] } = await server.status(disk);
    assertEquals([ring.broken, ring.completed], [null, ROUNDS]);
    assert(ring.badChains > 0 && ring.badChains < ROUNDS);
    await guest.verify(1);
  }, { disk });
});

Deno.test("indirect tables that change while they are read, in place and over a border", async (t) => {
  const disk = READ_ONLY;
  const bench = theBench(), { server } = bench;
  const tables: readonly (readonly [string, number])[] = [
    ["in place", MAIN + 0x2_0000],
    ["over a border", BORDER - 40],
  ];
  for (const [name, table] of tables) {
    await t.step(name, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(disk));
        guest.header(T_IN, 3);
        guest.rings[0].setDescriptor(0, {
          address: table,
          length: 64,
          flags: INDIRECT,
        });
        guest.note();
        await race(
          guest,
          [0, 1, 2, 3].flatMap((i) => racingDescriptor(table + 16 * i, LINKS)),
          () => serve(guest, ROUNDS),
        );
        assertEquals(
          guest.changes([
            ...rings(guest),
            { address: table, length: 64 },
            { address: HEADER, length: PAGE },
            { address: DATA, length: PAGE },
          ]),
          [],
        );
        const { rings: [ring] } = await server.status(disk);
        assertEquals([ring.broken, ring.completed], [null, ROUNDS]);
        assert(ring.badChains > 0 && ring.badChains < ROUNDS);
        await guest.verify(1);
      }, { disk }));
  }
});

Deno.test("an available ring that changes while it is read", async () => {
  const disk = READ_ONLY;
  const bench = theBench(), { server } = bench;
  await bench.attack(async () => {
    using guest = await HostileGuest.run(server.socket(disk));
    const [{ availableRing, usedRing, size }] = guest.rings;
    const used = { address: usedRing, length: 6 + 8 * size };
    let broken = 0;
    for (let i = 0; i < 20; i++) {
      await race(
        guest,
        [
          // Flags and index; heads; used_event.
          { at: availableRing, values: [0x1_0000, 0x8_0000, 0x40_0001] },
          { at: availableRing + 4, values: [0, 0x3f_0001, ALL_ONES] },
          { at: availableRing + 8, values: [0, 0x3f_0001, ALL_ONES] },
        ],
        async () => {
          for (let j = 0; j < 20; j++) {
            guest.frontEnd.kick(0);
            await guest.verify(1, [...rings(guest), used]);
          }
        },
      );
      const { rings: status } = await server.status(disk);
      if (status.some(({ broken }) => broken !== null)) broken++;
      await guest.restart(0);
    }
    // The index went back, or too far ahead, in some of them at least.
    assert(broken > 0);
    await guest.verify(0);
  }, { disk });
});
