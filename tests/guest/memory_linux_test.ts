/**
 * Memory that is plugged into a Linux guest and unplugged, while its disk
 * works, and memory at high addresses.
 */

import { assertEquals, assertLess } from "@std/assert";
import { skipUnless } from "../support/skip.ts";
import { BusyGuest } from "./busy_guest.ts";
import { plugAndUnplug } from "./dimms.ts";
import {
  holdBuffers,
  KnownPages,
  memoryFiles,
  PAGE,
  releaseBuffers,
  spaceOf,
} from "./guest_memory.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const MIB = 1 << 20, GIB = 1 << 30;

const reason = await prepareOrReason();
const needsGuests = skipUnless(reason === null, reason ?? "");

needsGuests.test(
  "Linux: 32 DIMMs and one of 16 GiB come and go under I/O, some in use",
  () => plugAndUnplug({ small: 32, online: 2, read: 16 * MIB }),
);

needsGuests.test("Linux: 16 GiB, I/O at their end and above 4 GiB", async () => {
  const [read, write, cached, top] = [32 * MIB, 4 * MIB, 16 * MIB, 512 * MIB];
  await using busy = await BusyGuest.start(
    {
      memory: 16 * GIB / MIB,
      sparse: true,
      // The end of memory is for processes, and is taken first.
      append: `movablecore=${top / MIB}M`,
    },
    read + write + cached,
    0,
  );
  const { guest, image } = busy;
  const [memory, ...others] = memoryFiles(guest.qemu);
  assertEquals([memory.size, others], [16 * GIB, []]);
  const pages = await holdBuffers(busy, read, write);
  assertEquals(pages.count, (read + write) / PAGE);
  assertEquals(pages.findIn(memory, 16 * GIB - top).size, pages.count);
  // A block device's cache is not for processes alone. QEMU has the file's
  // first 2 GiB below 4 GiB, what follows above.
  const from = read + write;
  await guest.check(
    `dd if=/dev/vda of=/dev/null bs=1M skip=${from / MIB} count=${
      cached / MIB
    } 2>/dev/null`,
  );
  const more = new KnownPages(
    Deno.readFileSync(image).subarray(from, from + cached),
  );
  assertEquals(more.findIn(memory, 2 * GIB, 16 * GIB - top).size, more.count);
  await releaseBuffers(guest);
  await busy.turn();
  assertLess(spaceOf(memory), GIB);
  assertEquals(await busy.powerOff(), 0);
});
