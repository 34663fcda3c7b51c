/**
 * Hostile requests against a served disk: see `bench.ts` for what is asserted
 * after each of them.
 */

import { assertEquals } from "@std/assert";
import { READ_ONLY, useBench, VICTIM } from "./bench.ts";
import { HostileGuest, STATUS } from "./guest.ts";
import { REQUEST_ATTACKS } from "./request_attacks.ts";

const theBench = useBench();

Deno.test("requests that cannot be done are answered with the right status and counted", async (t) => {
  const bench = theBench(), { server } = bench;
  for (const attack of REQUEST_ATTACKS) {
    const disk = attack.readOnly ? READ_ONLY : VICTIM;
    await t.step(attack.name, () =>
      bench.attack(async () => {
        using guest = await HostileGuest.run(server.socket(disk));
        const before = await server.status(disk);
        attack.build(guest);
        guest.strike([0]);
        await guest.used(1);
        const { status, length = 1, refused, permitted = [] } = attack;
        assertEquals(guest.rings[0].usedElement(0), { id: 0, length });
        const { device, rings: [ring] } = await server.status(disk);
        assertEquals([ring.badChains, ring.broken], [0, null]);
        const expected = { ...before.device.requests.refused };
        if (refused !== undefined) {
          expected[refused] = (expected[refused] ?? 0) + 1;
        }
        assertEquals(device.requests.refused, expected);
        assertEquals(device.requests.errors, {});
        const answer = status === null ? [] : [{ address: STATUS, length: 1 }];
        if (status !== null) {
          assertEquals(guest.memory.read(STATUS, 1)[0], status);
        }
        assertEquals(guest.changes([...answer, ...permitted]), []);
        await guest.verify(0);
        await guest.verify(1);
      }, { disk }));
  }
});
