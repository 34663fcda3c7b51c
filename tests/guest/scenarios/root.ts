/**
 * The scenario about the root file system: it is on the served disk, takes what
 * is written, goes on when its server is killed, and has it all after a reboot.
 *
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import type { Context } from "./context.ts";
import { digestOf, random } from "./disk.ts";
import type { Guest } from "./guest.ts";
import { killUnderLoad } from "./load.ts";

/** A folder of the root file system: what is mounted at others hides it. */
const FOLDER = "/scenario";

/** What df(1) says is free, in MiB. */
async function freeMib(guest: Guest): Promise<number> {
  const said = await guest.check("df -k /");
  const [, free] = /\s(-?\d+)\s+\d+%\s+\/$/m.exec(said) ?? [];
  if (free === undefined) throw new Error(`df says nothing of /: ${said}`);
  return Math.max(0, Math.floor(Number(free) / 1024));
}

/** Runs the scenario. */
export async function rootFileSystem(context: Context): Promise<void> {
  const { bench, guest, skip } = context;
  const { system } = guest;
  const server = bench.rootDevice;
  if (server === null) {
    await skip("the root disk", "this kernel brings its own root file system");
    return;
  }
  const served = await system.rootIsServed(guest);
  assert(served !== false, "the root file system is elsewhere");
  const completed = async () =>
    (await bench.status(server)).rings
      .reduce((sum, { completed }) => sum + completed, 0);

  const { status } = await guest.run(`mkdir -p ${FOLDER} 2>/dev/null`);
  if (status !== 0) {
    assert(await completed() > 20, "the root disk was hardly read");
    const reason = "the root file system is read-only";
    await skip("writing to the root disk", reason);
    return;
  }
  const room = await freeMib(guest);
  if (room < 4) {
    const reason = `the root file system has room for ${room} MiB`;
    await skip("writing to the root disk", reason);
    return;
  }
  const size = Math.min(4, Math.floor(room / 4));
  const data = `${FOLDER}/data`;
  const before = await completed();
  await guest.check(random(data, size));
  await guest.check("sync");
  const sum = await digestOf(guest, data);
  // A request takes a megabyte at most.
  const after = await completed();
  const requests = after - before;
  assert(requests >= size, `${requests} requests for ${size} MiB`);

  const span = Math.min(8, Math.floor(room / 2));
  await killUnderLoad(context, "root", server, `${FOLDER}/load`, span);
  assertEquals(await digestOf(guest, data), sum);

  await guest.reboot();
  assert(await system.rootIsServed(guest) !== false, "after the reboot");
  assertEquals(await digestOf(guest, data), sum, "after the reboot");
  await guest.check(`rm -r ${FOLDER}; sync`);
  assertEquals(await system.complaints(guest), []);
}
