/**
 * Verified I/O in a guest while the server below it is killed.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import { waitUntil } from "../../support/deadline.ts";
import type { Context } from "./context.ts";
import type { Guest } from "./guest.ts";

/** How often a server is killed. */
export const KILLS = 3;

/**
 * Writes to a disk or a file and reads it back, past every cache, until told to
 * stop.
 */
async function startLoad(
  guest: Guest,
  name: string,
  target: string,
  span: number,
): Promise<void> {
  const { work, system: { digest, direct } } = guest;
  const file = (what: string) => `${work}/${name}-${what}`;
  await guest.check(
    `rm -f ${file("stop")} ${file("end")} ${file("bad")}; ` +
      `echo 0 > ${file("count")}`,
  );
  const dd = (way: string, at: string) =>
    `dd ${way} bs=65536 count=16 ${at} 2>> ${file("log")}`;
  const to = `seek=$((i % ${span} * 16)) conv=notrunc ${direct[1]}`;
  await guest.check(
    `(i=0; while [ ! -e ${file("stop")} ]; do i=$((i+1)); ` +
      `${dd(`if=/dev/urandom of=${file("data")}`, "")}; ` +
      `a=$(${digest} < ${file("data")}); ` +
      dd(`if=${file("data")} of=${target}`, to) +
      ` || echo write $i >> ${file("bad")}; ` +
      (target.startsWith("/dev/") ? "" : "sync; ") +
      `b=$(${
        dd(`if=${target}`, `skip=$((i % ${span} * 16)) ${direct[0]}`)
      } | ` +
      `${digest}); ` +
      `[ "$a" = "$b" ] || echo differs $i >> ${file("bad")}; ` +
      `echo $i > ${file("count")}; done; echo > ${file("end")}) ` +
      "> /dev/null 2>&1 &",
  );
}

/** How often the load went round; 0 while the file is being written. */
async function rounds(guest: Guest, name: string): Promise<number> {
  const printed = await guest.check(
    `cat ${guest.work}/${name}-count 2>/dev/null || true`,
  );
  return Number(/^\d+$/m.exec(printed)?.[0] ?? 0);
}

/**
 * Kills the server of a disk while the guest writes to it and reads what it wrote.
 *
 * @param name a word for the guest's files
 * @param server the device that is killed
 * @param target the disk, or a file on it
 * @param span how many MiB of it are written, again and again
 */
export async function killUnderLoad(
  { guest, bench }: Context,
  name: string,
  server: string,
  target: string,
  span = 8,
): Promise<void> {
  const { work } = guest;
  await startLoad(guest, name, target, span);
  const goesOn = async (beyond: number): Promise<number> => {
    let now = 0;
    await waitUntil(async () => (now = await rounds(guest, name)) > beyond, {
      what: `I/O on "${name}" to go on`,
      timeout: 180_000,
      interval: 200,
    });
    return now;
  };
  let done = await goesOn(1);
  for (let i = 0; i < KILLS; i++) {
    await bench.kill(server);
    done = await goesOn(done + 1);
  }
  await guest.check(`echo > ${work}/${name}-stop`);
  await guest.until(`[ -e ${work}/${name}-end ]`, 120);
  const bad = await guest.check(`cat ${work}/${name}-bad 2>/dev/null || true`);
  assertEquals(bad.match(/^(?:write|differs) \d+$/gm), null, name);
  await guest.check(`rm -f ${work}/${name}-*`);
  assertEquals(await guest.system.complaints(guest), []);
}
