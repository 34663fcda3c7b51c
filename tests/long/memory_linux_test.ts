import { assertEquals, assertGreater } from "@std/assert";
import { BusyGuest } from "../guest/busy_guest.ts";
import {
  MOST_DIMMS,
  plug,
  plugAndUnplug,
  SMALL,
  unplug,
  use,
  waitForBlocks,
} from "../guest/dimms.ts";
import {
  holdBuffers,
  memoryFiles,
  releaseBuffers,
} from "../guest/guest_memory.ts";
import { prepareOrReason } from "../guest/rig/prepare.ts";
import { waitUntil } from "../support/deadline.ts";
import { skipUnless } from "../support/skip.ts";

const MIB = 1 << 20, GIB = 2 ** 30;

const reason = await prepareOrReason();
const needsGuests = skipUnless(reason === null, reason ?? "");

needsGuests.test(
  "Linux: 512 DIMMs come and go under I/O, as many at a time as QEMU has slots",
  () =>
    plugAndUnplug({
      small: MOST_DIMMS - 1,
      online: 16,
      read: 160 * MIB,
      rounds: 2,
    }),
);

/**
 * Parts of a virtio-mem device. Each takes a slot of vhost-user's, but none of
 * those that DIMMs have. QEMU would make more of them; but each has 1 GiB at
 * least, for which Linux writes 16 MiB of descriptions.
 */
const PARTS = 128;

/** Memory that the guest starts with: room for the descriptions. */
const BOOT = 4 * GIB;

needsGuests.test(
  `Linux: ${PARTS} parts of virtio-mem and ${MOST_DIMMS} DIMMs at once, under I/O`,
  async () => {
    const [read, write] = [64 * MIB, 4 * MIB];
    const most = BOOT + PARTS * GIB + MOST_DIMMS * SMALL;
    await using busy = await BusyGuest.start(
      {
        memory: BOOT / MIB,
        sparse: true,
        append: "memory_hotplug.memmap_on_memory=1",
        devices: [
          "-m",
          `size=${BOOT / MIB}M,slots=${MOST_DIMMS},maxmem=${most / MIB}M`,
          "-object",
          `memory-backend-memfd,id=parts,size=${PARTS}G,share=on,reserve=off`,
          "-device",
          "virtio-mem-pci,id=vm,memdev=parts,block-size=1G,dynamic-memslots=on",
        ],
      },
      read,
      write,
    );
    const { guest } = busy;
    const { qmp } = guest.qemu;
    const regions = async () => (await busy.regions()).length;
    const before = await regions();
    const resize = async (size: number): Promise<void> => {
      const [path, start] = ["/machine/peripheral/vm", await busy.turns()];
      const property = "requested-size";
      await qmp.execute("qom-set", { path, property, value: size });
      await waitUntil(
        async () =>
          await qmp.execute("qom-get", { path, property: "size" }) === size,
        {
          what: `the guest to have ${size / GIB} GiB of virtio-mem`,
          timeout: 300_000,
          interval: 200,
        },
      );
      assertGreater(await busy.turns(), start, "no I/O while parts changed");
    };
    // A part goes as a DIMM does; page by page, it takes two seconds.
    await guest.check(
      "rmmod virtio_mem; insmod /modules/virtio_mem.ko bbm_safe_unplug=0",
    );
    await use(guest, "online_movable");
    await resize(PARTS * GIB);
    // It is plugged before it is online.
    await waitForBlocks(guest, "valid_zones", "Movable", PARTS * GIB / SMALL);
    assertEquals(await regions(), before + PARTS);

    await use(guest, "offline");
    for (let i = 0; i < MOST_DIMMS; i++) await plug(qmp, `${i}`, SMALL);
    await waitForBlocks(guest, "state", "offline", MOST_DIMMS);
    assertEquals(await regions(), before + PARTS + MOST_DIMMS);

    const pages = await holdBuffers(busy, read, write);
    const file = (size: number) =>
      memoryFiles(guest.qemu).filter((file) => file.size === size)[0];
    assertEquals(pages.findIn(file(PARTS * GIB)).size, pages.count);

    await resize(0);
    assertEquals(await regions(), before + MOST_DIMMS);
    assertEquals(pages.findIn(file(BOOT)).size, pages.count);
    for (let i = 0; i < MOST_DIMMS; i++) await unplug(qmp, `${i}`);
    assertEquals(await regions(), before);
    await releaseBuffers(guest);
    assertEquals(await busy.powerOff(), 0);
  },
);
